# SPDX-License-Identifier: MIT
"""core_nest as the test for user mode, in place of the CPL (`entry=tcb-nest`).

gerryg400's entries ask core_nest, Brendan proposed the CPL in the frame. For interrupts both are
right. For an exception core_nest is not: an NMI that has struck user mode finds it 0 and runs in
the kernel, and so does a breakpoint in its first instructions.
"""

from __future__ import annotations

from kernel_target import Variant
from sweeping import images_of, sweep, told

from onestack.oracle import Outcome

NEST = Variant("tcb-nest")


def test_interrupts_and_nmis_do_not_mind() -> None:
    for path, event in (("irq-kernel", "irq"), ("opcode", "nmi")):
        result = sweep(path, event, NEST, limit=25)
        assert not result.failures, told(result, images_of(NEST))


def test_a_breakpoint_in_the_nmi_handler_is_taken_for_the_users() -> None:
    result = sweep("null", "nmi-with-breakpoint", NEST)
    for cell in result.cells:
        survived = cell.outcome is Outcome.SURVIVED
        assert survived == (cell.boundary.context.nest != 0), told(result, images_of(NEST))
