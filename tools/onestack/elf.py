# SPDX-License-Identifier: MIT
"""ELF files: symbols, code, disassembly."""

from __future__ import annotations

import bisect
import difflib
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import capstone
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from onestack.errors import UsageError

MAX_INSTRUCTION = 15  # bytes
LOCATION = re.compile(
    r"^(?:(?P<image>[^!]+)!)?(?P<name>[^+]+?)(?:\+(?P<offset>0x[0-9a-fA-F]+|\d+))?$"
)


class ElfError(UsageError):
    """A file is no ELF file, or lacks what is asked of it."""


class SymbolError(UsageError):
    """There is no such symbol."""


@dataclass(frozen=True)
class Symbol:
    """A symbol with an address; `size` is 0 if the file does not tell it."""

    name: str
    address: int
    size: int
    code: bool


@dataclass(frozen=True)
class Instruction:
    """A disassembled instruction."""

    address: int
    data: bytes
    mnemonic: str
    operands: str

    @property
    def text(self) -> str:
        """As an assembler would write it (Intel syntax)."""
        return f"{self.mnemonic} {self.operands}".rstrip()

    @property
    def end(self) -> int:
        """The address of the next instruction in memory."""
        return self.address + len(self.data)

    @property
    def repeats(self) -> bool:
        """Whether it has a `rep` prefix and can stop half way."""
        return self.mnemonic.startswith("rep")


@dataclass(frozen=True)
class _Segment:
    address: int
    size: int
    data: bytes
    executable: bool


class Image:
    """One ELF file, read once.

    `name` is what locations call it (`name!symbol`). ElfError if it cannot be read.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        self.path = path
        self.name = name or path.stem
        try:
            with path.open("rb") as file:
                elf = ELFFile(file)
                self.bits: int = elf.elfclass
                self.entry: int = elf.header.e_entry
                self.has_dwarf: bool = elf.has_dwarf_info()
                self._segments = [
                    _Segment(s["p_vaddr"], s["p_memsz"], s.data(), bool(s["p_flags"] & 1))
                    for s in elf.iter_segments("PT_LOAD")
                ]
                self.symbols = _read_symbols(elf)
        except OSError as error:
            raise ElfError(f"cannot read {path}: {error.strerror}") from error
        except ELFError as error:
            raise ElfError(f"{path} is no ELF file: {error}") from error
        self.by_name = {symbol.name: symbol for symbol in reversed(self.symbols)}
        self._addresses = [symbol.address for symbol in self.symbols]

    def symbol(self, name: str) -> Symbol:
        """Look a symbol up by name. SymbolError names near matches."""
        found = self.by_name.get(name)
        if found is None:
            raise _no_symbol(name, self.by_name, str(self.path))
        return found

    def lookup(self, address: int) -> Symbol | None:
        """The nearest symbol at or before `address`: a label, or one whose size covers it."""
        at = bisect.bisect_right(self._addresses, address)
        if not self.contains(address):
            return None
        for symbol in reversed(self.symbols[max(0, at - 8) : at]):
            if not symbol.size or address < symbol.address + symbol.size:
                return symbol
        return None

    def contains(self, address: int) -> bool:
        """Whether a loaded segment covers `address`."""
        return any(s.address <= address < s.address + s.size for s in self._segments)

    def bytes_at(self, address: int, size: int) -> bytes:
        """What the file loads at `address`: up to `size` bytes, fewer at the segment's end."""
        for segment in self._segments:
            if segment.address <= address < segment.address + len(segment.data):
                return segment.data[address - segment.address :][:size]
        return b""

    def code(self) -> Iterator[tuple[int, bytes]]:
        """(address, content) of each executable segment."""
        return ((s.address, s.data) for s in self._segments if s.executable)

    def disassemble(self, start: int, end: int) -> list[Instruction]:
        """The instructions from `start` up to `end`; stops at bytes that are none."""
        code = self.bytes_at(start, end - start)
        return list(disassemble(code, start, self.bits))

    def is_code(self, address: int) -> bool:
        """Whether `address` is in an executable segment."""
        return any(
            s.executable and s.address <= address < s.address + len(s.data) for s in self._segments
        )


def _read_symbols(elf: ELFFile) -> list[Symbol]:
    """All named symbols of sections, by address; of several at one a sized one comes last."""
    found = []
    for table in elf.iter_sections():
        if not isinstance(table, SymbolTableSection):
            continue
        for entry in table.iter_symbols():
            kind = entry["st_info"]["type"]
            placed = entry["st_shndx"] not in ("SHN_UNDEF", "SHN_ABS")
            if entry.name and placed and kind in ("STT_FUNC", "STT_OBJECT", "STT_NOTYPE"):
                code = kind == "STT_FUNC"
                found.append(Symbol(entry.name, entry["st_value"], entry["st_size"], code))
    return sorted(found, key=lambda s: (s.address, s.size > 0, s.name))


def _no_symbol(name: str, known: Sequence[str] | dict[str, Symbol], where: str) -> SymbolError:
    if not known:
        return SymbolError(f"{where} has no symbols", "Give an unstripped file, or addresses")
    near = difflib.get_close_matches(name, known, 3, 0.6)
    remedy = f"Did you mean {', '.join(near)}?" if near else ""
    return SymbolError(f"no symbol {name!r} in {where}", remedy)


@functools.cache
def _decoder(bits: int) -> capstone.Cs:
    mode = capstone.CS_MODE_64 if bits == 64 else capstone.CS_MODE_32
    return capstone.Cs(capstone.CS_ARCH_X86, mode)


def disassemble(code: bytes, address: int, bits: int = 64) -> Iterator[Instruction]:
    """Disassemble `code` as if it were at `address`."""
    for found in _decoder(bits).disasm(code, address):
        yield Instruction(found.address, bytes(found.bytes), found.mnemonic, found.op_str)


class Images:
    """Several ELF files that share the guest: a kernel and its user programs."""

    def __init__(self, images: Sequence[Image]) -> None:
        self.images = list(images)

    @classmethod
    def load(cls, *paths: Path) -> Images:
        """Read the files."""
        return cls([Image(path) for path in paths])

    def resolve(self, location: str | int) -> int:
        """Turn `symbol`, `symbol+0x10`, `image!symbol` or a number (0x…) into an address."""
        if isinstance(location, int):
            return location
        text = location.strip()
        try:
            return int(text, 0)
        except ValueError:
            pass
        parts = LOCATION.match(text)
        if parts is None:
            raise UsageError(f"not a location: {location!r}", "Write symbol, symbol+0x10 or 0x…")
        name = parts["name"]
        images = [i for i in self.images if parts["image"] in (None, i.name)]
        if not images:
            known = ", ".join(image.name for image in self.images)
            raise UsageError(f"no image {parts['image']!r}", f"There are: {known}")
        for image in images:
            if name in image.by_name:
                return image.by_name[name].address + int(parts["offset"] or "0", 0)
        names = [symbol for image in images for symbol in image.by_name]
        raise _no_symbol(name, names, ", ".join(str(image.path) for image in images))

    def range_of(self, location: str) -> range:
        """Turn `symbol` (its whole size) or `from..to` into a range of addresses."""
        first, separator, last = location.partition("..")
        if separator:
            return range(self.resolve(first), self.resolve(last))
        for image in self.images:
            symbol = image.by_name.get(first.partition("!")[2] or first)
            if symbol is not None:
                if not symbol.size:
                    raise UsageError(f"{first} has no size", f"Write {first}..end")
                return range(symbol.address, symbol.address + symbol.size)
        self.resolve(first)  # for its error
        raise UsageError(f"{first} is an address, not a range", "Write from..to")

    def image_at(self, address: int) -> Image | None:
        """The file of which a loaded segment covers `address`."""
        return next((image for image in self.images if image.contains(address)), None)

    def name(self, address: int) -> str:
        """`symbol+0x10`, or the bare address if no symbol covers it."""
        for image in self.images:
            symbol = image.lookup(address)
            if symbol is not None:
                offset = address - symbol.address
                return f"{symbol.name}+{offset:#x}" if offset else symbol.name
        return f"{address:#x}"

    def instruction(self, address: int) -> Instruction | None:
        """Disassemble the instruction at `address` from the file."""
        image = self.image_at(address)
        if image is None:
            return None
        code = image.bytes_at(address, MAX_INSTRUCTION)
        return next(disassemble(code, address, image.bits), None)
