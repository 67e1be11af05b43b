# SPDX-License-Identifier: MIT
"""NMIs between cores: a core that spins with IF=0 is stopped, reported and watched (N7).

`stuck` calls SYS_null on one core; a `jmp .` planted at its fast function, which runs with IF=0,
makes that core spin.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kernel_state import CORE_AREA_SIZE, CORE_AREAS

from onestack.elf import Images
from onestack.machine import Machine
from onestack.structs import Structs

SPIN = b"\xeb\xfe"
SPIN_IN_TURNS = b"\xf3\x90\xeb\xfc"  # with a pause: without one no other core has a turn
# The watchdog goes by the guest's clock. Where that is the host's, a core that gets none of its
# makes no progress; here it is the count of all cores' instructions, 256 ns each, in turns.
IN_TURNS = {"cores": 4, "icount": 8}
WATCHDOG_MS = 100
AT_FAST_NULL = r"  at 0x[0-9a-f]+ fast_null\+0x[02]"
PROMPT = r"onestack> $"


def plant(machine: Machine, images: Images, function: str, code: bytes = SPIN) -> bytes:
    """Write CODE over the beginning of FUNCTION; return what was there."""
    address = images.resolve(function)
    machine.pause()
    before = machine.gdb.read(address, len(code))
    machine.gdb.write(address, code)
    machine.resume()
    return before


@contextmanager
def spinning(machine: Machine, images: Images, code: bytes = SPIN) -> Iterator[None]:
    """The thread's core spins in here, and goes on after it."""
    machine.console.expect_exact("stuck: ready", 40.0)
    before = plant(machine, images, "fast_null", code)
    machine.console.expect_exact("stuck: it is", 40.0)
    yield
    plant(machine, images, "fast_null", before)
    machine.console.expect_exact("stuck: no more", 40.0)


def of_core(report: str, core: int) -> str:
    """The part of a report that is about CORE."""
    found = re.search(
        rf"  core {core} nest .*?(?=  core \d+ nest|panic: |nmi: end|$)", report, re.S
    )
    assert found, report
    return found.group()


@pytest.mark.machine(**IN_TURNS, append=f"watchdog={WATCHDOG_MS} run=stuck 3 0")
def test_watchdog(machine: Machine, images: Images) -> None:
    """Its neighbour sees that it makes no progress, says so once, and where it is stuck."""
    with spinning(machine, images, SPIN_IN_TURNS):
        machine.console.expect(r"watchdog: core (\d) has made no progress .*?watchdog: end", 40.0)
        report = machine.console.after
        assert machine.console.match[1] == "3"
        assert re.search(AT_FAST_NULL, report)
        part = of_core(report, 3)
        assert "nest 1 state syscall" in part
        flags = re.search(r"rflags ([0-9a-f]+) ", part)
        assert flags
        assert not int(flags[1], 16) & 0x200, "it had interrupts on"
    said = machine.console.text.count("watchdog: core")
    with spinning_again(machine, images):
        machine.console.expect(r"watchdog: core 3 .*?watchdog: end", 40.0)
    assert said == 1


@pytest.mark.machine(**IN_TURNS, append="watchdog=100 run=leak 5")
def test_the_watchdog_leaves_busy_and_idle_cores_alone(machine: Machine) -> None:
    machine.console.expect(r"leak: 5 rounds", 180.0)
    assert "watchdog:" not in machine.console.text.partition("\n")[2]


@contextmanager
def spinning_again(machine: Machine, images: Images) -> Iterator[None]:
    """As spinning(), once it has been ready."""
    before = plant(machine, images, "fast_null", SPIN_IN_TURNS)
    machine.console.expect_exact("stuck: it is", 40.0)
    yield
    plant(machine, images, "fast_null", before)
    machine.console.expect_exact("stuck: no more", 40.0)


@pytest.mark.machine(cores=4, append="run=stuck 3 0 dump")
def test_the_nmi_button_shows_every_core(machine: Machine, images: Images) -> None:
    """Also one that spins with IF=0; the others go on."""
    with spinning(machine, images):
        machine.qmp.execute("inject-nmi")
        machine.console.expect(r"nmi: where each core was.*?nmi: end", 40.0)
        report = machine.console.after
        assert "does not answer" not in report
        assert re.search(AT_FAST_NULL, of_core(report, 3))
        for core in range(3):
            assert "nest" in of_core(report, core)


@pytest.mark.machine(cores=2, ready=PROMPT)
def test_a_flood_of_nmis_prints_little(machine: Machine) -> None:
    """Armed from the shell; a thousand in a row are counted, and reported at most once a second."""
    console = machine.console
    machine.qmp.execute("inject-nmi")
    assert "nmi: " not in console.run("echo quiet", PROMPT)
    began = time.monotonic()
    assert "nmi dump: 0" in console.run("nmi dump", PROMPT)
    for _ in range(1000):
        machine.qmp.execute("inject-nmi")
        console.drain()  # the socket takes some hundred bytes, then the kernel's are lost
    console.expect(r"nmi: where each core was.*?nmi: end", 60.0)
    assert "still here" in console.run("echo still here", PROMPT, 60.0)
    most = 2 + time.monotonic() - began  # guest's time is real time here
    assert console.text.count("nmi: where each core was") <= most
    console.run("nmi quiet", PROMPT, 60.0)
    reports = console.text.count("nmi: where each core was")
    machine.qmp.execute("inject-nmi")
    console.run("echo", PROMPT)
    assert console.text.count("nmi: where each core was") == reports


def panic_report(machine: Machine) -> str:
    """Until its end."""
    machine.console.expect(r"panic: .*?panic: end", 60.0)
    return machine.console.after


@pytest.mark.machine(cores=2, append="trace=1 run=stuck 1 0 panic")
def test_a_panic_stops_a_core_that_spins(machine: Machine, images: Images) -> None:
    """It is stopped by NMI whatever its IF says; its place and last events are in the report."""
    with machine.console.failure_expected():
        machine.console.expect_exact("stuck: ready", 40.0)
        plant(machine, images, "fast_null")
        report = panic_report(machine)
    assert "user mode asked for it" in report
    assert "panic: meanwhile on core 1" in report
    other = report.partition("panic: meanwhile on core 1")[2]
    assert re.search(AT_FAST_NULL, other)
    assert "sys_panic+" in report
    for core, last in ((0, "syscall 51"), (1, "syscall 0")):
        events = re.findall(rf"trace core {core}: \d+ ns ago (\w+ \d+)", report)
        assert len(events) == 8
        assert last in events


@pytest.mark.machine(cores=2, append="run=stuck 1 0 panic")
def test_nobody_writes_into_a_panic(machine: Machine, images: Images) -> None:
    """All others have stopped before its first word: any of them may be telling of something."""
    number = Structs(images.images[0].path).offset("core", "snapshot.number")
    with machine.console.failure_expected():
        machine.console.expect_exact("stuck: ready", 40.0)
        plant(machine, images, "fast_null")
        machine.run_to(images.resolve("kvprintf"), 40.0, cpu=0)
        wanted = machine.gdb.read(images.resolve("stop_number"), 4)
        # Not where it is: it may have some instructions to go from its answer to its halt.
        answered = machine.gdb.read(CORE_AREAS + CORE_AREA_SIZE + number, 4)
        machine.resume()
        report = panic_report(machine)
    assert answered == wanted != bytes(4)
    assert re.search(r"panic: meanwhile on core 1\s+core 1 nest", report)


@pytest.mark.machine(cores=2, append="run=stuck 0 1 panic")
def test_a_panic_on_core_1_stops_core_0(machine: Machine, images: Images) -> None:
    with machine.console.failure_expected():
        machine.console.expect_exact("stuck: ready", 40.0)
        plant(machine, images, "fast_null")
        report = panic_report(machine)
    assert re.search(r"core 1 nest 1 state syscall", report)
    assert re.search(AT_FAST_NULL, report.partition("panic: meanwhile on core 0")[2])


@pytest.mark.machine(cores=3, append="run=stuck 2 0 panic")
def test_a_panic_does_not_wait_for_ever(machine: Machine, images: Images) -> None:
    """Of cores that hang in their NMI handler it says that, and ends."""
    with machine.console.failure_expected():
        machine.console.expect_exact("stuck: ready", 40.0)
        plant(machine, images, "snapshot_take")
        plant(machine, images, "fast_null")
        report = panic_report(machine)
    for core in (1, 2):
        assert f"core {core} does not answer an NMI" in report
