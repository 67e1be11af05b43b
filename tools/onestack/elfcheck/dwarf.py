# SPDX-License-Identifier: MIT
"""The one thing that the checks ask of the debug information: how large an array's elements are."""

from __future__ import annotations

from collections.abc import Iterator

from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile

DW_OP_ADDR = 0x03
DW_OP_ADDRX = 0xA1
QUALIFIERS = {"DW_TAG_const_type", "DW_TAG_volatile_type", "DW_TAG_typedef"}


def array_elements(elf: ELFFile) -> Iterator[tuple[int, int]]:
    """(address, bytes of an element) of each global variable of ELF that is an array."""
    for unit in elf.get_dwarf_info().iter_CUs():
        for die in unit.get_top_DIE().iter_children():
            if die.tag == "DW_TAG_variable":
                address, size = address_of(die), element_size(die)
                if address is not None and size is not None:
                    yield address, size


def address_of(variable: DIE) -> int | None:
    """Where VARIABLE is, if that is a constant."""
    location = variable.attributes.get("DW_AT_location")
    if location is None or not isinstance(location.value, list):
        return None
    code, operand = location.value[0], bytes(location.value[1:])
    if code == DW_OP_ADDR and len(operand) == 8:
        return int.from_bytes(operand, "little")
    if code == DW_OP_ADDRX:  # Clang: an index, as LEB128, into the unit's table of addresses
        index = sum((byte & 0x7F) << 7 * at for at, byte in enumerate(operand))
        return int(variable.dwarfinfo.get_addr(variable.cu, index))
    return None


def element_size(variable: DIE) -> int | None:
    """Bytes of an element of VARIABLE, None if it is no array."""
    array = type_of(variable)
    element = type_of(array) if array is not None and array.tag == "DW_TAG_array_type" else None
    size = element.attributes.get("DW_AT_byte_size") if element is not None else None
    return int(size.value) if size is not None else None


def type_of(die: DIE) -> DIE | None:
    """DIE's type without const, volatile and typedef; None if it has none, as for `extern x[]`."""
    while "DW_AT_type" in die.attributes:
        die = die.get_DIE_from_attribute("DW_AT_type")
        if die.tag not in QUALIFIERS:
            return die
    return None
