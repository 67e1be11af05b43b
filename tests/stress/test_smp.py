# SPDX-License-Identifier: MIT
"""Many threads that call, signal, map, make and end each other on several cores, in one space and
in spaces of their own: nothing is lost.

The long form is `scons soak` (soak.py).
"""

from __future__ import annotations

import pytest

from onestack.elf import Images
from onestack.machine import Machine
from onestack.patch import PatchFault

SPACES = r"stress: (\d+) spaces made and ended"
DONE = r"stress: (\d+) operations done, (\d+) wrong, (\d+) sums differ, (-?\d+) bytes missing"
OPERATIONS = 50_000
SEED = 1
SECONDS = 100.0


@pytest.mark.parametrize(
    "cores",
    [pytest.param(n, marks=pytest.mark.machine(cores=n), id=f"{n}-cores") for n in (1, 2, 4)],
)
@pytest.mark.machine(append=f"run=stress {OPERATIONS} {SEED}")
def test_nothing_is_lost(machine: Machine, cores: int) -> None:
    machine.console.expect(SPACES, SECONDS)
    assert int(machine.console.match[1]) >= 4 + OPERATIONS // 50_000  # main.c
    machine.console.expect(DONE)
    done, wrong, differ, missing = map(int, machine.console.match.groups())
    assert done >= OPERATIONS
    assert (wrong, differ, missing) == (0, 0, 0), machine.console.text
    assert f"on {cores} cores" in machine.console.text


def words_that_get_lost(images: Images) -> PatchFault:
    """A message's words do not all get to a receiver on another core."""
    kernel = images.images[0]
    arrived = kernel.symbol("arrived")
    code = kernel.disassemble(arrived.address, arrived.address + arrived.size)
    at = next(
        one
        for one in code
        if one.mnemonic == "call" and "memcpy" in images.name(int(one.operands, 16))
    )
    return PatchFault("lost words", f"{at.address:#x}", b"", expect="call")


@pytest.mark.machine(append=f"run=stress {OPERATIONS} {SEED}", cores=2, paused=True)
@pytest.mark.parametrize("who", ["client", "landlord", "lodger"])
def test_a_planted_loss_is_found(machine: Machine, images: Images, who: str) -> None:
    """Within a space, and between two that come and go."""
    machine.run_to(images.resolve("kernel_main"))
    words_that_get_lost(images).apply(machine, images)
    machine.resume()
    what = "a call" if who == "landlord" else "the answer"
    machine.console.expect(rf"stress: {who} \d+: a word of {what}: ", SECONDS)
