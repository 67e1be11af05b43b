# SPDX-License-Identifier: MIT
"""A part of the sweep with 2 and 4 cores: one is struck while the others call each other's servers.

`scons sweep cores=2,4` does the whole. A planted fault is found there as on one core.
"""

from __future__ import annotations

import planted
import pytest
from kernel_paths import PATHS, events
from kernel_state import KernelState
from kernel_target import Variant, target
from sweeping import images_of, sweep_all, told

from onestack import sweep
from onestack.campaign import PartResult
from onestack.oracle import Outcome

PART = 12  # boundaries of each path, for each event


def judged(result: PartResult) -> int:
    """At how many boundaries."""
    return len(result.cells) - len(result.unreached)


@pytest.mark.parametrize("cores", [2, 4])
@pytest.mark.parametrize("path", ["null", "call", "slow", "map"])
def test_a_core_is_struck_while_others_work(path: str, cores: int) -> None:
    for result in sweep_all(path, ("nmi", "irq"), limit=PART, cores=cores):
        assert judged(result) >= PART - 2
        assert not result.failures, told(result, images_of())


@pytest.mark.parametrize("path", ["fpu", "space-end"])
def test_threads_that_live_in_another_ones_memory_each_time(path: str) -> None:
    """What has ended waits for the other core, which comes when it will."""
    [result] = sweep_all(path, ["nmi"], limit=PART, cores=2)
    assert judged(result) >= PART - 2
    assert not result.failures, told(result, images_of())


def test_a_saved_reply_lies_elsewhere_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What held the one before waits for the other core; a round alone does not tell of that."""
    monkeypatch.setattr(sweep, "REFERENCE_ROUNDS", 1)
    with sweep.Sweeper(target(cores=2)) as sweeper:
        sweeper.open(PATHS["save"], events(sweeper.images)["nmi-with-breakpoint"])
        cells = [sweeper.judge(one) for one in sweeper.record()[:PART]]
    assert any("rdx is" in cell.detail for cell in cells), "they are all alike"
    assert not [cell for cell in cells if "waits_on" in cell.detail]


def test_but_it_must_be_one_and_of_him_who_waits() -> None:
    state = KernelState(Variant().kernel, images_of())
    _, size = state.reply_piece(0)
    kind, caller = (state.structs.member("reply", name) for name in ("object.type", "caller"))
    number = state.structs.enumerators("object_type")["OBJ_REPLY"]

    def reply(of: int, number: int) -> bytes:
        raw = bytearray(size)
        raw[kind.offset : kind.offset + kind.size] = number.to_bytes(kind.size, "little")
        raw[caller.offset : caller.offset + caller.size] = of.to_bytes(caller.size, "little")
        return bytes(raw)

    assert state.is_reply_to(reply(0x1000, number), 0x1000)
    assert not state.is_reply_to(reply(0x2000, number), 0x1000)
    assert not state.is_reply_to(reply(0x1000, number + 1), 0x1000)


@pytest.mark.parametrize("path", ["irq-irq", "irq-kernel-2"])
def test_others_that_come_by_are_not_taken_for_the_one_struck(path: str) -> None:
    """These paths begin in handlers, to which others come all the time."""
    [result] = sweep_all(path, ["nmi"], limit=PART, cores=4)
    assert judged(result) >= PART - 2
    assert not result.failures, told(result, images_of())


@pytest.mark.parametrize("cores", [2, 4])
def test_a_planted_fault_is_found_among_several_cores(cores: int) -> None:
    """The NMI's handler loses a register."""
    [result] = sweep_all("null", ["nmi"], limit=PART, plant=planted.clobbered_register, cores=cores)
    assert result.failures


def test_the_build_that_must_fail_fails_there_too() -> None:
    """Each NMI that is pushed to a TCB or to the user's stack, as on one core."""
    [result] = sweep_all("null", ["nmi"], Variant(nmi="rsp0"), cores=2)
    assert judged(result) == len(result.cells)
    for cell in result.cells:
        if cell.boundary.cpl == 0 and cell.boundary.context.stack in ("user", "TCB"):
            assert cell.outcome is not Outcome.SURVIVED, cell.boundary
    assert result.failures
