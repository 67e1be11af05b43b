# SPDX-License-Identifier: MIT
"""Machine checks: recorded wherever they strike, fatal ones the kernel's end, the others told to
the shell and to the process that they concern."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from kernel_state import KernelState
from nested import Nest, differences

from conftest import panic_report
from onestack.elf import Images
from onestack.errors import Failure, GuestError
from onestack.inject import MC_STATUS, Injector, MachineCheck, Nmi
from onestack.machine import Machine

pytestmark = pytest.mark.machine(
    append="run=sweep", ready="sweep: ready", memory=64, icount=0, sleep=True, snapshots=True,
    debug_exit=False, shared=True,
)  # fmt: skip

CORRUPT, ACTION, OVERFLOW = 1 << 57, 1 << 55, 1 << 62
RESTARTABLE, HERE, IN_PROGRESS = 1, 2, 4  # MCG_STATUS: RIPV, EIPV, MCIP
LOG = 16  # MCHECK_LOG
OPTIONAL = MachineCheck()
REQUIRED = MachineCheck(status=MC_STATUS | ACTION, global_status=RESTARTABLE | HERE | IN_PROGRESS)
LOST = MachineCheck(global_status=IN_PROGRESS)


@dataclass(frozen=True)
class Place:
    """Where it strikes: the walk, a label on it, and where the walk is whole again."""

    walk: str
    where: str
    after: str
    in_nmi: bool = False


PLACES = {
    "user": Place("spin", "sweep_spin", "sweep_spin"),
    "kernel, IF=1": Place("slow", "syscall_dispatch", "sweep_slow_after"),
    "kernel, IF=0": Place("null", "fast_null", "sweep_null_after"),
    "SYSCALL's first instruction": Place("null", "syscall_entry", "sweep_null_after"),
    "an exit's last instruction": Place("null", "exit_sysret_leave", "sweep_null_after"),
    "idle": Place("sleep", "idle_hlt", "sweep_sleep_after"),
    "NMI from user mode": Place("spin", "sweep_spin", "sweep_spin", in_nmi=True),
    "NMI in the kernel": Place("null", "fast_null", "sweep_null_after", in_nmi=True),
}


@pytest.fixture
def nest(machine: Machine, images: Images, injector: Injector) -> Iterator[Nest]:
    yield Nest(machine, images, KernelState(images.images[0].path, images), injector)
    machine.gdb.change_breakpoints(set())


def go_to(nest: Nest, place: Place) -> None:
    """Be there."""
    nest.start(place.walk, place.where)
    if place.in_nmi:
        Nmi().fire(nest.machine)
        nest.arrive(2)
        nest.come_to("ist_user" if place.walk == "spin" else "kist_kernel")


def counts(nest: Nest) -> tuple[int, int]:
    """Banks recorded and worked on."""
    core = nest.state.core(nest.machine)
    return core.mchecks, core.mchecks_worked


def mapped(nest: Nest, symbol: str) -> int:
    """The physical address of a symbol of the user program's."""
    answer = nest.machine.qmp.hmp(f"gva2gpa {nest.address(symbol):#x}")
    found = re.search(r"gpa: 0x([0-9a-f]+)", answer)
    assert found, answer
    return int(found[1], 16)


def panic_of(nest: Nest) -> str:
    """Let it run into its end; what the console says of it from here on."""
    nest.machine.console.drain()
    before = len(nest.machine.console.text)
    nest.machine.resume()
    with pytest.raises(GuestError) as caught:
        nest.machine.console.expect("no such thing", 10)
    assert caught.value.kind is Failure.PANIC, caught.value
    return panic_report(nest.machine, before)


# ---- recorded


@pytest.mark.parametrize("place", PLACES)
def test_recorded_and_worked_on(nest: Nest, place: str) -> None:
    """The walk goes on as if nothing had been; the record is worked on at the next exit."""
    there = PLACES[place]
    go_to(nest, there)
    before, struck = counts(nest), nest.machine.gdb.registers()
    OPTIONAL.fire(nest.machine)
    nest.arrive(18)
    registers = nest.come_to(there.after)
    if place == "user":
        assert not differences(struck, registers)
    assert counts(nest) == (before[0] + 1, before[1] + 1)
    core = nest.state.core(nest.machine)
    assert (core.nest, core.state, core.pending) == (0, 0, 0)


def test_what_finds_no_room_is_counted(nest: Nest) -> None:
    """In one system call, so that nobody works on them meanwhile."""
    struck = nest.start("null", "fast_null")
    for _ in range(LOG + 4):
        OPTIONAL.fire(nest.machine)
        nest.arrive(18)
        assert not differences(struck, nest.come_to(struck.pc))
    assert counts(nest) == (LOG, 0)
    offset = nest.state.structs.offset("core", "mcheck")
    log = int.from_bytes(nest.machine.gdb.read(nest.state.core_address(0) + offset, 8), "little")
    assert int.from_bytes(nest.machine.gdb.read(log + 16, 8), "little") == 4
    nest.come_to("sweep_null_after")
    assert counts(nest) == (LOG, LOG)


# ---- fatal


@pytest.mark.parametrize("place", PLACES)
def test_a_corrupt_context_is_the_end(nest: Nest, place: str) -> None:
    go_to(nest, PLACES[place])
    event = replace(OPTIONAL, status=MC_STATUS | CORRUPT, address=0x5678)
    event.fire(nest.machine)
    said = panic_of(nest)
    assert f"machine check, core 0 bank 1 status {event.status:x} address 5678 misc 8c" in said
    assert "panic: fatal machine check, global status 5" in said


@pytest.mark.parametrize("event", ["REQUIRED", "LOST"])
@pytest.mark.parametrize("place", ["kernel, IF=1", "idle", "NMI in the kernel"])
def test_the_kernel_does_not_go_on_with_what_is_broken(nest: Nest, place: str, event: str) -> None:
    """It has used it, or RIP is not known."""
    go_to(nest, PLACES[place])
    {"REQUIRED": REQUIRED, "LOST": LOST}[event].fire(nest.machine)
    assert "panic: fatal machine check" in panic_of(nest)


# ---- told to the process


def ended(nest: Nest) -> None:
    """The program ends, and with it the machine."""
    nest.machine.console.expect("init: sweep ended with 146", 10)
    with pytest.raises(GuestError) as caught:
        nest.machine.console.expect("no such thing", 10)
    assert caught.value.kind is not Failure.PANIC


def test_a_thread_that_has_used_it_ends(nest: Nest) -> None:
    nest.start("spin", "sweep_spin")
    place = nest.address("sweep_spin")
    event = replace(REQUIRED, address=mapped(nest, "sweep_spin"))
    event.fire(nest.machine)
    nest.machine.resume()
    nest.machine.console.expect(
        rf"fault: sweep \(process \d+\): machine check, status 0x{event.status:x}, "
        rf"address 0x{place:x}, rip 0x{place:x}\s",
        10,
    )
    ended(nest)


def test_a_thread_that_cannot_go_on_ends(nest: Nest) -> None:
    """RIP is not known, nor whose the address is: the thread ends, the kernel does not."""
    nest.start("spin", "sweep_spin")
    LOST.fire(nest.machine)
    nest.machine.resume()
    nest.machine.console.expect(r"machine check, status \S+, address 0x0, rip \S+\s", 10)
    ended(nest)


@pytest.mark.parametrize("place", ["user", "kernel, IF=1", "kernel, IF=0", "NMI in the kernel"])
def test_a_process_hears_of_its_memory(nest: Nest, place: str) -> None:
    """Nobody has used it yet: the process is told, and goes on."""
    go_to(nest, PLACES[place])
    address = nest.address("sweep_shared")
    replace(OPTIONAL, address=mapped(nest, "sweep_shared")).fire(nest.machine)
    nest.machine.console.drain()
    before = len(nest.machine.console.text)
    nest.come_to(PLACES[place].after)
    nest.machine.resume()
    nest.machine.console.expect(
        rf"fault: sweep \S+ \d+\): machine check, status \S+ address 0x{address:x}, .*goes on",
        10,
    )
    nest.machine.pause()
    nest.come_to(PLACES[place].after)
    assert nest.machine.console.text[before:].count("fault: ") == 1


def test_others_memory_is_no_fault_of_the_process(nest: Nest) -> None:
    nest.start("spin", "sweep_spin")
    nest.machine.console.drain()
    before = len(nest.machine.console.text)
    OPTIONAL.fire(nest.machine)
    nest.come_to("sweep_spin")
    nest.machine.resume()
    nest.machine.console.expect(r"machine check, core 0 bank 1 status \S+ address 1234", 10)
    nest.machine.pause()
    nest.come_to("sweep_spin")
    assert "fault: " not in nest.machine.console.text[before:]


# ---- the shell, and two cores


@pytest.mark.machine(append="", ready="onestack> ", cores=2, icount=None, sleep=False)
def test_the_shell_tells_and_both_cores_hear_a_broadcast(machine: Machine) -> None:
    """The other core's own bank says nothing but that it is valid and uncorrected."""
    none = ["core 0: 0 machine checks", "core 1: 0 machine checks"]
    assert machine.console.run("mce", "onestack> ").splitlines() == none
    machine.pause()
    machine.qmp.hmp("mce -b 0 1 0xbd00000000000134 5 0x1234 0x8c")
    machine.resume()
    wanted = r"machine check, core {} bank 1 status \S+ address {} "
    both = [wanted.format(0, 1234), wanted.format(1, 0)]
    machine.console.expect(rf"({both[0]}(.|\n)*{both[1]}|{both[1]}(.|\n)*{both[0]})", 10)
    lines = machine.console.run("mce", "onestack> ").splitlines()
    told = "machine checks, the last: status"
    assert f"core 0: 1 {told} 0xbd00000000000134, physical address 0x1234" in lines
    assert any(line.startswith(f"core 1: 1 {told} 0xa") for line in lines)


@pytest.mark.machine(append="", ready="onestack> ", cores=2, icount=None, sleep=False)
def test_of_a_fatal_broadcast_one_core_speaks(machine: Machine) -> None:
    machine.pause()
    machine.qmp.hmp("mce -b 0 1 0xbf00000000000134 4 0x1234 0x8c")
    machine.resume()
    with pytest.raises(GuestError) as caught:
        machine.console.expect("no such thing", 10)
    assert caught.value.kind is Failure.PANIC
    machine.console.drain()
    assert machine.console.text.count("panic: fatal machine check") == 1
