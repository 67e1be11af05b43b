# SPDX-License-Identifier: MIT
"""`onestack gdb` in batch mode: the helpers tell of a booted guest what the guest itself tells."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from conftest import TOP, wait_gone

BUILD = TOP / "build/tcb-ist-release"
MACHINE = ["--kernel", str(BUILD / "kernel.elf"), "--initrd", str(TOP / "build/user/init.elf")]
HELPERS = ["--script", str(TOP / "tools/gdb/onestack.py")]
NEXT = "print 424242"  # between the outputs of two commands


def gdb(*commands: str, options: list[str] | None = None) -> list[str]:
    """What each command printed."""
    words = [sys.executable, "-m", "onestack.cli", "gdb", *MACHINE, *HELPERS, "--json"]
    words += options or []
    for command in (NEXT, *(word for one in commands for word in (one, NEXT))):
        words += ["--ex", command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.split(r"\$\d+ = 424242\n", json.loads(done.stdout)["output"])
    assert len(found) == len(commands) + 2, found
    return found[1:-1]


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    """One guest with two cores: at its prompt, then in a system call that the shell makes."""
    commands = [
        *("cores", "tcbs", "endpoints", "caps", "queues"),
        *("type threads", "run-for 1", "console"),
        *("tbreak sys_kernel_info", "type cores", "continue", "core", "tcb", "bt"),
        *("thread 2", "core 1"),
    ]
    said = gdb(*commands, options=["--cores", "2", "--ready", "onestack> "])
    return dict(zip(commands, said, strict=True))


def test_every_core(told: dict[str, str]) -> None:
    found = re.findall(r"^core (\d) at (0x\w+): nest 1, state (\w+)", told["cores"], re.MULTILINE)
    assert [number for number, *_ in found] == ["0", "1"]
    assert "runs nobody: idle" in told["cores"]


def test_threads_are_those_that_the_guest_knows(told: dict[str, str]) -> None:
    assert "name" in told["console"]
    listed = re.findall(r"^ +\d+ +(\d+) +\d+ +(\w+)", told["console"], re.MULTILINE)
    priorities = sorted(int(priority) for priority, _ in listed)
    found = re.findall(r"^(0x\w+) space 0x\w+ core \d priority +(\d+)", told["tcbs"], re.MULTILINE)
    # init serves the list and is not on it
    assert sorted(int(priority) for _, priority in found) == sorted([128, *priorities])
    assert {name for _, name in listed} >= {"console", "shell"}


def test_endpoints_and_who_waits(told: dict[str, str]) -> None:
    """At the prompt console and init receive, and the shell waits for an answer."""
    waiting = re.findall(r"^  receiver (0x\w+)", told["endpoints"], re.MULTILINE)
    states = dict(re.findall(r"^(0x\w+) .*priority +\d+ (\w+)", told["tcbs"], re.MULTILINE))
    assert set(waiting) == {one for one, state in states.items() if state == "receiving"}
    assert sorted(states.values()) == ["receiving", "receiving", "reply"]


def test_tables_of_capabilities(told: dict[str, str]) -> None:
    counts = [int(count) for count in re.findall(r": (\d+) capabilities", told["caps"])]
    rows = re.findall(r"^ +0x\w+ (\w+) +0x\w+ badge 0x\w+ (.*)$", told["caps"], re.MULTILINE)
    assert len(counts) == 3
    assert len(rows) == sum(counts)
    assert {"thread", "space", "endpoint", "memory", "irq", "ioports"} <= {kind for kind, _ in rows}
    for kind, rights in rows:
        own = {right.partition("_")[0] for right in rights.split()} - {"grant", "revoke", "-"}
        assert own <= {{"notification": "notify"}.get(kind, kind)}, (kind, rights)


def test_run_queues(told: dict[str, str]) -> None:
    assert re.search(r"core 0: runs 0x\w+; nobody else is ready", told["queues"])


def test_the_core_in_a_system_call(told: dict[str, str]) -> None:
    assert re.search(r"core \d at 0x\w+: nest 1, state syscall", told["core"])
    assert "sys_kernel_info" in told["bt"].splitlines()[0]
    [running] = re.findall(r"runs (0x\w+) ", told["core"])
    assert told["tcb"].startswith(running)
    assert re.search(r"\bcs 000000000000002b +rflags ", told["tcb"])


def test_another_core(told: dict[str, str]) -> None:
    assert told["core 1"].startswith("core 1 at ")


def test_before_the_kernel_is_there() -> None:
    words = [sys.executable, "-m", "onestack.cli", "gdb", *MACHINE, *HELPERS, "--batch"]
    done = subprocess.run([*words, "--ex", "core"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no core is online yet" in done.stderr or "Cannot access memory" in done.stderr


def test_nothing_is_left_behind() -> None:
    [said] = gdb(
        "python import os; me = os.getppid(); "
        "print(os.environ['ONESTACK_GDB'], open(f'/proc/{me}/task/{me}/children').read())"
    )
    folder, *children = said.split()
    assert len(children) == 2  # gdb and QEMU
    assert all(wait_gone(int(pid)) for pid in children)
    assert not Path(folder).exists()


def test_ctrl_c_stops_the_guest_and_nobody_else() -> None:
    """Not even who has started us: SCons would call the build interrupted."""
    words = [sys.executable, "-m", "onestack.cli", "gdb", *MACHINE, *HELPERS, "--ready", "onestack"]
    starter = f"import subprocess, sys; sys.exit(subprocess.run({words!r}).returncode)"
    terminal = pexpect.spawn(sys.executable, ["-c", starter], encoding="utf-8", timeout=60)
    prompt = r"\(gdb\) "
    terminal.expect(prompt)
    terminal.sendline("continue")
    terminal.expect("Continuing")
    terminal.sendintr()
    terminal.expect("SIGINT")
    terminal.expect(prompt)
    terminal.sendline("core")
    terminal.expect("core 0 at .* state ")
    terminal.expect(prompt)
    terminal.sendline("quit")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
