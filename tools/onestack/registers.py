# SPDX-License-Identifier: MIT
"""A CPU's registers as the gdbstub sends them, and the few bits of x86 that judge them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from onestack.errors import ProtocolError

GENERAL = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
FLAG_IF = 1 << 9
FLAG_RF = 1 << 16
EFER_LMA = 1 << 10


@dataclass(frozen=True)
class Field:
    """Where a register lies in the answer to `g`, and its number for `p` and `P`."""

    number: int
    offset: int
    size: int


Layout = dict[str, Field]


def name_in(name: str, registers: Mapping[str, int]) -> str:
    """What a register is called in the mode that the CPU is in: `eax` outside long mode."""
    legacy = name in GENERAL[:8] and not registers.get("efer", EFER_LMA) & EFER_LMA
    return f"e{name[1:]}" if legacy else name


def layout_from_xml(fetch: Callable[[str], str]) -> Layout:
    """Make the layout of `g` from target.xml and what it includes.

    `fetch` brings an annex by its name. ProtocolError if it is not such a description.
    """
    layout: Layout = {}
    number = offset = 0
    try:
        for reg in _registers(fetch, "target.xml"):
            number = int(reg.get("regnum", number))
            size = int(reg.attrib["bitsize"]) // 8
            layout[reg.attrib["name"]] = Field(number, offset, size)
            offset += size
            number += 1
    except (ET.ParseError, KeyError, ValueError) as error:
        raise ProtocolError(f"cannot read the target description: {error}") from error
    if "rip" not in layout:
        raise ProtocolError(
            "the target description has no rip", "Use qemu-system-x86_64, for 32-bit guests too"
        )
    return layout


def _registers(fetch: Callable[[str], str], annex: str) -> Iterator[ET.Element]:
    # target.xml uses the xi: prefix without declaring it
    text = fetch(annex).replace("<xi:include", "<include")
    root = ET.fromstring(text)
    for node in root.iter():
        if node.tag == "include":
            yield from _registers(fetch, node.attrib["href"])
        elif node.tag == "reg":
            yield node


class Registers(Mapping[str, int]):
    """All registers of one CPU at one moment, by the names of the target description.

    Values are unsigned. A register that the stub does not know is absent.
    """

    __slots__ = ("_layout", "_raw")

    def __init__(self, layout: Layout, raw: bytes) -> None:
        self._layout = layout
        self._raw = raw

    def __getitem__(self, name: str) -> int:
        """The value of a register; KeyError for an unknown name."""
        field = self._layout[name]
        return int.from_bytes(self._raw[field.offset : field.offset + field.size], "little")

    def __iter__(self) -> Iterator[str]:
        """The names, in the order of the target description."""
        size = len(self._raw)
        return (name for name, field in self._layout.items() if field.offset + field.size <= size)

    def __len__(self) -> int:
        """How many registers the stub sent."""
        return sum(1 for _ in self)

    @property
    def pc(self) -> int:
        """The address of the next instruction (segment bases are not added)."""
        return self["rip"]

    @property
    def sp(self) -> int:
        """The stack pointer."""
        return self["rsp"]

    @property
    def cpl(self) -> int:
        """The current privilege level, 0 to 3."""
        return self["cs"] & 3

    @property
    def interrupts(self) -> bool:
        """RFLAGS.IF."""
        return bool(self["eflags"] & FLAG_IF)

    def changed(self, before: Mapping[str, int], names: Iterable[str]) -> list[str]:
        """Those of `names` that differ from `before`, in their order."""
        return [name for name in names if self[name] != before[name]]

    def dump(self) -> str:
        """General, segment, base and control registers as a few lines of text."""
        base = ("fs_base", "gs_base", "k_gs_base")
        control = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer")
        rows = [GENERAL[i : i + 4] for i in range(0, 16, 4)]
        rows += [("rip", "eflags"), SEGMENTS, base, control]
        lines = []
        for row in rows:
            width = 4 if row is SEGMENTS else 16
            lines.append("  ".join(f"{n:>6} {self[n]:0{width}x}" for n in row if n in self))
        return "\n".join(lines)
