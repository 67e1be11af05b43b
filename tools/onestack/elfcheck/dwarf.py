# SPDX-License-Identifier: MIT
"""The one thing that the checks ask of the debug information: how large an array's elements are."""

from __future__ import annotations

from collections.abc import Iterator

from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile

DW_OP_ADDR = 0x03
QUALIFIERS = {"DW_TAG_const_type", "DW_TAG_volatile_type", "DW_TAG_typedef"}


def array_elements(elf: ELFFile) -> Iterator[tuple[int, int]]:
    """(address, bytes of an element) of each global variable of ELF that is an array."""
    for unit in elf.get_dwarf_info().iter_CUs():
        for die in unit.get_top_DIE().iter_children():
            if die.tag != "DW_TAG_variable":
                continue
            location = die.attributes.get("DW_AT_location")
            kind = type_of(die)
            if location is None or location.value[0] != DW_OP_ADDR or kind is None:
                continue
            element = type_of(kind) if kind.tag == "DW_TAG_array_type" else None
            size = element.attributes.get("DW_AT_byte_size") if element is not None else None
            if size is not None:
                yield int.from_bytes(bytes(location.value[1:9]), "little"), size.value


def type_of(die: DIE) -> DIE | None:
    """DIE's type without const, volatile and typedef; None if it has none, as for `extern x[]`."""
    while "DW_AT_type" in die.attributes:
        die = die.get_DIE_from_attribute("DW_AT_type")
        if die.tag not in QUALIFIERS:
            return die
    return None
