# SPDX-License-Identifier: MIT
"""How the kernel ends when it must, by faults planted into it; the harness sees it at once."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import at_once, panic_report
from onestack import artefacts
from onestack.cpu import cpu_state
from onestack.elf import Images
from onestack.errors import Failure, GuestError
from onestack.machine import Machine
from onestack.pytest_plugin import GuestOf

pytestmark = pytest.mark.machine(ready="onestack> ")
UD2 = b"\x0f\x0b"
PUSH_FOR_EVER = b"\x50\xeb\xfd"  # 1: push %rax; jmp 1b


@contextmanager
def ready(guest_of: GuestOf) -> Iterator[Machine]:
    """A machine of its own for each of several attempts, at the prompt."""
    with Machine(guest_of({}).spec) as machine:
        machine.console.expect("onestack> ", 30)
        yield machine


def plant(machine: Machine, images: Images, symbol: str, code: bytes) -> None:
    """Write code where a function begins."""
    machine.pause()
    machine.gdb.write(images.resolve(symbol), code)
    machine.resume()


def end_of(machine: Machine) -> GuestError:
    """Type a command, which will not be answered; how the wait for the answer ends."""
    machine.console.send_line("uptime")
    with pytest.raises(GuestError) as caught:
        machine.console.expect("no such thing", 20)
    return caught.value


def test_panic_in_a_system_call(machine: Machine, images: Images, tmp_path: Path) -> None:
    plant(machine, images, "sys_clock", UD2)
    error = end_of(machine)
    assert error.kind is Failure.PANIC
    assert "panic: exception 6" in error.detail
    report = panic_report(machine)
    assert "sys_clock+0x0" in report  # names in the kernel
    assert "syscall_dispatch" in report
    assert re.search(r"core 0 nest \d state \w+ pending", report)
    artefacts.save(machine, tmp_path, images)
    assert "panic: exception 6" in (tmp_path / "console.log").read_text()


@pytest.mark.machine(debug_exit=False)
def test_backtrace_with_lines(machine: Machine, images: Images, tmp_path: Path) -> None:
    """Without the exit port the machine halts after its report, and can be looked into."""
    plant(machine, images, "sys_clock", UD2)
    assert end_of(machine).kind is Failure.PANIC
    artefacts.save(machine, tmp_path, images)
    backtrace = (tmp_path / "backtrace.txt").read_text()
    assert re.search(r"halt_forever|finish|kprintf|uart", backtrace)
    assert re.search(r"at kernel/\S+\.[chS]:\d+", backtrace)
    assert "rip ffffffff81" in (tmp_path / "registers.txt").read_text()


def test_kernel_stack_overflow(machine: Machine, images: Images) -> None:
    """It hits the guard page, and is told from the double fault's own stack."""
    plant(machine, images, "sys_clock", PUSH_FOR_EVER)
    error = end_of(machine)
    assert error.kind is Failure.PANIC
    assert "panic: kernel stack overflow" in error.detail
    assert "sys_clock" in panic_report(machine)


def test_double_fault_that_is_no_overflow(machine: Machine, images: Images) -> None:
    """RSP goes astray: mov $0x1000, %rsp; push."""
    plant(machine, images, "sys_clock", b"\x48\xc7\xc4\x00\x10\x00\x00\x50")
    error = end_of(machine)
    assert error.kind is Failure.PANIC
    assert "panic: double fault" in error.detail


def test_triple_fault(guest_of: GuestOf) -> None:
    """No descriptor table any more: the machine resets, and whoever waits learns it at once."""

    def attempt() -> float:
        with ready(guest_of) as machine:
            machine.pause()
            machine.gdb.write(cpu_state(machine).idt_base, bytes(4096))
            machine.resume()
            error = end_of(machine)
            seen = time.time()
            assert (error.kind, error.detail) == (Failure.RESET, "triple fault")
            [event] = [e for e in machine.qmp.events if e["event"] in ("SHUTDOWN", "RESET")]
            stamp = event["timestamp"]
            return float(seen - (stamp["seconds"] + stamp["microseconds"] / 1e6))

    assert at_once(attempt)


def test_a_panic_is_seen_at_once(guest_of: GuestOf) -> None:
    """From the first line of the report on the host to the failure of the waiting test."""

    def attempt() -> float:
        times: list[float] = []
        with ready(guest_of) as machine:
            receive = machine.console._receive

            def timed() -> str:
                text = receive()
                if "panic: " in machine.console.text and not times:
                    times.append(time.monotonic())
                return text

            machine.console._receive = timed  # type: ignore[method-assign]
            plant(machine, Images.load(*guest_of({}).elfs), "sys_clock", UD2)
            end_of(machine)
            return time.monotonic() - times[0]

    assert at_once(attempt)


def test_a_users_crash_is_no_end(machine: Machine) -> None:
    """A user's crash ends the process alone; the prompt stays."""
    machine.console.send_line("crash kernel-read")
    machine.console.expect(r"fault: crash .*vector 14")
    machine.console.expect("onestack> ")
    machine.console.send_line("uptime")
    machine.console.expect(r"\d+\.\d+ s")
