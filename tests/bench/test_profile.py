# SPDX-License-Identifier: MIT
"""A profile accounts for every instruction of its metric, and says what each is for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from figures import baseline, compiler

from onestack import cli, kernelfile, profile
from onestack.elf import Images
from onestack.machine import Machine
from onestack.profile import Explainer, Line, Plan, Purpose

FILE = Path(__file__).with_name("onestack.toml")
KERNEL = kernelfile.load(FILE)
PURPOSES = {"entry", "lookup", "checks", "transfer", "switch", "record", "exit"}


def images() -> Images:
    return Images.load(*KERNEL.target.elfs)


@pytest.mark.parametrize("plan", KERNEL.profiles, ids=lambda plan: plan.name)
def test_the_sum_is_the_metric(plan: Plan) -> None:
    """The baseline is what the guest measured, and test_figures.py holds that against the guest."""
    if not baseline():
        pytest.skip(f"no baseline for {compiler()}")
    with Machine(replace(KERNEL.target.spec, append=plan.append)) as machine:
        addresses = profile.record(machine, images(), plan)
    lines = Explainer(images(), KERNEL.purposes).lines(addresses)
    known = baseline()[plan.name]
    assert abs(len(lines) - known) <= 0.02 * known + 1
    sums = profile.sums(lines)
    assert sum(sums.values()) == len(lines)
    assert set(sums) <= PURPOSES, [line for line in lines if line.purpose not in PURPOSES]
    assert {"entry", "exit"} <= set(sums)
    assert [line for line in lines if not line.source] == []


def test_the_sum_is_what_the_guest_measures() -> None:
    """To the instruction, in one and the same guest: its own figure comes after the profile."""
    plan = KERNEL.profile("ipc.call")
    with Machine(replace(KERNEL.target.spec, append=plan.append)) as machine:
        stepped = len(profile.record(machine, images(), plan))
        machine.resume()
        machine.console.expect(r"bench: ipc\.call instructions (\d+) ", 60.0)
        text = machine.console.text
    least = int(text.partition("bench: ipc.call instructions ")[2].split()[0])
    assert stepped == least


def test_the_first_rule_that_fits_counts() -> None:
    rules = [
        Purpose("checks", ("fast_*",), r"\bif \("),
        Purpose("lookup", ("cap_find",)),
        Purpose("rest", ("fast_*",)),
    ]

    def purpose(functions: tuple[str, ...], text: str) -> str:
        return next((rule.name for rule in rules if rule.fits(functions, text)), profile.OTHER)

    assert purpose(("fast_call",), "if (x) {") == "checks"
    assert purpose(("cap_find", "fast_call"), "return cap;") == "lookup"
    assert purpose(("fast_call",), "a = b;") == "rest"
    assert purpose(("sys_map",), "if (x) {") == "other"


def test_listing_shows_each_instruction_under_its_line() -> None:
    first = Line(16, "entry", "f", "push rax", "a.S:3", "push %rax")
    lines = [first, replace(first, address=17, instruction="cld"), replace(first, purpose="exit")]
    text = list(profile.listing("path", lines))
    assert text[:4] == ["path: 3 instructions", "     2  entry", "     1  exit", ""]
    assert text[4].split() == ["entry", "a.S:3:", "push", "%rax"]
    assert text[6].split() == ["0x11", "cld"]
    assert len(text) == 9


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", str(FILE), "--profile", "syscall.null", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["instructions"] == sum(facts["purposes"].values()) == len(facts["lines"])
    assert cli.main(["bench", str(FILE), "--profile", "nonesuch"]) == 2
    assert "There are: syscall.null" in capsys.readouterr().err
