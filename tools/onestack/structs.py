# SPDX-License-Identifier: MIT
"""A guest's C structs and enums, from the debug information of its ELF file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile

from onestack.elfcheck.dwarf import type_of
from onestack.errors import UsageError

STEP = re.compile(r"([A-Za-z_]\w*)|\[(\d+)\]")


@dataclass(frozen=True)
class Member:
    """A part of a struct: bytes from the struct's beginning, and how many."""

    offset: int
    size: int


class Structs:
    """The structs and enums of one ELF file. They are looked up as they are asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._dwarf = ELFFile(self._file).get_dwarf_info()
        self._units = self._dwarf.iter_CUs()
        self._found: dict[tuple[str, str], DIE] = {}
        self._members: dict[tuple[str, str], Member] = {}

    def size(self, struct: str) -> int:
        """Bytes of `struct NAME`."""
        return int(self._struct(struct).attributes["DW_AT_byte_size"].value)

    def member(self, struct: str, path: str) -> Member:
        """A member by its path: `frame.rip`, `ist[2]`. UsageError if there is none."""
        key = (struct, path)
        if key not in self._members:
            self._members[key] = self._walk(struct, path)
        return self._members[key]

    def offset(self, struct: str, path: str) -> int:
        """Where a member begins."""
        return self.member(struct, path).offset

    def enumerators(self, enum: str) -> dict[str, int]:
        """The names of `enum NAME` and their values."""
        found = self._named("DW_TAG_enumeration_type", enum)
        return {
            _name(child): int(child.attributes["DW_AT_const_value"].value)
            for child in found.iter_children()
        }

    def _walk(self, struct: str, path: str) -> Member:
        die, offset = self._struct(struct), 0
        for step in STEP.finditer(path):
            if step[2]:
                element = _type(die)
                die, offset = element, offset + int(step[2]) * _size_of(element)
                continue
            found = _member_of(die, step[1])
            if found is None:
                raise UsageError(f"struct {struct} in {self._path} has no member {path}")
            die, offset = found[0], offset + found[1]
        return Member(offset, _size_of(die))

    def _struct(self, name: str) -> DIE:
        return self._named("DW_TAG_structure_type", name)

    def _named(self, tag: str, name: str) -> DIE:
        while (tag, name) not in self._found:
            unit = next(self._units, None)
            if unit is None:
                raise UsageError(f"no {name} in the debug information of {self._path}")
            for die in unit.get_top_DIE().iter_children():
                if "DW_AT_byte_size" in die.attributes:
                    self._found.setdefault((str(die.tag), _name(die)), die)
        return self._found[tag, name]


def _name(die: DIE) -> str:
    attribute = die.attributes.get("DW_AT_name")
    return attribute.value.decode() if attribute else ""


def _type(die: DIE) -> DIE:
    kind = type_of(die)
    if kind is None:
        raise UsageError(f"{_name(die)} is of an incomplete type")
    return kind


def _size_of(die: DIE) -> int:
    """Bytes of a type; of an array, all elements."""
    if "DW_AT_byte_size" in die.attributes:
        return int(die.attributes["DW_AT_byte_size"].value)
    if die.tag == "DW_TAG_pointer_type":
        return 8
    size = _size_of(_type(die))
    for child in die.iter_children():
        if child.tag == "DW_TAG_subrange_type":
            size *= int(child.attributes["DW_AT_upper_bound"].value) + 1
    return size


def _member_of(struct: DIE, name: str) -> tuple[DIE, int] | None:
    """A member's type and offset; members of nameless structs and unions count as the struct's."""
    for child in struct.iter_children():
        if child.tag != "DW_TAG_member":
            continue
        at = child.attributes.get("DW_AT_data_member_location")
        offset = int(at.value) if at else 0
        kind = _type(child)
        if _name(child) == name:
            return kind, offset
        if not _name(child) and (inner := _member_of(kind, name)):
            return inner[0], offset + inner[1]
    return None
