# SPDX-License-Identifier: MIT
"""The sweep finds planted faults of each kind where they do harm, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import planted
import pytest
from kernel_state import CORE_AREAS, STACK_TOPS
from sweeping import Plant, images_of, sweep, told

from onestack.elf import Images
from onestack.oracle import Outcome
from onestack.path import Boundary

EMPTY_NMI_STACK = CORE_AREAS + STACK_TOPS["NMI"] - 16

Where = Callable[[Images, Boundary], bool]


def on_live_nmi_stack(images: Images, at: Boundary) -> bool:
    """Something stands on the NMI's stack."""
    del images
    return at.context.stack == "NMI" and at.sp < EMPTY_NMI_STACK


def in_kernel(images: Images, at: Boundary) -> bool:
    """At any instruction of the kernel's."""
    del images
    return at.cpl == 0


def everywhere(images: Images, at: Boundary) -> bool:
    """In user mode, too."""
    del images, at
    return True


def between(first: str, last: str, images: Images, at: Boundary) -> bool:
    """From one label to another, both included."""
    start = images.resolve(first)
    return start <= at.address <= images.resolve(last)


def behind_check(label: str, last: str, images: Images, at: Boundary) -> bool:
    """From the instruction after a window's look at the pending byte to its last one."""
    window = images.images[0].disassemble(images.resolve(label), images.resolve(last) + 2)
    [check] = [i for i, instruction in enumerate(window) if instruction.mnemonic == "cmp"]
    return window[check].end <= at.address <= images.resolve(last)


def taken_in_kernel(images: Images, at: Boundary) -> bool:
    """An interrupt that strikes here comes before the exit's `cli`: in the kernel."""
    leaves = between("exit_iret", "exit_iret_leave", images, at) and not at.interrupts
    return at.cpl == 0 and not leaves


@pytest.mark.parametrize(
    ("plant", "path", "event", "outcomes", "where"),
    [
        pytest.param(
            planted.wrong_stack, "slow", "nmi", {Outcome.CORRUPTED}, on_live_nmi_stack, id="stack"
        ),
        pytest.param(
            planted.clobbered_register, "null", "nmi", {Outcome.CORRUPTED}, in_kernel, id="register"
        ),
        pytest.param(
            partial(planted.forgotten_window, label="exit_sysret_check"),
            "null", "nmi", {Outcome.LOST},
            partial(behind_check, "exit_sysret_check", "exit_sysret_leave"),
            id="exit-sysret",
        ),
        pytest.param(
            partial(planted.forgotten_window, label="exit_iret_check"),
            "slow", "nmi", {Outcome.LOST},
            partial(behind_check, "exit_iret_check", "exit_iret_leave"),
            id="exit-iret",
        ),
        pytest.param(
            partial(planted.forgotten_window, label="idle_check"),
            "sleep", "nmi", {Outcome.LOST},
            partial(behind_check, "idle_check", "idle_hlt"),
            id="idle",
        ),
        pytest.param(
            planted.unmasking_iret, "null", "nmi-with-breakpoint",
            {Outcome.HANG, Outcome.CORRUPTED, Outcome.PANIC, Outcome.RESET}, everywhere, id="iret",
        ),
        pytest.param(
            planted.nest_off_by_one, "slow", "irq", {Outcome.CORRUPTED}, taken_in_kernel, id="nest"
        ),
        pytest.param(
            planted.state_left_behind, "slow", "irq", {Outcome.CORRUPTED}, taken_in_kernel,
            id="state",
        ),
        pytest.param(
            planted.forgotten_event, "null", "nmi", {Outcome.LOST}, in_kernel, id="record"
        ),
    ],
)  # fmt: skip
def test_planted_fault_is_found_where_it_is(
    plant: Plant, path: str, event: str, outcomes: set[Outcome], where: Where
) -> None:
    images = images_of()
    result = sweep(path, event, plant=plant)
    wanted = [cell.boundary for cell in result.cells if where(images, cell.boundary)]
    found = [cell.boundary for cell in result.failures]
    assert wanted
    assert found == wanted, told(result, images)
    assert {cell.outcome for cell in result.failures} <= outcomes
