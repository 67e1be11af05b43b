# SPDX-License-Identifier: MIT
"""Places to freeze a core at, and what the instruction before each has touched."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from onestack.elf import Instruction

TOUCHES_NOTHING = ("lea", "nop")  # though their operand looks like memory
OF_THE_CPU = re.compile(r"cli|sti|popf|iret|sysret|hlt|in$|out|wr|invlpg|mov cr")


class Kind(enum.StrEnum):
    """Boundaries by what the instruction before them does, the likeliest to show it first."""

    ATOMIC = "atomic"  # cores agree on something
    SHARED = "shared"  # it touches memory other than its stack, or the state of its CPU
    PRIVATE = "private"  # nobody can tell whether the core is frozen here or one instruction before


@dataclass(frozen=True)
class Boundary:
    """A place to freeze a core: an address, at its nth visit since the operation began."""

    address: int
    visit: int
    kind: Kind = Kind.PRIVATE


def kind_behind(code: Instruction) -> Kind:
    """What a core that is frozen behind this instruction has just done."""
    memory = "[" in code.operands and code.mnemonic not in TOUCHES_NOTHING
    if code.mnemonic.startswith("lock") or (memory and code.mnemonic == "xchg"):
        return Kind.ATOMIC
    if (memory and "[rsp" not in code.operands) or OF_THE_CPU.match(code.text):
        return Kind.SHARED
    return Kind.PRIVATE


def representative(path: list[Boundary], count: int) -> list[Boundary]:
    """So many of a path, evenly: behind its atomic instructions if it has any."""
    found = [one for one in path if one.kind is Kind.ATOMIC] or path
    if len(found) <= count:
        return found
    return [found[i * (len(found) - 1) // (count - 1)] for i in range(count)]
