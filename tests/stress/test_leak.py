# SPDX-License-Identifier: MIT
"""Ten thousand rounds of create, use and destroy of every object leave no byte behind."""

from __future__ import annotations

import pytest

from onestack.elf import Images
from onestack.machine import Machine

ROUNDS = 10_000
REPORT = r"leak: (\d+) rounds, (-?\d+) bytes of the account, (-?\d+) of the machine, (\d+) wrong"
RET = b"\xc3"


def report(machine: Machine, seconds: float) -> tuple[int, ...]:
    machine.console.expect(REPORT, seconds)
    return tuple(int(number) for number in machine.console.match.groups())


@pytest.mark.machine(append=f"run=leak {ROUNDS}")
def test_every_object(machine: Machine) -> None:
    assert report(machine, 550.0) == (ROUNDS, 0, 0, 0)


@pytest.mark.machine(append="run=leak 5", paused=True)
@pytest.mark.parametrize("function", ["frame_free", "kmem_free"])
def test_a_planted_leak_is_found(machine: Machine, images: Images, function: str) -> None:
    """The function that gives memory back does nothing."""
    machine.run_to(images.resolve("kernel_main"))
    machine.gdb.write(images.resolve(function), RET)
    machine.resume()
    rounds, account, free, wrong = report(machine, 60.0)
    assert (rounds, wrong) == (5, 0)
    assert account > 0
    assert free > 0


@pytest.mark.machine(append="run=leak 30", cores=2)
def test_every_object_on_two_cores(machine: Machine) -> None:
    """What waits for the other core to have looked (ADR 50) comes back, to the byte."""
    assert report(machine, 180.0) == (30, 0, 0, 0)
