# SPDX-License-Identifier: MIT
"""One event at one place: it arrives, is counted exactly once, and changes no register.

The guest walks a loop of user/tests/sweep, whose waiter the external NMI wakes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from kernel_state import KernelState

from onestack.cpu import cpu_state, ioapic_vector, lint1_is_nmi
from onestack.elf import Images
from onestack.inject import Injector, Irq, Nmi
from onestack.machine import Machine
from onestack.registers import FLAG_RF, GENERAL, Registers

pytestmark = pytest.mark.machine(append="run=sweep", ready="sweep: ready", memory=64)
EVENT_LINE = 5
FIRST_IRQ, LAST_IRQ = 0x20, 0xFF
SPURIOUS = 0xFF


@dataclass
class Walker:
    """A guest on its walk."""

    machine: Machine
    images: Images
    injector: Injector
    state: KernelState

    def walk(self, name: str, start: str = "") -> None:
        """Begin a walk, and come to its first round."""
        self.machine.console.send_line(name)
        self.machine.console.expect(rf"sweep: {name}\s")
        self.come_to(start or f"sweep_{name}")

    def shared(self) -> tuple[int, int]:
        """NMIs and interrupts that the waiter knows of; its page is in all spaces."""
        pointer = self.machine.gdb.read(self.images.resolve("sweep_shared"), 8)
        raw = self.machine.gdb.read(int.from_bytes(pointer, "little"), 16)
        return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")

    def counted(self) -> tuple[int, int, int]:
        """NMIs taken, NMIs worked on, NMIs that the waiter knows of."""
        core = self.state.core(self.machine)
        return core.nmis, core.nmis_worked, self.shared()[0]

    def come_to(self, place: str) -> Registers:
        """Run until the walk is at a place; nobody is at its check's bad end meanwhile."""
        if self.machine.gdb.running:
            self.machine.pause()
        self.machine.gdb.set_breakpoint(self.images.resolve("sweep_fail"))
        registers = self.injector.stop_at(place)
        assert registers.pc == self.images.resolve(place)
        return registers


@pytest.fixture
def walker(machine: Machine, images: Images, injector: Injector) -> Iterator[Walker]:
    yield Walker(machine, images, injector, KernelState(images.images[0].path, images))
    if machine.alive:
        machine.pause()
        assert machine.gdb.registers().pc != images.resolve("sweep_fail")


def unchanged(before: Registers, after: Registers) -> list[str]:
    changed = after.changed(before, [*GENERAL, "rip", "cs", "ss", "fs_base", "gs_base", "cr3"])
    if (before["eflags"] ^ after["eflags"]) & ~FLAG_RF:
        changed.append("eflags")
    return changed


PLACES = {
    "user": ("spin", "sweep_spin"),
    "kernel, IF=1": ("slow", "syscall_dispatch"),
    "kernel, IF=0": ("null", "fast_null"),
    "SYSCALL's first instruction": ("null", "syscall_entry"),
}


@pytest.mark.parametrize("way", ["msi", "qmp"])
@pytest.mark.parametrize("place", PLACES)
def test_nmi_at_a_place(walker: Walker, place: str, way: str) -> None:
    walk, where = PLACES[place]
    walker.walk(walk)
    struck = walker.come_to(where)
    assert (struck.cpl == 3) == (place == "user")
    assert struck.interrupts == (place in ("user", "kernel, IF=1"))
    before = walker.counted()
    delivery = walker.injector.inject(Nmi(way=way))  # type: ignore[arg-type]
    assert delivery.saved == struck.pc
    # the handler goes back to where it struck; from user mode, after the waiter has run
    assert not unchanged(struck, walker.come_to(where))
    after = walker.counted()
    if place == "user":
        assert after == tuple(n + 1 for n in before)
        return
    assert (after[0], after[1:]) == (before[0] + 1, before[1:])  # only recorded (N3)
    walker.come_to(f"sweep_{walk}_after")
    assert walker.counted() == tuple(n + 1 for n in before)


def test_nmi_in_idle(walker: Walker) -> None:
    """Before the `hlt`, and while it sleeps: the waiter is the first to run."""
    walker.walk("idle", "sweep_nap")
    walker.come_to("idle_check")
    before = walker.counted()
    walker.come_to("idle_hlt")
    delivery = walker.injector.inject(Nmi())
    assert delivery.saved == walker.images.resolve("idle_hlt")
    walker.come_to("sweep_woken")
    for number in (1, 2):
        walker.machine.run_to(walker.images.resolve("sweep_wait"))
        walker.machine.resume()
        while not cpu_state(walker.machine).halted:
            pass
        walker.machine.pause()
        assert walker.counted() == tuple(n + number for n in before)
        delivery = walker.injector.inject(Nmi())
        assert delivery.saved == walker.images.resolve("idle_hlt") + 1
        walker.come_to("sweep_woken")


@pytest.mark.parametrize("walk", ["spin", "slow", "null"])
def test_every_vector_from_32_on(walker: Walker, walk: str) -> None:
    """Nobody has bound them: recorded, acknowledged, forgotten; no register changes."""
    walker.walk(walk)
    place = f"sweep_{walk}" if walk == "spin" else f"sweep_{walk}_after"
    walker.come_to(place)
    for vector in range(FIRST_IRQ, LAST_IRQ + 1):
        struck = walker.machine.gdb.registers()
        before = walker.state.core(walker.machine)
        delivery = walker.injector.inject(Irq(vector))
        assert delivery.saved == struck.pc
        assert not unchanged(struck, walker.come_to(place)), vector
        after = walker.state.core(walker.machine)
        assert after.irqs > before.irqs, vector
        assert not after.pending


def test_an_interrupt_reaches_its_driver(walker: Walker) -> None:
    walker.walk("slow")
    walker.come_to("syscall_dispatch")
    vector = ioapic_vector(walker.machine, EVENT_LINE)
    assert vector is not None
    delivery = walker.injector.inject(Irq(vector))
    assert delivery.saved == walker.images.resolve("syscall_dispatch")
    walker.come_to("sweep_woken")
    assert walker.machine.gdb.registers()["rdx"] == 2


def test_three_frames_deep(walker: Walker) -> None:
    """A call that faults on a bad pointer, an interrupt and an NMI inside that: the call fails
    with its error, the events' work is done, and the depth was what it seems."""
    walker.walk("bad_pointer")
    vector = ioapic_vector(walker.machine, EVENT_LINE)
    assert vector is not None
    walker.come_to("sweep_bad_pointer")
    before, shared = walker.counted(), walker.shared()
    walker.come_to("ktrap_kernel")
    assert walker.state.core(walker.machine).nest == 2
    Irq(vector).fire(walker.machine)  # IF=0: it waits
    walker.injector.inject(Nmi())
    walker.come_to("kist_kernel")
    assert walker.state.core(walker.machine).nest == 3
    registers = walker.come_to("sweep_bad_pointer_after")
    assert registers["rax"] == 2**64 - 5  # E_FAULT
    assert walker.counted() == tuple(n + 1 for n in before)
    assert walker.shared() == tuple(n + 1 for n in shared)
    core = walker.state.core(walker.machine)
    assert (core.nest, core.state, core.pending) == (0, 0, 0)


@pytest.mark.machine(machine="microvm", paused=True)
def test_no_nmi_before_the_tables_are_there(machine: Machine, images: Images) -> None:
    """Where no firmware has opened it, LINT1 stays masked until the core has its IDT and TSS."""
    machine.run_to(images.resolve("core_init"))
    assert not lint1_is_nmi(machine)
    machine.run_to(images.resolve("lapic_init"))
    assert not lint1_is_nmi(machine)
    state = cpu_state(machine)
    assert state.idt_base == images.resolve("idt")
    assert state.task_base == KernelState(images.images[0].path, images).tss_address(0)
    machine.resume()
    machine.console.expect("sweep: ready", 30)
    assert lint1_is_nmi(machine)
