# SPDX-License-Identifier: MIT
"""The self-checking user programs, on the kernels that the suite builds."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from onestack.machine import Machine

PROGRAMS = ["regs", "exceptions", "pointers", "busy 1"]
MODELS = Path(__file__).resolve().parents[2] / "kernel/arch/entry"
VARIANTS: dict[str, dict[str, object]] = {
    **{path.stem: {"entry": path.stem} for path in MODELS.glob("*.h") if path.stem != "stub"},
    "debug": {"debug": True},
    "clang": {"toolchain": "clang"},
    "2-cores": {"cores": 2},
    "4-cores": {"cores": 4},
}


def programs_on_variants() -> Iterator[ParameterSet]:
    for (name, variant), program in itertools.product(VARIANTS.items(), PROGRAMS):
        mark = pytest.mark.machine(append=f"run={program}", **variant)
        yield pytest.param(program, marks=mark, id=f"{program.partition(' ')[0]}-{name}")


@pytest.mark.parametrize("program", list(programs_on_variants()))
def test_program(machine: Machine, program: str) -> None:
    name = program.partition(" ")[0]
    machine.console.expect(rf"init: {name} ended with (-?\d+)", 60.0)
    assert machine.console.match[1] == "0", machine.console.text


CRASHES = {
    "user-null": (14, 0x6),
    "kernel-read": (14, None),
    "write-text": (14, 0x7),
    "execute-data": (14, 0x15),
    "stack": (14, 0x6),
    "divide": (0, 0),
    "opcode": (6, 0),
    "halt": (13, 0),
    "port": (13, 0),
    "noncanonical": (13, 0),
    "jump": (13, 0),
    "int3": (3, 0),
}


@pytest.mark.parametrize(("kind", "wanted"), CRASHES.items(), ids=CRASHES)
@pytest.mark.machine(ready="onestack> ", shared=True)
def test_crash_ends_only_the_program(
    machine: Machine, kind: str, wanted: tuple[int, int | None]
) -> None:
    said = machine.console.run(f"crash {kind}", "onestack> ")
    found = re.search(r"fault: crash \(process \d+\): vector (\d+), error (0x[0-9a-f]+)", said)
    assert found, said
    vector, error = wanted
    assert int(found[1]) == vector
    assert error is None or int(found[2], 16) == error
    assert f"crash ended with {128 + vector}" in said


def nmis_taken(machine: Machine) -> int:
    found = re.search(r"(\d+) nmis, (\d+) worked on", machine.console.run("nmi", "onestack> "))
    assert found
    assert found[1] == found[2]
    return int(found[1])


@pytest.mark.machine(ready="onestack> ")
def test_each_nmi_in_idle_is_counted_once(machine: Machine) -> None:
    for count in range(5):
        assert nmis_taken(machine) == count
        machine.qmp.execute("inject-nmi")


@pytest.mark.machine(append="run=busy")
def test_registers_under_a_burst_of_nmis_and_irqs(machine: Machine) -> None:
    """Each is counted once and worked on, and no user register changes."""
    machine.console.expect("busy: ready")
    for _ in range(1000):
        machine.qmp.execute("inject-nmi")
        machine.console.send("x")
        machine.console.expect("x")  # the guest has run: the next NMI is one of its own (N6)
    machine.console.send("\r")
    machine.console.expect(r"(\d+) differences, (\d+) planted ones missed, ", 60.0)
    assert machine.console.match.groups() == ("0", "0")
    machine.console.expect(r"(\d+) nmis, (\d+) worked, (\d+) irqs")
    taken, worked, irqs = map(int, machine.console.match.groups())
    assert (taken, worked) == (1000, 1000)
    assert irqs >= 1000
