# SPDX-License-Identifier: MIT
"""The plugin that infers IF: agrees with the CPU's own, finds what is planted and where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from abi import SLOT
from figures import TARGETS, UNBOUND, spec
from kernel_windows import watcher

from onestack.elf import Images
from onestack.gdbstub import Step
from onestack.inject import Injector, Irq, Nmi
from onestack.machine import Machine
from onestack.patch import PatchFault
from onestack.windows import Kind, Watcher, Windows

STI = b"\xfb"
SIZE = 200  # instructions of the planted window


@dataclass
class Watched:
    """A guest whose user program makes one call after the other, and the plugin's findings."""

    machine: Machine
    images: Images
    watcher: Watcher

    @property
    def injector(self) -> Injector:
        return Injector(self.machine, self.images)

    def syscall_in(self, function: str) -> int:
        """The one `syscall` instruction of a user function."""
        where = self.images.range_of(function)
        code = self.images.images[1].disassemble(where.start, where.stop)
        return next(i.address for i in code if i.mnemonic == "syscall")

    def step_home(self) -> list[tuple[int, int]]:
        """Step to user mode; each window's first instruction and length, by the CPU's own IF.

        After `sti` the CPU says IF=1, but takes no interrupt before the next instruction either.
        """
        gdb = self.machine.gdb
        gdb.set_step_mode(Step.HOLD_ALL)
        windows: list[tuple[int, int]] = []
        on = shadow = True
        while True:
            registers = gdb.registers()
            if not registers["cs"] & 3:
                if not registers.interrupts and on:
                    windows.append((registers.pc, 0))
                on = registers.interrupts
                if not on or shadow:
                    windows[-1] = (windows[-1][0], windows[-1][1] + 1)
                shadow = not on and gdb.read(registers.pc, 1) == STI
            elif windows:
                return windows
            else:
                shadow = False
            gdb.step()

    def windows_until(self, place: str) -> dict[int, int]:
        """The longest by their first instruction, from here until one after `place`."""
        self.machine.gdb.step()
        self.watcher.forget()
        self.injector.stop_at(place, 60.0)
        self.machine.gdb.step()
        found = self.watcher.windows()
        assert found.contradictions == 0
        return {p.first: p.longest for p in reversed(found.of(Kind.WINDOW))}

    def agrees(self, stepped: list[tuple[int, int]]) -> Windows:
        """Check that the plugin saw the same windows, in number and length."""
        found = self.watcher.windows()
        seen = {(p.first, p.longest): p.count for p in found.of(Kind.WINDOW)}
        expected = {window: stepped.count(window) for window in stepped}
        named = {f"{self.images.name(first)}: {n}" for first, n in seen.keys() ^ expected.keys()}
        assert seen == expected, named
        return found


@contextmanager
def watching(folder: Path) -> Iterator[Watched]:
    measured = spec("tcb", ["notify", "faults"])
    assert measured.kernel is not None
    bench = measured.kernel.parents[1] / "user/bench.elf"
    plugin = watcher(measured.kernel, folder)
    with Machine(replace(measured, args=plugin.arguments)) as machine:
        yield Watched(machine, Images.load(measured.kernel, bench), plugin)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watching(tmp_path_factory.mktemp("plugin")) as watched:
        yield watched


@pytest.mark.parametrize("function", ["timed_syscall", "timed_loop", "timed_int3"])
def test_a_path_has_the_windows_that_stepping_sees(watched: Watched, function: str) -> None:
    """A fast call, a slow one that waits (and what it makes way for), an exception."""
    fault = watched.images.resolve("timed_int3")
    start = watched.syscall_in(function) if function != "timed_int3" else fault
    watched.injector.stop_at(start, 60.0)
    watched.machine.gdb.step()
    watched.watcher.forget()
    stepped = watched.step_home()
    watched.machine.gdb.step()  # user code: the plugin learns that the last window is over
    assert watched.agrees(stepped).contradictions == 0


@pytest.mark.parametrize("place", ["timed_int3", "syscall_dispatch"])
def test_an_interrupt_has_the_windows_that_stepping_sees(watched: Watched, place: str) -> None:
    """Of user code, and of the kernel with IF=1."""
    watched.injector.stop_at(place, 60.0)
    if place != "timed_int3":
        watched.machine.gdb.step()  # the window before it is over
    watched.watcher.forget()
    watched.injector.inject(Irq(UNBOUND))
    stepped = watched.step_home()
    watched.machine.gdb.step()
    found = watched.agrees(stepped)
    assert (found.interrupts, found.contradictions) == (1, 0)
    [record] = found.of(Kind.RECORD)
    assert record.first == watched.images.resolve(f"vector_{UNBOUND}")


@pytest.mark.parametrize("place", ["timed_int3", "syscall_dispatch", "exit_iret_check+0x5"])
def test_an_nmi_does_not_count(watched: Watched, place: str) -> None:
    """Whatever it strikes: user code, the kernel, an exit that it sends back to its check."""
    watched.injector.stop_at("timed_int3", 60.0)
    usual = watched.windows_until("timed_int3")
    watched.injector.stop_at(place, 60.0)
    watched.injector.inject(Nmi())
    struck = watched.windows_until("timed_int3")
    assert watched.images.resolve("exit_iret_check") in struck
    assert struck.items() <= usual.items()


def test_a_handle_beyond_the_table(tmp_path: Path) -> None:
    """Its look-up faults with IF=0 (ADR 130), and is no longer than any window may be.

    In a guest of its own, which ends with it.
    """
    with watching(tmp_path) as watched:
        watched.injector.stop_at(watched.syscall_in("timed_syscall"), 60.0)
        watched.machine.gdb.write_register("rsi", 1 << 32 | 0xFFFFF * SLOT)
        watched.machine.gdb.step()
        watched.watcher.forget()
        stepped = watched.step_home()
        watched.machine.gdb.step()
        assert watched.agrees(stepped).contradictions == 0
        assert stepped[0][0] == watched.images.resolve("syscall_entry")
        assert TARGETS["if_off.longest"] >= stepped[0][1] > 60, "a fault is in there"


def test_a_planted_window_is_found_and_located(tmp_path: Path) -> None:
    measured = spec("tcb", ["calls"])
    assert measured.kernel is not None
    plugin = watcher(measured.kernel, tmp_path)
    images = Images.load(measured.kernel, measured.kernel.parents[1] / "user/bench.elf")
    code = images.images[0].disassemble(*_bounds(images, "sys_clock"))
    rounds = (SIZE - 4) // 2
    long = b"\xfa\x90\xb9" + rounds.to_bytes(4, "little")  # cli; nop; mov $rounds, %ecx
    long += b"\xff\xc9\x75\xfc\xfb\x90\x31\xc0\xc3"  # 1: dec %ecx; jnz 1b; sti; nop; xor; ret
    fault = PatchFault("cli", "sys_clock", long, length=code[-1].end - code[0].address)
    with Machine(replace(measured, args=plugin.arguments)) as machine:
        Injector(machine, images).stop_at("timed_syscall", 60.0)
        fault.apply(machine, images)
        machine.resume()
        machine.console.expect("bench: end", 60.0)
        machine.pause()
        longest = plugin.windows().longest(Kind.WINDOW)
    assert longest.longest == SIZE
    assert images.name(longest.first) == "sys_clock+0x1"
    assert images.name(longest.path) == "sys_clock"
    assert code[0].address < longest.last < code[-1].end


def _bounds(images: Images, function: str) -> tuple[int, int]:
    where = images.range_of(function)
    return where.start, where.stop
