# SPDX-License-Identifier: MIT
"""An ELF file as the checks see it: segments, symbols and decoded instructions."""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from capstone import CS_ARCH_X86, CS_MODE_32, CS_MODE_64, Cs
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from onestack.bars import counted
from onestack.elfcheck.dwarf import array_elements

BOOT_SECTIONS = ".boot"
"""Code in sections of this prefix runs before long mode and on the boot stack: it is decoded as
32-bit code, and the kernel stack is none of its business.
"""


@dataclass(frozen=True)
class Violation:
    """One thing that is wrong, and where."""

    check: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.check}: {self.where}: {self.what}"


@dataclass(frozen=True)
class Symbol:
    """A symbol of a code or data section. SIZE may be 0."""

    name: str
    address: int
    size: int
    kind: str
    section: int

    @property
    def end(self) -> int:
        """One past the last byte."""
        return self.address + self.size


@dataclass(frozen=True)
class Section:
    """An allocated section with its bytes (none for .bss)."""

    name: str
    index: int
    address: int
    size: int
    executable: bool
    writable: bool
    data: bytes = field(repr=False)

    @property
    def end(self) -> int:
        """One past the last byte."""
        return self.address + self.size

    @property
    def boot(self) -> bool:
        """Does it run before long mode?"""
        return self.name.startswith(BOOT_SECTIONS)


@dataclass
class Image:
    """A linked ELF file, read into memory."""

    path: Path
    segments: list[Any]
    sections: list[Section]
    section_names: list[str]
    symbols: list[Symbol]
    undefined: list[str]
    defined: set[str]

    @classmethod
    def load(cls, path: Path) -> Image:
        """Read PATH; elftools' ELFError if it is no ELF file."""
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            sections = [
                Section(
                    part.name,
                    index,
                    part["sh_addr"],
                    part["sh_size"],
                    bool(part["sh_flags"] & SH_FLAGS.SHF_EXECINSTR),
                    bool(part["sh_flags"] & SH_FLAGS.SHF_WRITE),
                    b"" if part["sh_type"] == "SHT_NOBITS" else part.data(),
                )
                for index, part in enumerate(elf.iter_sections())
                if part["sh_flags"] & SH_FLAGS.SHF_ALLOC and part["sh_size"]
            ]
            table = elf.get_section_by_name(".symtab")
            entries = list(table.iter_symbols()) if isinstance(table, SymbolTableSection) else []
            return cls(
                path=path,
                segments=[segment.header for segment in elf.iter_segments()],
                sections=sections,
                section_names=[part.name for part in elf.iter_sections()],
                symbols=sorted(
                    (
                        Symbol(
                            entry.name,
                            entry["st_value"],
                            entry["st_size"],
                            entry["st_info"]["type"],
                            entry["st_shndx"],
                        )
                        for entry in entries
                        if isinstance(entry["st_shndx"], int) and entry.name
                    ),
                    key=lambda symbol: (symbol.address, -symbol.size),
                ),
                undefined=[
                    entry.name
                    for entry in entries
                    if entry["st_shndx"] == "SHN_UNDEF" and entry.name
                ],
                defined={entry.name for entry in entries if entry["st_shndx"] != "SHN_UNDEF"},
            )

    @cached_property
    def code_symbols(self) -> list[Symbol]:
        """Symbols at bytes of executable sections, by address; at one address the largest first."""
        code = {section.index: section for section in self.sections if section.executable}
        return [
            symbol
            for symbol in self.symbols
            if symbol.section in code
            and symbol.kind in {"STT_FUNC", "STT_NOTYPE"}
            and code[symbol.section].address <= symbol.address < code[symbol.section].end
        ]

    @cached_property
    def functions(self) -> list[Symbol]:
        """Sized functions by address, one for each address."""
        sized = (symbol for symbol in self.code_symbols if symbol.size)
        return list({symbol.address: symbol for symbol in reversed(list(sized))}.values())[::-1]

    def function_at(self, address: int) -> Symbol | None:
        """The sized function whose bytes include ADDRESS."""
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0 or address >= self.functions[index].end:
            return None
        return self.functions[index]

    @cached_property
    def _starts(self) -> list[int]:
        return [function.address for function in self.functions]

    def name_of(self, address: int) -> str:
        """ADDRESS as symbol+offset, for messages."""
        before = [symbol.address for symbol in self.code_symbols if symbol.address <= address]
        if not before:
            return f"{address:#x}"
        nearest = self.code_symbols[bisect.bisect_left(before, before[-1])]
        base = self.function_at(address) or nearest
        offset = address - base.address
        return f"{base.name}+{offset:#x}" if offset else base.name

    def address_of(self, name: str) -> int | None:
        """The address of symbol NAME, None if there is none."""
        return next((symbol.address for symbol in self.symbols if symbol.name == name), None)

    def section_at(self, address: int) -> Section | None:
        """The section whose bytes include ADDRESS."""
        holds = (part for part in self.sections if part.address <= address < part.end)
        return next(holds, None)

    def words_at(self, address: int) -> list[int]:
        """The 8-byte words from ADDRESS to the end of its section."""
        section = self.section_at(address)
        if section is None:
            return []
        data = section.data[address - section.address :]
        return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data) - 7, 8)]

    @cached_property
    def instructions(self) -> dict[int, Any]:
        """Every instruction by address. Decoding starts afresh at each symbol: data between two
        functions cannot put it out of step.
        """
        decoded: dict[int, Any] = {}
        for section in self.sections:
            if not section.executable:
                continue
            decoder = Cs(CS_ARCH_X86, CS_MODE_32 if section.boot else CS_MODE_64)
            decoder.detail = True
            decoder.skipdata = True
            starts = {
                symbol.address
                for symbol in self.code_symbols
                if section.address <= symbol.address < section.end
            }
            edges = sorted(starts | {section.address, section.end})
            pieces = list(itertools.pairwise(edges))
            for start, end in counted(pieces, "decoding functions"):
                piece = section.data[start - section.address : end - section.address]
                decoded.update((insn.address, insn) for insn in decoder.disasm(piece, start))
        return decoded

    @cached_property
    def addresses(self) -> list[int]:
        """The instructions' addresses, ascending."""
        return sorted(self.instructions)

    def is_boot(self, address: int) -> bool:
        """Is ADDRESS in a section that runs before long mode?"""
        section = self.section_at(address)
        return section is not None and section.boot

    @cached_property
    def element_sizes(self) -> dict[int, int]:
        """Address -> bytes of an element, for each global array that the debug information has."""
        with self.path.open("rb") as stream:
            elf = ELFFile(stream)
            return dict(array_elements(elf)) if elf.has_dwarf_info() else {}
