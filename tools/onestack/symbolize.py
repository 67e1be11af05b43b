# SPDX-License-Identifier: MIT
"""Addresses to functions, source lines and inlined calls, and backtraces, from DWARF."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from elftools.dwarf.callframe import FDE, CFARule, RegisterRule
from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.descriptions import describe_form_class
from elftools.dwarf.die import DIE
from elftools.dwarf.dwarfinfo import DWARFInfo
from elftools.dwarf.lineprogram import LineProgram
from elftools.dwarf.ranges import BaseAddressEntry
from elftools.elf.elffile import ELFFile

from onestack.elf import Image, Images
from onestack.errors import OnestackError

MAX_FRAMES = 64
# The numbers that the System V ABI gives to registers in DWARF.
DWARF_REGISTERS = (
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
DWARF_REGISTERS_32 = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")

ReadMemory = Callable[[int, int], bytes]  # (address, size) -> content; GdbError if not mapped


@dataclass(frozen=True)
class SourceLine:
    """A line of a source file."""

    file: str
    line: int

    def __str__(self) -> str:
        """As editors take it."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Place:
    """What is at an address. `inlined` has the functions inlined there, innermost first."""

    address: int
    name: str
    source: SourceLine | None
    inlined: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line: address, function, source, inlined functions."""
        text = f"{self.address:#x} {self.name}"
        if self.inlined:
            text += f" (inlined: {' <- '.join(self.inlined)})"
        return f"{text} at {self.source}" if self.source else text


class _Dwarf:
    """The debugging information of one file, decoded when first asked for."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._info: DWARFInfo = ELFFile(self._file).get_dwarf_info()
        self._lines: list[tuple[int, SourceLine | None]] | None = None
        self._functions: dict[int, list[tuple[range, DIE]]] = {}
        self._fdes: list[FDE] | None = None

    # ---- lines

    def line(self, address: int) -> SourceLine | None:
        """The source line of an instruction."""
        if self._lines is None:
            self._lines = sorted(self._all_lines(), key=lambda row: (row[0], row[1] is not None))
        at = bisect.bisect_right(self._lines, address, key=lambda row: row[0])
        return self._lines[at - 1][1] if at else None

    def _all_lines(self) -> Iterator[tuple[int, SourceLine | None]]:
        """(address, line) where a line begins; (address, None) after the end of a sequence."""
        for unit in self._info.iter_CUs():
            program = self._info.line_program_for_CU(unit)
            if program is None:
                continue
            names = _file_names(program, unit)
            for entry in program.get_entries():
                state = entry.state
                if state is None:
                    continue
                if state.end_sequence:
                    yield state.address, None
                elif state.line:
                    yield state.address, SourceLine(names.get(state.file, "?"), state.line)

    # ---- inlined functions

    def inlined(self, address: int) -> tuple[str, ...]:
        """Functions inlined at `address`, innermost first."""
        chain: list[str] = []
        for unit in self._info.iter_CUs():
            found = False
            for where, die in self._inlines_of(unit):
                if address in where:
                    chain.insert(0, _die_name(die))
                    found = True
            if found:
                break
        return tuple(chain)

    def _inlines_of(self, unit: CompileUnit) -> list[tuple[range, DIE]]:
        """Ranges of all inlined calls of a unit, outer before inner."""
        if unit.cu_offset not in self._functions:
            rows = []
            for die in unit.iter_DIEs():
                if die.tag == "DW_TAG_inlined_subroutine":
                    rows += [(where, die) for where in self._ranges(die)]
            self._functions[unit.cu_offset] = rows
        return self._functions[unit.cu_offset]

    def _ranges(self, die: DIE) -> Iterator[range]:
        attributes = die.attributes
        if "DW_AT_low_pc" in attributes and "DW_AT_high_pc" in attributes:
            low = attributes["DW_AT_low_pc"].value
            high = attributes["DW_AT_high_pc"]
            relative = describe_form_class(high.form) == "constant"
            yield range(low, low + high.value if relative else high.value)
        elif "DW_AT_ranges" in attributes:
            top = die.cu.get_top_DIE().attributes.get("DW_AT_low_pc")
            base = top.value if top else 0
            lists = self._info.range_lists()
            assert lists is not None
            assert isinstance(die.cu, CompileUnit)
            for entry in lists.get_range_list_at_offset(attributes["DW_AT_ranges"].value, die.cu):
                if isinstance(entry, BaseAddressEntry):
                    base = entry.base_address
                else:
                    offset = 0 if getattr(entry, "is_absolute", False) else base
                    yield range(offset + entry.begin_offset, offset + entry.end_offset)

    # ---- frames

    def frame_rule(self, pc: int) -> dict[str | int, CFARule | RegisterRule] | None:
        """The row of the call frame table for `pc`: "cfa" and DWARF register numbers to rules."""
        if self._fdes is None:
            self._fdes = sorted(
                (entry for entry in self._all_frames() if isinstance(entry, FDE)),
                key=lambda fde: fde["initial_location"],
            )
        at = bisect.bisect_right(self._fdes, pc, key=lambda fde: fde["initial_location"])
        if not at:
            return None
        fde = self._fdes[at - 1]
        if pc >= fde["initial_location"] + fde["address_range"]:
            return None
        rows = [row for row in fde.get_decoded().table if row["pc"] <= pc]
        return rows[-1] if rows else None

    def _all_frames(self) -> Iterator[object]:
        if self._info.has_CFI():
            yield from self._info.CFI_entries()
        if self._info.has_EH_CFI():
            yield from self._info.EH_CFI_entries()


def _file_names(program: LineProgram, unit: CompileUnit) -> dict[int, str]:
    """Number -> path of the files of a line program, as far as known relative to the build."""
    header = program.header
    version5 = header.version >= 5
    folders = [folder.decode() for folder in header.include_directory]
    if not version5:
        where = unit.get_top_DIE().attributes.get("DW_AT_comp_dir")
        folders.insert(0, where.value.decode() if where else "")
    names = {}
    for number, entry in enumerate(header.file_entry, 0 if version5 else 1):
        folder = folders[entry.dir_index] if entry.dir_index < len(folders) else ""
        inside = entry.dir_index and folder
        names[number] = str(Path(folder if inside else "") / entry.name.decode())
    return names


def _die_name(die: DIE) -> str:
    """The name of a function, through its abstract origin."""
    for link in ("DW_AT_abstract_origin", "DW_AT_specification"):
        if "DW_AT_name" not in die.attributes and link in die.attributes:
            return _die_name(die.get_DIE_from_attribute(link))
    name = die.attributes.get("DW_AT_name")
    return name.value.decode() if name else "?"


class Symbolizer:
    """Names addresses and walks stacks of a guest made of some ELF files."""

    def __init__(self, images: Images) -> None:
        self.images = images
        self._dwarf: dict[Path, _Dwarf] = {}

    def _dwarf_of(self, image: Image | None) -> _Dwarf | None:
        if image is None or not image.has_dwarf:
            return None
        if image.path not in self._dwarf:
            self._dwarf[image.path] = _Dwarf(image.path)
        return self._dwarf[image.path]

    def line(self, address: int) -> SourceLine | None:
        """The source line of an instruction; quicker than place()."""
        dwarf = self._dwarf_of(self.images.image_at(address))
        return dwarf.line(address) if dwarf else None

    def place(self, address: int) -> Place:
        """Name an address as well as the files allow."""
        dwarf = self._dwarf_of(self.images.image_at(address))
        source = dwarf.line(address) if dwarf else None
        inlined = dwarf.inlined(address) if dwarf else ()
        return Place(address, self.images.name(address), source, inlined)

    def backtrace(self, registers: Mapping[str, int], read: ReadMemory) -> list[Place]:
        """The call chain from `registers` outwards.

        By .debug_frame or .eh_frame where they cover the code, else by frame pointers; it ends
        where neither leads on. A return address is shown as the call before it.
        """
        state = dict(registers)
        frames = [self.place(state["rip"])]
        while len(frames) < MAX_FRAMES:
            caller = self._caller(state, read, first=len(frames) == 1)
            if caller is None:
                break
            image = self.images.image_at(caller["rip"] - 1)
            if image is None or not image.is_code(caller["rip"] - 1):
                break
            state = caller
            frames.append(self.place(state["rip"] - 1))
        return frames

    def _caller(
        self, state: dict[str, int], read: ReadMemory, *, first: bool
    ) -> dict[str, int] | None:
        """The caller's registers, as far as they can be told."""
        pc = state["rip"] if first else state["rip"] - 1
        dwarf = self._dwarf_of(self.images.image_at(pc))
        rule = dwarf.frame_rule(pc) if dwarf else None
        try:
            image = self.images.image_at(pc)
            word = image.bits // 8 if image else 8
            if rule is not None:
                return _unwind(state, rule, read, word)
            return _by_frame_pointer(state, read, word)
        except OnestackError:
            return None  # the stack is not readable there


def _unwind(
    state: dict[str, int],
    rule: Mapping[str | int, CFARule | RegisterRule],
    read: ReadMemory,
    word: int,
) -> dict[str, int] | None:
    """Apply one row of a call frame table. `word` is the size of an address in bytes."""
    names = DWARF_REGISTERS if word == 8 else DWARF_REGISTERS_32
    return_address = len(names)
    cfa_rule = rule["cfa"]
    if not isinstance(cfa_rule, CFARule) or cfa_rule.reg is None or cfa_rule.offset is None:
        return None  # a DWARF expression, as in PLT entries: none in a kernel
    cfa = state[names[cfa_rule.reg]] + cfa_rule.offset
    caller = dict(state)
    caller["rsp"] = cfa
    for number, how in rule.items():
        if not isinstance(number, int) or not isinstance(how, RegisterRule):
            continue
        if how.type == RegisterRule.OFFSET and isinstance(how.arg, int):
            value = int.from_bytes(read(cfa + how.arg, word), "little")
            caller["rip" if number == return_address else names[number]] = value
    return caller if return_address in rule else None


def _by_frame_pointer(state: dict[str, int], read: ReadMemory, word: int) -> dict[str, int] | None:
    """Take rbp for a frame pointer if it looks like one: aligned, above the stack pointer."""
    frame = state["rbp"]
    if frame % word or not 0 <= frame - state["rsp"] < 1 << 16:
        return None
    content = read(frame, 2 * word)
    up, back = (int.from_bytes(content[i : i + word], "little") for i in (0, word))
    return {**state, "rbp": up, "rsp": frame + 2 * word, "rip": back}
