# SPDX-License-Identifier: MIT
"""Where the instructions of a path go: each one with its source line, grouped by purpose.

A profile begins at a user instruction that leads into the kernel, or at one that an interrupt
strikes, and ends before the next user instruction, whoever's. All instructions in between are
the kernel's, so their number is what a guest measures around that instruction less its own.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import Any

from onestack.elf import Images
from onestack.errors import OnestackError, UsageError
from onestack.gdbstub import Step
from onestack.inject import Injector, Irq
from onestack.machine import Machine
from onestack.symbolize import Symbolizer

OTHER = "other"  # of what no rule knows
LONGEST = 100_000  # instructions


class ProfileError(OnestackError):
    """A path does not come back to user mode."""


@dataclass(frozen=True)
class Purpose:
    """A rule: what is in one of these functions (also inlined there), and on such a line.

    `functions` are patterns as for file names; `line` is a regular expression, empty: any line.
    """

    name: str
    functions: tuple[str, ...] = ("*",)
    line: str = ""

    def fits(self, functions: Sequence[str], text: str) -> bool:
        """Whether it is meant for an instruction of these functions, innermost first."""
        known = any(fnmatchcase(name, like) for name in functions for like in self.functions)
        return known and (not self.line or re.search(self.line, text) is not None)


@dataclass(frozen=True)
class Plan:
    """What to profile: the instruction `first` (a mnemonic; empty: any) of the location `start`.

    `append` replaces the guest's command line if it is not empty; `skip` is how many visits are
    left out; with `irq`, a vector, that interrupt strikes there.
    """

    name: str
    start: str
    first: str = ""
    append: str = ""
    skip: int = 0
    irq: int | None = None


@dataclass(frozen=True)
class Line:
    """One executed instruction."""

    address: int
    purpose: str
    function: str
    instruction: str
    source: str
    text: str


def _start(images: Images, plan: Plan) -> int:
    address = images.resolve(plan.start)
    while plan.first:
        instruction = images.instruction(address)
        if instruction is None:
            raise UsageError(f"profile {plan.name}: no {plan.first} at {plan.start}")
        if instruction.mnemonic == plan.first:
            break
        address = instruction.end
    return address


def record(machine: Machine, images: Images, plan: Plan) -> list[int]:
    """The kernel's instructions as they are executed, by address. The machine stands still."""
    injector = Injector(machine, images)
    address = _start(images, plan)
    for _ in range(plan.skip + 1):
        injector.stop_at(address, 60.0)
    gdb = machine.gdb
    if plan.irq is not None:
        injector.inject(Irq(plan.irq))
        gdb.set_step_mode(Step.HOLD_ALL)
    else:
        gdb.set_step_mode(Step.HOLD_ALL)
        gdb.step()
    found: list[int] = []
    while gdb.registers()["cs"] & 3 == 0:
        found.append(gdb.registers().pc)
        if len(found) > LONGEST:
            raise ProfileError(f"{plan.name}: still in the kernel after {LONGEST} instructions")
        gdb.step()
    return found


@functools.cache
def _source_lines(file: str) -> list[str]:
    path = Path(file)
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


class Explainer:
    """Says of each address what it is for."""

    def __init__(self, images: Images, purposes: Sequence[Purpose]) -> None:
        self._images = images
        self._symbolizer = Symbolizer(images)
        self._purposes = purposes
        self._known: dict[int, Line] = {}

    def line(self, address: int) -> Line:
        """One instruction. Its first rule that fits tells the purpose."""
        if address not in self._known:
            place = self._symbolizer.place(address)
            function = place.name.partition("+")[0]
            lines = _source_lines(place.source.file) if place.source else []
            number = place.source.line if place.source else 0
            text = lines[number - 1].strip() if 0 < number <= len(lines) else ""
            names = (*place.inlined, function)
            fitting = (p.name for p in self._purposes if p.fits(names, text))
            purpose = next(fitting, OTHER)
            instruction = self._images.instruction(address)
            said = instruction.text if instruction else "?"
            inner = place.inlined[0] if place.inlined else function
            self._known[address] = Line(
                address, purpose, inner, said, str(place.source or ""), text
            )
        return self._known[address]

    def lines(self, addresses: Sequence[int]) -> list[Line]:
        """All of a path."""
        return [self.line(address) for address in addresses]


def sums(lines: Sequence[Line]) -> dict[str, int]:
    """Instructions for each purpose, in the order in which the path first comes to it."""
    return dict(Counter(line.purpose for line in lines))


def as_json(name: str, lines: Sequence[Line]) -> dict[str, Any]:
    """For scripts."""
    return {
        "name": name,
        "instructions": len(lines),
        "purposes": sums(lines),
        "lines": [{**vars(line), "address": hex(line.address)} for line in lines],
    }


def listing(name: str, lines: Sequence[Line]) -> Iterator[str]:
    """A table of purposes, then each instruction in order under its source line."""
    yield f"{name}: {len(lines)} instructions"
    for purpose, count in sums(lines).items():
        yield f"{count:6}  {purpose}"
    yield ""
    for (purpose, source, text), part in groupby(
        lines, key=lambda line: (line.purpose, line.source, line.text)
    ):
        yield f"{purpose:10} {source}: {text}"
        for line in part:
            yield f"{'':10}     {line.address:#x}  {line.instruction}"
