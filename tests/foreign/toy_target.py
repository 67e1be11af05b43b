# SPDX-License-Identifier: MIT
"""The toy kernel as a target of sweeps: its machine, its paths, its oracle."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from conftest import TOY, toy_spec
from onestack.console import DEFAULT_BAD_PATTERNS, BadPattern
from onestack.elf import Images
from onestack.inject import Irq
from onestack.machine import MachineSpec
from onestack.oracle import UserOracle
from onestack.patch import PatchFault
from onestack.path import Path, StackProbe
from onestack.target import Target

NULL = Path("null", "user_null", ("user_null_after",))
YIELD = Path("yield", "user_yield", ("user_yield_after",))
COPY = Path("copy", "user_copy", ("user_copy_after",))
IRQ = Path("irq", "user_loop", ("user_loop",), stimulus=Irq(0x30))
PATHS = (NULL, YIELD, COPY, IRQ)

STACKS = {
    "user A": "user_tls+0x40..user_stack_a_top",
    "user B": "user_stack_a_top..user_stack_b_top",
    "kernel A": "top_of_a..stack_a_top",
    "kernel B": "stack_a_top..stack_b_top",
}

MEMORY = ("user_tls", STACKS["user B"])


def machine_spec(**options: object) -> MachineSpec:
    """A machine to sweep the toy kernel in, which knows its panics."""
    patterns = (*DEFAULT_BAD_PATTERNS, BadPattern(r"toy: panic: [^\n]*\n"))
    spec = toy_spec(icount=0, sleep=True, snapshots=True, bad_patterns=patterns)
    return replace(spec, **options)  # type: ignore[arg-type]


def probe(images: Images) -> StackProbe:
    """Names the toy's stacks."""
    return StackProbe(images, STACKS)


def target(*faults: PatchFault, patience: float = 2.0, **options: object) -> Target:
    """The toy kernel, with faults planted."""
    return Target(
        spec=machine_spec(**options),
        elfs=(TOY,),
        ready="toy: ready",
        oracle=partial(UserOracle, memory=MEMORY, fail=("user_fail",)),
        probe=probe,
        faults=faults,
        patience=patience,
    )
