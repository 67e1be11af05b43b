# SPDX-License-Identifier: MIT
"""Segments, symbols and notes: what a loader and a debugger will find."""

from __future__ import annotations

from pathlib import Path

from elftools.elf.constants import P_FLAGS, SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from onestack.elfcheck.image import Image, Violation

ENTRY_START, ENTRY_END = "__entry_start", "__entry_end"
"""The linker script's symbols around the entry stubs."""


def check_layout(image: Image) -> list[Violation]:
    """Rights of segments, leftovers of dynamic linking, undefined symbols, entry stubs."""
    return check_segments(image) + check_static(image) + check_stubs(image)


def check_segments(image: Image) -> list[Violation]:
    """No load segment may be written and executed."""
    both = P_FLAGS.PF_W | P_FLAGS.PF_X
    return [
        Violation("segment", f"{header['p_vaddr']:#x}", "both writable and executable")
        for header in image.segments
        if header["p_type"] == "PT_LOAD" and header["p_flags"] & both == both
    ]


def check_static(image: Image) -> list[Violation]:
    """Nothing may be left to resolve or to relocate."""
    found = [Violation("static", name, "undefined symbol") for name in image.undefined]
    found += [
        Violation("static", header["p_type"], "made for a dynamic loader")
        for header in image.segments
        if header["p_type"] in {"PT_DYNAMIC", "PT_INTERP"}
    ]
    found += [
        Violation("static", name, "dynamic section")
        for name in image.section_names
        if name in {".dynamic", ".dynsym", ".interp"} or name.startswith(".rela")
    ]
    return found


def check_stubs(image: Image) -> list[Violation]:
    """Every byte between the entry symbols is a sized symbol's, or padding between two."""
    at, end = image.address_of(ENTRY_START), image.address_of(ENTRY_END)
    if at is None or end is None or at == end:
        return []
    found = []
    for symbol in (s for s in image.code_symbols if at <= s.address < end and s.size):
        if symbol.address > at and not is_padding(image, at, symbol.address):
            found.append(Violation("stub", image.name_of(at), "entry code without a sized symbol"))
        at = max(at, symbol.end)
    if at < end and not is_padding(image, at, end):
        found.append(Violation("stub", image.name_of(at), "entry code without a sized symbol"))
    return found


def is_padding(image: Image, start: int, end: int) -> bool:
    """Is START to END less than 64 bytes of nop, int3 or zeros, as an assembler aligns?"""
    if end - start >= 64:
        return False
    section = image.section_at(start)
    if section and not any(section.data[start - section.address : end - section.address]):
        return True
    inside = [insn for address, insn in image.instructions.items() if start <= address < end]
    return all(insn.mnemonic in {"nop", "int3"} for insn in inside)


def check_object(path: Path, image: Image) -> list[Violation]:
    """An object of IMAGE: all it needs is there, weak or not (the linker makes a missing weak
    symbol 0 and forgets it), and it says that it needs no executable stack.
    """
    found = []
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        note = elf.get_section_by_name(".note.GNU-stack")
        if note is None:  # assembly does not say so by itself
            found.append(Violation("stack note", str(path), "no .note.GNU-stack"))
        elif note["sh_flags"] & SH_FLAGS.SHF_EXECINSTR:
            found.append(Violation("stack note", str(path), "asks for an executable stack"))
        table = elf.get_section_by_name(".symtab")
        entries = table.iter_symbols() if isinstance(table, SymbolTableSection) else ()
        needed = {entry.name for entry in entries if entry["st_shndx"] == "SHN_UNDEF"}
    found += [
        Violation("static", name, f"undefined symbol, needed by {path}")
        for name in sorted(needed - image.defined - {""})
    ]
    return found
