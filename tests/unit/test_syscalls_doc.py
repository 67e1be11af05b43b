# SPDX-License-Identifier: MIT
"""docs/syscalls.md has a page for each call of syscalls.def, with the same arguments."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from abi import ERRORS, RIGHTS, SYSCALLS, Syscall

MANUAL = Path(__file__).resolve().parents[2] / "docs/syscalls.md"
ROWS = ["kind", "rights", "returns", "errors", "blocks", "preemption"]


def pages() -> dict[str, tuple[int, str]]:
    """Number and text of each page, in the manual's order."""
    parts = re.split(r"^## (\d+) (\w+)$", MANUAL.read_text(), flags=re.MULTILINE)[1:]
    return {
        name: (int(number), text)
        for number, name, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    }


def rows(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\| `?(\w+)`? \| (.+) \|$", text, re.MULTILINE))


def problems(manual: dict[str, tuple[int, str]], call: Syscall) -> list[str]:
    """What is wrong with a call's page."""
    if call.name not in manual:
        return ["no page"]
    number, text = manual[call.name]
    table = rows(text)
    named = sorted(set(re.findall(r"\ba[0-4]\b", call.text)))
    described = [name for name in table if re.fullmatch(r"a\d", name)]
    found = []
    if number != call.number:
        found.append(f"number {number}, not {call.number}")
    if described != named:
        found.append(f"arguments {described}, not {named}")
    if named and int(named[-1][1]) + 1 != call.args:
        found.append(f"syscalls.def says {call.args} arguments and describes {named}")
    if [name for name in table if name not in described] != ROWS:
        found.append(f"rows {list(table)}")
    if table.get("kind") != call.kind:
        found.append(f"kind {table.get('kind')}, not {call.kind}")
    return found


@pytest.mark.parametrize("name", SYSCALLS)
def test_page_agrees_with_the_table(name: str) -> None:
    assert not problems(pages(), SYSCALLS[name])


def test_pages_are_those_of_the_table_in_its_order() -> None:
    assert list(pages()) == list(SYSCALLS)


def test_names_exist() -> None:
    text = MANUAL.read_text()
    assert set(re.findall(r"`E_(\w+)`", text)) <= set(ERRORS)
    assert set(re.findall(r"`RIGHT_(\w+)`", text)) <= set(RIGHTS)


def test_every_error_is_explained() -> None:
    assert set(re.findall(r"`E_(\w+)`", MANUAL.read_text())) >= set(ERRORS) - {"OK", "NOSYS"}


def test_planted_disagreements_are_found() -> None:
    manual = pages()
    number, text = manual["cap_copy"]
    wrong = {
        "missing": {},
        "number": {"cap_copy": (number + 1, text)},
        "argument": {"cap_copy": (number, text.replace("| `a2` |", "| `a4` |"))},
        "left out": {"cap_copy": (number, re.sub(r"\| `a3` \|.*\n", "", text))},
        "row": {"cap_copy": (number, re.sub(r"\| rights \|.*\n", "", text))},
        "kind": {"cap_copy": (number, text.replace("| SLOW |", "| FAST |"))},
    }
    for what, broken in wrong.items():
        assert problems(broken, SYSCALLS["cap_copy"]), what
