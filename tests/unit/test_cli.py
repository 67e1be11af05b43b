# SPDX-License-Identifier: MIT
"""The command line: results, exit codes, errors of one line, nothing left behind."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import TOP, TOY, wait_gone
from onestack import cli, kernelfile
from onestack.commands.common import (
    ENVIRONMENT,
    EXIT_CODES,
    FOUND,
    INCOMPLETE,
    INTERRUPTED,
    OK,
    USAGE,
    Command,
)
from onestack.errors import UsageError
from onestack.results import merge
from onestack.sweep import Cell, Sweeper

TOML = TOP / "tests/foreign/toy.toml"


def onestack(
    *words: object,
    env: dict[str, str] | None = None,
    text: str | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onestack.cli", *map(str, words)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=env,
        input=text,
        cwd=cwd,
    )


def on_terminal(*words: object) -> str:
    """What a command shows on a terminal that is its standard error, without its colours."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "onestack.cli", *map(str, words)]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    shown = b""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=slave, env=env):
        os.close(slave)
        with contextlib.suppress(OSError):  # the terminal's other end has gone
            while piece := os.read(master, 65536):
                shown += piece
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode("utf-8", "replace")


# ---- help and errors


@pytest.mark.parametrize("command", [command.name for command in cli.COMMANDS])
def test_every_command_has_help_with_example_and_exit_codes(command: str) -> None:
    done = onestack(command, "--help")
    assert done.returncode == 0
    assert "example:\n  onestack " + command in done.stdout
    assert "exit codes:" in done.stdout
    assert "--json" in done.stdout


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_every_example_is_a_command_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to where it would run."""
    ran: list[argparse.Namespace] = []

    def run(options: argparse.Namespace) -> int:
        ran.append(options)
        return OK

    monkeypatch.setattr(cli, "COMMANDS", (replace(command, run=run),))
    examples = command.example.replace("\\\n", " ").splitlines()
    for example in examples:
        words = shlex.split(example.partition(" < ")[0])
        assert words[:2] == ["onestack", command.name]
        assert cli.main(words[1:]) == OK
    assert len(ran) == len(examples)


# What each command is asked for as JSON, in a folder of its own.
AS_JSON: dict[str, tuple[object, ...]] = {
    "boot": (TOML, "--expect", "toy: ready"),
    "init": (TOY, "--memory", 32, "--defaults", "-o", "made.toml"),
    "inject": (TOML, "--at", "syscall_entry+0x15"),
    "sweep": (TOML, "--path", "null", "--event", "irq", "--limit", 1, "-j", 1, "-o", "sweep.json"),
    "step": (TOML, "--at", "user_null"),
    "trace": (TOML, "--run", 0),
    "gdb": (TOML, "--batch", "--ex", "info registers rip"),
    "bench": (TOML, "--from", "user_null", "--to", "user_null_after", "-o", "bench.json"),
    "symbolize": (TOY, "-a", "syscall_entry"),
    "check": (TOY, "--stack-size", "0x1000"),
    "report": ("sweep.json", "-o", "sweep.html"),
}


@pytest.mark.parametrize("command", [command.name for command in cli.COMMANDS])
def test_every_command_says_its_result_as_json(command: str, tmp_path: Path) -> None:
    if command == "report":
        onestack("sweep", *AS_JSON["sweep"], cwd=tmp_path)
    done = onestack(command, *AS_JSON[command], "--json", cwd=tmp_path)
    if command == "trace":  # the toy keeps none
        assert "the kernel has no trace_rings" in one_line(done, INCOMPLETE)
        return
    assert json.loads(done.stdout)
    assert done.stderr == ""
    assert done.returncode == (FOUND if command == "check" else OK)


def test_exit_codes_are_documented() -> None:
    text = (TOP / "docs/harness.md").read_text()
    for code, meaning in re.findall(r"^  (\d+) +(.*)$", EXIT_CODES, re.MULTILINE):
        assert re.search(
            rf"^\| {code} \| {re.escape(meaning.partition(';')[0])}", text, re.MULTILINE
        )


def test_top_help_lists_the_commands() -> None:
    done = onestack("--help")
    for command in cli.COMMANDS:
        assert command.name in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "required: COMMAND. See onestack --help"),
        (("swep",), "invalid choice: 'swep' (choose from 'boot'"),
        (("check",), "required: ELF, --stack-size. See onestack check --help"),
        (("sweep", TOML, "--limit", -3), "'-3' is no count. See onestack sweep --help"),
    ],
)
def test_a_wrong_command_line(words: tuple[object, ...], said: str) -> None:
    assert said in one_line(onestack(*words), USAGE)


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("onestack: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_no_kernel() -> None:
    assert "Give a kernel file" in one_line(onestack("boot"), USAGE)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("boot", TOML, "--expect", "("), "'(' is no regular expression: missing )"),
        (("boot", "--kernel", TOY, "--memory", 0), "memory=0 is no number of MiB"),
        (("bench", TOML), "has no [bench]. Give --from and --to"),
        (("inject", TOML, "--at", "user_null", "--cpu", 3), "no CPU 3. There are 1, from 0 on"),
        (("inject", TOML, "--at", "user_nul"), "Did you mean user_null"),
        (("sweep", "nowhere.toml"), "cannot read nowhere.toml"),
        (("gdb", "--kernel", TOY, "-x", "nowhere"), "no such file: nowhere"),
    ],
)
def test_what_makes_no_sense(words: tuple[object, ...], said: str) -> None:
    assert said in one_line(onestack(*words), USAGE)


def test_an_oracle_of_ones_own_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import nothing_of_this_name\n")
    file = tmp_path / "k.toml"
    file.write_text(f"[machine]\nkernel = '{TOY}'\n[oracle]\npython = 'mine.py:make'\n")
    said = one_line(onestack("sweep", file), USAGE)
    assert "mine.py: ModuleNotFoundError: No module named 'nothing_of_this_name'" in said


def test_missing_kernel() -> None:
    assert "no such kernel: /nowhere" in one_line(onestack("boot", "--kernel", "/nowhere"), USAGE)


def test_no_qemu() -> None:
    done = onestack("boot", "--kernel", TOY, "--expect", "x", env={"PATH": "/nowhere"})
    assert "Install the package qemu-system-x86" in one_line(done, ENVIRONMENT)


def test_qemu_that_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "qemu-system-x86_64"
    old.write_text("#!/bin/sh\necho QEMU emulator version 6.2.0\n")
    old.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for words in (("--expect", "x"), ()):
        done = onestack("boot", "--kernel", TOY, *words, env=env)
        said = one_line(done, ENVIRONMENT)
        assert "version 6.2.0 of QEMU is too old. 7.2 or later is needed" in said


def test_no_gdb(tmp_path: Path) -> None:
    (tmp_path / "qemu-system-x86_64").symlink_to("/usr/bin/qemu-system-x86_64")
    done = onestack("gdb", "--kernel", TOY, env={"PATH": str(tmp_path)})
    assert "no gdb. Install the package gdb" in one_line(done, ENVIRONMENT)


def test_socket_in_use(tmp_path: Path) -> None:
    path = tmp_path / "gdb"
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(path))
        taken.listen()
        done = onestack("boot", "--kernel", TOY, "--gdb", path)
        assert f"socket {path} is in use. Give another one" in one_line(done, ENVIRONMENT)


def test_qemu_that_does_not_start() -> None:
    done = onestack("boot", "--kernel", TOY, "--cpu", "no-such", "--expect", "x")
    assert "QEMU did not start: " in one_line(done, ENVIRONMENT)
    done = onestack("gdb", "--kernel", TOY, "--cpu", "no-such", "--batch")
    assert "QEMU did not start: " in one_line(done, ENVIRONMENT)


def test_unknown_symbol_has_near_matches() -> None:
    done = onestack("symbolize", TOY, "-a", "syscal_entry")
    assert "Did you mean syscall_entry" in one_line(done, USAGE)


def test_file_without_symbols(tmp_path: Path) -> None:
    bare = tmp_path / "bare.elf"
    subprocess.run(["strip", "-o", bare, TOY], check=True)
    assert "has no symbols" in one_line(onestack("symbolize", bare, "-a", "main"), USAGE)
    words = (bare, "--memory", 32, "--defaults", "--look", 0, "-o", tmp_path / "made.toml")
    done = onestack("init", *words)
    assert (done.returncode, done.stderr) == (INCOMPLETE, "")
    assert "no path yet: no file has symbols; give an unstripped one by --elf" in done.stdout
    file = tmp_path / "k.toml"  # with two paths: found in a process of its own
    path = "[[path]]\nname = '{}'\nstart = 'user_null'\nend = 'user_null_after'\n"
    head = f"[machine]\nkernel = '{bare}'\nmemory = 32\n[guest]\nelfs = ['{bare}']\n"
    file.write_text(head + path.format("one") + path.format("two"))
    done = onestack("sweep", file, "-j", 2, "-o", tmp_path / "s.json")
    assert "has no symbols. Give an unstripped file" in one_line(done, USAGE)


def test_file_that_is_no_elf() -> None:
    assert "is no ELF file" in one_line(onestack("symbolize", TOML, "-a", "x"), USAGE)


def test_unknown_path_and_event_list_those_there_are() -> None:
    assert "There are: null, yield, copy, irq" in one_line(
        onestack("sweep", TOML, "--path", "x"), USAGE
    )
    assert "There are: nmi, irq" in one_line(onestack("sweep", TOML, "--event", "x"), USAGE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[machine]\nkernle = 'x'", "unknown key 'kernle' in [machine]. Known: kernel"),
        ("[machin]", "unknown key 'machin' in the file. Known: machine"),
        ("[machine]\nkernel = 'x'", "no such kernel"),
        ("[machine", "Expected"),
        ("machine = 3", "Write [machine]"),
        ("[machine]\nboot = 'x'", "'x' is not a valid BootWay"),
        ("[machine]", "needs `kernel`"),
        ("[machine]\nkernel = 'x'\n[guest]\npanic = ['(']", "'(' is no regular expression"),
        ("[machine]\nclock = 'sun'", "clock = 'sun'. There are: instructions, real"),
    ],
)
def test_kernel_file_errors(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "k.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        kernelfile.load(file)
    assert said in str(caught.value)


# ---- the commands


def test_boot_until() -> None:
    done = onestack("boot", TOML, "--expect", "toy: ready", "--json")
    assert done.returncode == OK
    assert "toy: ready" in json.loads(done.stdout)["console"]


def test_boot_until_what_never_comes() -> None:
    done = onestack("boot", TOML, "--expect", "login:", "--within", "0.5")
    assert "no 'login:' on the console within 0.5 s" in one_line(done, INCOMPLETE)


def test_boot_on_a_terminal_ends_by_ctrl_a_x() -> None:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "onestack.cli", "boot", str(TOML)]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as process:
        seen = b""
        while b"toy: ready" not in seen:
            seen += os.read(master, 1000)
        os.write(master, b"\x01x")
        assert process.wait() == OK


def test_inject() -> None:
    done = onestack("inject", TOML, "--at", "syscall_entry+0x15", "--json")
    assert done.returncode == OK
    [arrival] = json.loads(done.stdout)["arrivals"]
    assert arrival == {
        "event": "nmi",
        "vector": 2,
        "struck": "syscall_entry+0x15",
        "handler": "nmi_entry",
        "returns_to": "syscall_entry+0x15",
    }


def test_inject_tells_of_the_arrival_also_if_the_guest_fails() -> None:
    """Into the toy's hole: its program finds the harm and gives up.

    Only after `user_null`: the guest is stopped in any of its system calls, and the others, with
    nothing in the red zone that they need, come to no harm.
    """
    place = ("--after", "user_null", "--at", "syscall_entry+0x3")
    done = onestack("inject", TOML, *place, "--run", 30, "--json")
    assert "toy: panic" in one_line(done, FOUND)
    said = json.loads(done.stdout)
    assert said["arrivals"][0]["handler"] == "nmi_entry"
    assert "toy: panic" in said["outcome"]


def test_inject_what_kills_the_guest(tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    done = onestack("inject", TOML, "--at", "user_loop", "--event", "mc", "--keep", keep)
    assert "triple fault" in one_line(done, FOUND)
    assert "user_loop" in (keep / "backtrace.txt").read_text()


def test_sweep_report_and_exit_code(tmp_path: Path) -> None:
    output, page = tmp_path / "sweep.json", tmp_path / "sweep.html"
    words = ("sweep", TOML, "--path", "null", "-j", 1, "-o", output)
    done = onestack(*words, "--event", "nmi", "--html", page)
    assert done.returncode == FOUND
    assert "null/nmi: 22 boundaries: 17 survived, 5 corrupted" in done.stdout
    assert "  syscall_entry: corrupted: " in done.stdout
    assert "assumed: " in done.stdout
    assert done.stderr == ""  # no progress where there is no terminal
    assert page.stat().st_size > 10000
    done = onestack(*words, "--event", "irq", "--json")
    assert done.returncode == OK
    assert json.loads(done.stdout)["paths"][0]["outcomes"] == {"survived": 22}
    assert len(json.loads(output.read_text())["paths"]) == 2


def test_a_sweep_that_cannot_judge_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Sweeper, "judge", lambda _, boundary: Cell(boundary, None, "not reached"))
    words = ("sweep", TOML, "--path", "null", "--event", "nmi", "--limit", 2, "-j", 1)
    code = cli.main([*map(str, words), "-o", str(tmp_path / "s.json")])
    assert code == INCOMPLETE
    assert "not judged: 2 boundaries: not reached" in capsys.readouterr().out
    [entry] = json.loads((tmp_path / "s.json").read_text())["paths"]
    assert entry["boundaries"] == 0  # none of them counts


def test_sweep_shows_progress_on_a_terminal(tmp_path: Path) -> None:
    words = ("sweep", TOML, "--path", "null", "--event", "nmi", "-j", 1, "-o", tmp_path / "s.json")
    shown = on_terminal(*words)
    assert "null/nmi" in shown
    assert "5 corrupted" in shown
    assert re.search(r"\d/s", shown)


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(child) for child in children] + [p for c in children for p in descendants(int(c))]


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return ""


@contextlib.contextmanager
def at_work(tmp_path: Path, words: Sequence[object], names: Sequence[str]) -> Iterator[Any]:
    """A command once it has children of these names; all below it are gone at the end."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "onestack.cli", *map(str, words)]
    env = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, env=env,
    ) as process:  # fmt: skip
        below: list[int] = []
        while Counter(names) - Counter(map(name_of, below)):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.05)
            below = descendants(process.pid)
        yield process
    assert all(wait_gone(pid) for pid in below)


SWEEP = ("sweep", TOML, "-j", "2", "--fresh", "-o")
QEMU = "qemu-system-x86"
LONG = ("boot", TOML, "--expect", "never")
GDB = ("gdb", TOML, "--batch", "--ex", "shell sleep 100")


@pytest.mark.parametrize(("words", "names"), [(SWEEP, [QEMU] * 2), (LONG, [QEMU])])
def test_ctrl_c_leaves_no_qemu(tmp_path: Path, words: tuple[object, ...], names: list[str]) -> None:
    words = (*words, tmp_path / "s.json") if words is SWEEP else words
    with at_work(tmp_path, words, names) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait() == INTERRUPTED
        assert process.stderr.read() == ""
    assert not list((tmp_path / "scratch").glob("onestack-*"))


@pytest.mark.parametrize(
    ("words", "names"), [(SWEEP, [QEMU] * 2), (LONG, [QEMU]), (GDB, [QEMU, "gdb"])]
)
def test_being_killed_leaves_no_qemu(
    tmp_path: Path, words: tuple[object, ...], names: list[str]
) -> None:
    words = (*words, tmp_path / "s.json") if words is SWEEP else words
    with at_work(tmp_path, words, names) as process:
        process.kill()


def test_a_sweep_that_is_done_leaves_nothing(tmp_path: Path) -> None:
    words = ("sweep", TOML, "-j", "2", "--limit", "2", "-o", tmp_path / "s.json")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = onestack(*words, env={**os.environ, "TMPDIR": str(scratch)})
    assert done.returncode in (OK, FOUND), done.stderr
    assert not list(scratch.iterdir())


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = onestack(
        "bench", TOML, "--from", "user_null", "--to", "user_null_after", "-o", tmp_path / "file/x"
    )
    assert str(tmp_path / "file") in one_line(done, ENVIRONMENT)


def test_bench_counts_a_path(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    words = ("--from", "user_null", "--to", "user_null_after", "--name", "syscall.null")
    done = onestack("bench", TOML, *words, "-o", output)
    assert done.returncode == OK
    [metric] = json.loads(output.read_text())["metrics"]
    assert (metric["name"], metric["unit"]) == ("syscall.null", "instructions")
    assert metric["min"] == metric["mean"] == metric["max"] == 22


def test_symbolize_text_on_standard_input() -> None:
    address = subprocess.run(["nm", TOY], capture_output=True, text=True, check=True).stdout
    found = re.search(r"^0*([0-9a-f]+) . syscall_entry$", address, re.MULTILINE)
    assert found
    done = onestack("symbolize", TOY, text=f"rip 0x{found[1]} and 12\nplain\n")
    assert "# syscall_entry tests/foreign/toy/toy.S:" in done.stdout
    assert done.stdout.endswith("\nplain\n")


def test_check_finds_what_is_naive_about_the_toy() -> None:
    done = onestack("check", TOY, "--stack-size", "0x1000", "--json")
    assert done.returncode == FOUND
    assert "swapgs" in done.stdout


def test_report_of_nothing(tmp_path: Path) -> None:
    assert "Run a sweep first" in one_line(onestack("report", "/nowhere.json"), USAGE)
    results = tmp_path / "sweep.json"  # without what each boundary came to
    merge(results, "7.2", "paths", [{"name": "null", "outcomes": {}}], ["name"])
    assert "Give a sweep's *.cells.json" in one_line(onestack("report", results), USAGE)


# ---- bars, where there is a terminal


def test_waits_show_how_long_they_may_take() -> None:
    shown = on_terminal("boot", TOML, "--expect", "never", "--within", 2)
    assert "for 'never'" in shown
    assert re.search(r"1 s, at most 1 s left", shown)


def test_counted_work_shows_rate_and_time_left(tmp_path: Path) -> None:
    shown = on_terminal("sweep", TOML, "--limit", 1, "-j", 1, "-o", tmp_path / "s.json")
    assert re.search(r"recording the paths .* \d+/\d+ +\d+/s -?[\d:-]+", shown)


def test_a_check_shows_how_far_it_is() -> None:
    assert re.search(
        r"decoding functions .* \d+/\d+ +\d+/s", on_terminal("check", TOY, "--stack-size", "9")
    )
