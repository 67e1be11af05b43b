# SPDX-License-Identifier: MIT
"""One NMI at every instruction of the system calls and of the timer's way: Onestack survives them
all, and the build with `nmi=rsp0`, which is wrong on purpose, does not."""

from __future__ import annotations

import pytest
from kernel_target import Variant
from sweeping import images_of, sweep, told

from onestack.oracle import Outcome


@pytest.mark.parametrize("path", ["null", "call", "reply", "slow", "sleep", "timer"])
def test_an_nmi_at_every_instruction(path: str) -> None:
    result = sweep(path, "nmi")
    assert len(result.cells) > 25
    assert not result.failures, told(result, images_of())


def test_the_build_that_must_fail_fails_in_the_system_call() -> None:
    """An NMI on the stack in use: the user's at SYSCALL's first instructions, the TCB at the last.

    SMAP forbids the first: double fault. The last overwrites what is saved there.
    """
    variant = Variant(nmi="rsp0")
    images = images_of(variant)
    result = sweep("null", "nmi", variant)
    wrong = {cell.boundary.context.stack for cell in result.failures}
    assert wrong == {"user", "TCB"}, told(result, images)
    for cell in result.cells:
        if cell.boundary.cpl == 0 and cell.boundary.context.stack in wrong:
            assert cell.outcome is not Outcome.SURVIVED, images.name(cell.boundary.address)


def test_the_build_that_must_fail_fails_on_the_timers_way() -> None:
    variant = Variant(nmi="rsp0")
    images = images_of(variant)
    result = sweep("timer", "nmi", variant)
    struck = [cell for cell in result.failures if cell.boundary.context.stack == "TCB"]
    assert len(struck) > 30, told(result, images)
    symbols = {images.name(cell.boundary.address).partition("+")[0] for cell in struck}
    assert {"entry_irq", "exit_iret_check"} <= symbols, told(result, images)
