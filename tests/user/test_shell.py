# SPDX-License-Identifier: MIT
"""The shell, the console's line editing, and the ways to end the machine."""

from __future__ import annotations

import re

import pytest

from conftest import panic_report
from onestack.errors import Failure, GuestError
from onestack.machine import Machine

PROMPT = "onestack> "
pytestmark = pytest.mark.machine(ready=PROMPT, shared=True)


def names(machine: Machine) -> list[str]:
    return [row.split()[-1] for row in machine.console.run("ps", PROMPT).splitlines()[1:]]


def test_help_lists_what_there_is(machine: Machine) -> None:
    said = machine.console.run("help", PROMPT)
    listed = {line.split()[0] for line in said.splitlines()}
    assert {"cores", "crash", "free", "help", "kill", "nmi", "poweroff", "ps", "run"} <= listed
    assert "no such command" in machine.console.run("nonsense", PROMPT)


def test_line_editing(machine: Machine) -> None:
    assert machine.console.run("echo  one   two", PROMPT) == "one two"
    machine.console.send_line("wrong\x15ecko\x7f\x7fho x yy\x17z")
    machine.console.expect(PROMPT)
    assert machine.console.before.replace("\r", "").endswith("\nx z\n")
    machine.console.send("half a line\x03")
    machine.console.expect(PROMPT)


def test_type_ahead_is_kept(machine: Machine) -> None:
    """Typed in one go, while a program runs that does not read."""
    lines = ["run exceptions", *(f"echo line {number}" for number in range(20))]
    machine.console.send("\r".join([*lines, ""]))
    for number in range(20):
        machine.console.expect(rf"{PROMPT}line {number}\r?\n", 30.0)
    machine.console.expect(PROMPT)


def test_a_long_line_is_cut(machine: Machine) -> None:
    assert machine.console.run("echo " + "x" * 1500, PROMPT).endswith("\n" + "x" * 1019)


def test_programs_come_and_go_without_a_trace(machine: Machine) -> None:
    """What a process took is free again, and its number is not used twice."""

    def free() -> int:
        found = re.match(r"(\d+) KiB free", machine.console.run("free", PROMPT))
        assert found
        return int(found[1])

    machine.console.run("crash int3", PROMPT)
    before = free()
    for _ in range(40):  # more than init has rows
        assert "ended with 131" in machine.console.run("crash int3", PROMPT)
    assert free() == before
    assert names(machine) == ["console", "shell"]


def test_run_knows_what_there_is(machine: Machine) -> None:
    assert "nonsense: no such program" in machine.console.run("run nonsense", PROMPT)
    programs = machine.console.run("run", PROMPT).split()
    assert {"shell", "console", "regs", "crash"} <= set(programs)
    assert len(programs) == len(set(programs))


def test_a_program_in_the_background_is_ended_by_kill(machine: Machine) -> None:
    machine.console.send_line("run busy 1000 &")
    machine.console.expect(r"busy is process (\d+)\s")
    number = machine.console.match[1]
    machine.console.expect(
        rf"busy: ready.*{PROMPT}|{PROMPT}.*busy: ready\r?\n"
    )  # nobody waits for it
    assert names(machine) == ["console", "shell", "busy"]
    assert machine.console.run(f"kill {number}", PROMPT) == ""
    assert names(machine) == ["console", "shell"]
    assert machine.console.run(f"kill {number}", PROMPT) == ""  # it has ended: what was wished
    assert "no such process" in machine.console.run("kill 100000", PROMPT)
    assert "usage" in machine.console.run("kill all", PROMPT)


def test_only_who_started_a_process_may_end_it(machine: Machine) -> None:
    assert "not started from here" in machine.console.run("kill 2", PROMPT)  # the console
    assert names(machine) == ["console", "shell"]


def ends_with(machine: Machine, line: str) -> GuestError:
    machine.console.send_line(line)
    with pytest.raises(GuestError) as ended:
        machine.console.expect("never", 10.0)
    return ended.value


@pytest.mark.machine(shared=False)
def test_poweroff(machine: Machine) -> None:
    error = ends_with(machine, "poweroff")
    assert (error.kind, error.status) == (Failure.EXITED, 33)


@pytest.mark.machine(shared=False, debug_exit=False)
def test_poweroff_without_the_debug_device(machine: Machine) -> None:
    assert ends_with(machine, "poweroff").kind in (Failure.RESET, Failure.EXITED)
    assert "E_DEAD" not in machine.console.text


@pytest.mark.machine(shared=False)
def test_panic(machine: Machine) -> None:
    error = ends_with(machine, "panic")
    assert error.kind is Failure.PANIC
    assert "user mode asked for it" in str(error)
    assert "sys_panic+" in panic_report(machine)


def test_cores_tells_what_each_core_does(machine: Machine) -> None:
    _, row = machine.console.run("cores", PROMPT).splitlines()
    core, nest, state, irqs, nested, nmis, worked, *others = row.split()
    assert (core, nest, state) == ("0", "1", "syscall")  # as it is while it is asked
    assert int(irqs) >= int(nested)
    assert (nmis, worked) == ("0", "0")
    assert others[:3] == ["0", "0", "0"]  # mail, arrivals, shootdowns: there is no other core


@pytest.mark.machine(shared=False)
def test_reboot(machine: Machine) -> None:
    assert ends_with(machine, "reboot").kind is Failure.RESET


@pytest.mark.machine(append="run=nonsense", ready="", shared=False)
def test_a_first_program_that_is_not_there(machine: Machine) -> None:
    machine.console.expect("init: cannot start nonsense: E_INVAL")
    with pytest.raises(GuestError) as ended:
        machine.console.expect("never", 10.0)
    assert ended.value.status == 39
