# SPDX-License-Identifier: MIT
"""user/tests/regs patterns all registers across every call (E12): who adds one adds its rows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from abi import SYSCALLS, Syscall

TOP = Path(__file__).resolve().parents[2]
PROGRAM = (TOP / "user/tests/regs/main.c").read_text()
MANUAL = (TOP / "docs/syscalls.md").read_text()
ROW = re.compile(r'^ {8}(GOOD|CALL|WAIT|PAGE)\((?:"[^"]*",\s*)?(\w+)', re.MULTILINE)
NEVER_RETURNS = {"panic"}
# What the program's loop over all numbers leaves out; each needs a row.
CARE = set(re.findall(r"number == SYS_(\w+)", PROGRAM))


def rows(program: str) -> dict[str, set[str]]:
    """By call: the kinds of rows that it has."""
    found: dict[str, set[str]] = {}
    for kind, name in ROW.findall(program):
        found.setdefault(name, set()).add(kind)
    return found


def blocks(name: str) -> bool:
    """Whether the manual says that a call can block its caller."""
    page = re.split(rf"^## \d+ {name}$", MANUAL, flags=re.MULTILINE)[1].partition("\n## ")[0]
    row = re.search(r"^\| blocks \| (.+) \|$", page, re.MULTILINE)
    assert row
    return row[1] != "no"


def takes_memory(call: Syscall) -> bool:
    """Whether an argument is a pointer."""
    return re.search(r"a\d (struct|message)", call.text) is not None


def missing(call: Syscall, program: str) -> list[str]:
    """What kinds of rows a call should have and does not."""
    kinds = rows(program).get(call.name, set())
    wanted = []
    if not kinds and call.name not in NEVER_RETURNS:
        wanted.append("any")
    if blocks(call.name) and not kinds & {"WAIT", "PAGE"} and call.name not in ("sleep", "yield"):
        wanted.append("one that waits")
    if takes_memory(call) and "PAGE" not in kinds:
        wanted.append("one with a missed page")
    return wanted


@pytest.mark.parametrize("name", SYSCALLS)
def test_every_call_has_its_rows(name: str) -> None:
    assert not missing(SYSCALLS[name], PROGRAM)


def test_the_loop_over_all_numbers_leaves_out_what_has_rows() -> None:
    assert set(rows(PROGRAM)) >= CARE
    assert set(rows(PROGRAM)) <= set(SYSCALLS)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("wait", "one that waits"), ("thread_info", "one with a missed page"), ("clock", "any")],
)
def test_a_missing_row_is_found(name: str, wanted: str) -> None:
    without = re.sub(rf'(GOOD|CALL|WAIT|PAGE)\((("[^"]*",\s*)?{name}\b)', r"NONE(\2", PROGRAM)
    assert wanted in missing(SYSCALLS[name], without)
