# SPDX-License-Identifier: MIT
"""How long a kernel keeps interrupts off, and where: by a TCG plugin (plugins/windows.c).

The plugin infers IF from executed instructions, for it cannot read registers; `Windows` is what it
has found so far. A figure is what an interrupt has to wait for, in instructions.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from onestack import plugins
from onestack.elf import Image
from onestack.errors import UsageError

# What plugins/windows.c knows, with its meaning there.
KINDS = ("irq", "trap", "excused", "outermost", "restart", "record", "look", "path", "stop")
HEAD = struct.Struct("<4Q")
PLACE = struct.Struct("<6Q")
NMI, MACHINE_CHECK, FIRST_IRQ = 2, 18, 32


class Kind(IntEnum):
    """What a place tells of."""

    WINDOW = 1  # interrupts are off
    STRETCH = 2  # in the kernel, nobody looks whether anything is pending
    RECORD = 3  # from an interrupt's entry until it is acknowledged


@dataclass(frozen=True)
class Place:
    """All that began at `first` on one path: how many; the longest in instructions, and its end.

    `path` is the last mark of that kind on the way there, or the entry; 0 if there was none.
    """

    kind: Kind
    first: int
    path: int
    last: int
    longest: int
    count: int


@dataclass(frozen=True)
class Windows:
    """What the plugin has found: the longest come first."""

    instructions: int
    interrupts: int
    contradictions: int
    places: tuple[Place, ...]

    def of(self, kind: Kind) -> list[Place]:
        """Those of one kind."""
        return [place for place in self.places if place.kind is kind]

    def longest(self, kind: Kind) -> Place:
        """The longest of a kind. UsageError if there is none."""
        found = self.of(kind)
        if not found:
            raise UsageError(f"the guest came to no {kind.name.lower()}", "Did it come up at all?")
        return found[0]


def vector_marks(stubs: Sequence[int]) -> dict[str, set[int]]:
    """Marks for the handlers of the vectors from 0 on; NMI and machine check are not counted."""
    marks: dict[str, set[int]] = {"irq": set(), "trap": set(), "excused": set()}
    for vector, address in enumerate(stubs):
        excused = vector in (NMI, MACHINE_CHECK)
        marks["excused" if excused else "trap" if vector < FIRST_IRQ else "irq"].add(address)
    return marks


def memory_users(image: Image, address: int, mnemonics: Iterable[str]) -> set[int]:
    """Instructions with one of these mnemonics and a memory operand at (register +) `address`."""
    shown = str(address) if address < 10 else f"{address:#x}"
    operand = re.compile(rf"\[(\w+ \+ )?{shown}\]")
    names = frozenset(mnemonics)
    return {
        instruction.address
        for symbol in image.symbols
        if symbol.code and symbol.size
        for instruction in image.disassemble(symbol.address, symbol.address + symbol.size)
        if instruction.mnemonic in names and operand.search(instruction.operands)
    }


class Watcher:
    """The plugin for one machine: `arguments` are for its MachineSpec, `windows()` when it stops.

    `marks` are addresses by kind, see plugins/windows.c. FOLDER keeps its files, and the plugin's.
    """

    def __init__(self, marks: Mapping[str, Iterable[int]], folder: Path) -> None:
        unknown = set(marks) - set(KINDS)
        if unknown:
            raise UsageError(f"no such mark: {', '.join(sorted(unknown))}")
        plugin = plugins.build("windows", folder)
        lines = [f"{kind} {address:x}\n" for kind in marks for address in marks[kind]]
        (folder / "marks").write_text("".join(lines))
        self._file = folder / "windows"
        self.arguments = ("-plugin", f"{plugin},out={self._file},marks={folder / 'marks'}")

    def forget(self) -> None:
        """Begin anew. The machine stands still."""
        with self._file.open("r+b") as file:
            file.write(bytes(self._file.stat().st_size))

    def windows(self) -> Windows:
        """What was found until now. The machine stands still, or has ended."""
        content = self._file.read_bytes()
        instructions, interrupts, contradictions, lost = HEAD.unpack_from(content)
        if lost:
            raise UsageError(f"{lost} places did not fit into the plugin's table")
        rows = PLACE.iter_unpack(content[HEAD.size :])
        places = (
            Place(Kind(kind), first, path, last, longest, count)
            for kind, first, path, last, longest, count in rows
            if kind
        )
        ordered = sorted(places, key=lambda p: (-p.longest, p.kind, p.first, p.path))
        return Windows(instructions, interrupts, contradictions, tuple(ordered))
