# SPDX-License-Identifier: MIT
"""Loader information and ACPI tables as bytes, and the program that runs the parsers on them."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import host_c

PVH, MULTIBOOT2, ACPI = 1, 2, 3
USABLE, RESERVED, RECLAIM, NVS, BAD, KERNEL, MODULE, TRAMPOLINE = range(1, 9)
PAGE = 0x1000
KERNEL_START, KERNEL_END = 0x1000000, 0x1020000

SOURCES = [
    *(f"boot/{name}.c" for name in ("collect", "memmap", "multiboot2", "pvh", "rsdp")),
    *(f"kernel/arch/{name}.c" for name in ("acpi", "acpi_fadt", "acpi_madt")),
]

Range = tuple[int, int, int]
"""Base, length and type, as E820 has them."""


class ParserCrashError(Exception):
    """The parsers' process ended: a sanitizer's report, or an endless loop."""


class Runner:
    """The parsers in a host process with sanitizers; one for many cases."""

    def __init__(self, folder: Path, edit: tuple[str, str, str] | None = None) -> None:
        """Build in FOLDER. EDIT plants a fault: in this source, this text becomes that."""
        sources = [host_c.TOP / name for name in SOURCES]
        if edit is not None:
            name, old, new = edit
            text = (host_c.TOP / name).read_text()
            assert text.count(old) == 1, f"{name} has changed: update the planted fault"
            planted = folder / Path(name).name
            planted.write_text(text.replace(old, new))
            sources[SOURCES.index(name)] = planted
        sources.append(host_c.TOP / "tests/unit/boot_runner.c")
        binary = host_c.program(folder / "boot_runner", sources)
        self._errors = (folder / "errors").open("w+")
        self._process = subprocess.Popen(
            [binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
        )

    def run(self, kind: int, address: int, blobs: dict[int, bytes]) -> dict[str, Any]:
        """Parse what is at ADDRESS in a memory of BLOBS by base; raises ParserCrashError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        case = struct.pack("<IIQQQ", kind, len(blobs), address, KERNEL_START, KERNEL_END)
        for base, content in blobs.items():
            case += struct.pack("<QQ", base, len(content)) + content
        try:
            self._process.stdin.write(case)
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise ParserCrashError(self._last_words()) from error
        line = self._process.stdout.readline()
        if not line:
            raise ParserCrashError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        return self._errors.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._errors.close()


@dataclass
class Machine:
    """What a loader would say of a machine; the defaults boot."""

    ranges: list[Range] = field(
        default_factory=lambda: [(0, 0x9FC00, USABLE), (0x100000, 0xFF00000, USABLE)]
    )
    modules: list[tuple[int, int]] = field(default_factory=lambda: [(0x2000000, 0x2345)])
    cmdline: bytes | None = b"verbose"
    rsdp: bytes = b""

    INFO = 0x5000
    MODULES = 0x6000
    RANGES = 0x7000
    CMDLINE = 0x9000
    RSDP = 0xA000

    def memory(self) -> dict[int, bytes]:
        """Return the bytes that lie in memory whatever the loader: the modules and a bare BIOS."""
        memory = {base: bytes(size) for base, size in self.modules if size < 1 << 20}
        memory[0x40E] = bytes(2)
        return memory

    def pvh(self) -> tuple[int, dict[int, bytes]]:
        """Return the address of the PVH start information, and the memory around it."""
        memory = self.memory()
        memory[self.MODULES] = b"".join(
            struct.pack("<QQQQ", base, size, 0, 0) for base, size in self.modules
        )
        memory[self.RANGES] = b"".join(
            struct.pack("<QQII", base, length, kind, 0) for base, length, kind in self.ranges
        )
        memory[self.RSDP] = self.rsdp.ljust(36, b"\0")
        if self.cmdline is not None:
            memory[self.CMDLINE] = self.cmdline + b"\0"
        memory[self.INFO] = struct.pack(
            "<IIIIQQQQII", 0x336EC578, 1, 0, len(self.modules), self.MODULES,
            0 if self.cmdline is None else self.CMDLINE, self.RSDP if self.rsdp else 0,
            self.RANGES, len(self.ranges), 0,
        )  # fmt: skip
        return self.INFO, memory

    def multiboot2(self, entry_size: int = 24) -> tuple[int, dict[int, bytes]]:
        """Return the address of the Multiboot2 information, and the memory around it."""
        entries = b"".join(
            struct.pack("<QQII", base, length, kind, 0).ljust(entry_size, b"\xaa")
            for base, length, kind in self.ranges
        )
        tags = [tag(2, b"GRUB\0"), tag(6, struct.pack("<II", entry_size, 0) + entries)]
        if self.cmdline is not None:
            tags.append(tag(1, self.cmdline + b"\0"))
        if self.rsdp:
            tags.append(tag(15 if len(self.rsdp) > 20 else 14, self.rsdp))
        tags += [
            tag(3, struct.pack("<II", base, base + size) + b"\0") for base, size in self.modules
        ]
        body = b"".join(tags) + tag(0, b"")
        memory = self.memory()
        memory[self.INFO] = struct.pack("<II", 8 + len(body), 0) + body
        return self.INFO, memory


def tag(kind: int, content: bytes) -> bytes:
    """Return a Multiboot2 tag, padded to 8 bytes."""
    size = 8 + len(content)
    return (struct.pack("<II", kind, size) + content).ljust(-(-size // 8) * 8, b"\0")


def summed(table: bytes, at: int = 9) -> bytes:
    """Set the byte AT so that all add up to zero."""
    rest = table[:at] + b"\0" + table[at + 1 :]
    return rest[:at] + bytes([-sum(rest) & 0xFF]) + rest[at + 1 :]


def table(signature: bytes, body: bytes, revision: int = 1) -> bytes:
    """Return an ACPI table with its header."""
    header = struct.pack(
        "<4sIBB6s8sI4sI", signature, 36 + len(body), revision, 0, b"ONESTK", b"TESTTEST", 1,
        b"TEST", 1,
    )  # fmt: skip
    return summed(header + body)


def rsdp(rsdt: int, xsdt: int | None = None) -> bytes:
    """Return a root pointer of revision 0, or 2 with an XSDT."""
    first = struct.pack("<8sB6sBI", b"RSD PTR ", 0, b"ONESTK", 0 if xsdt is None else 2, rsdt)
    first = summed(first, at=8)
    if xsdt is None:
        return first
    return summed(first + struct.pack("<IQI", 36, xsdt, 0), at=32)


def lapic(uid: int, apic_id: int, enabled: bool = True) -> bytes:
    """Return the MADT's entry of a processor."""
    return struct.pack("<BBBBI", 0, 8, uid, apic_id, int(enabled))


def ioapic(number: int, address: int, gsi_base: int) -> bytes:
    """Return the MADT's entry of an I/O APIC."""
    return struct.pack("<BBBBII", 1, 12, number, 0, address, gsi_base)


def override(irq: int, gsi: int, flags: int, bus: int = 0) -> bytes:
    """Return the MADT's entry of an interrupt that is wired otherwise."""
    return struct.pack("<BBBBIH", 2, 10, bus, irq, gsi, flags)


def lapic_nmi(uid: int, flags: int, lint: int) -> bytes:
    """Return the MADT's entry of the pin that NMI comes in on."""
    return struct.pack("<BBBHB", 4, 6, uid, flags, lint)


def madt(*entries: bytes) -> bytes:
    """Return a MADT of these entries."""
    return table(b"APIC", struct.pack("<II", 0xFEE00000, 1) + b"".join(entries))


def fadt(dsdt: int, sci: int = 9, flags: int = 0) -> bytes:
    """Return a FADT like QEMU's q35."""
    body = bytearray(116 - 36)
    struct.pack_into("<I", body, 40 - 36, dsdt)
    struct.pack_into("<HIBB", body, 46 - 36, sci, 0xB2, 2, 3)
    struct.pack_into("<IIII", body, 56 - 36, 0x600, 0, 0x604, 0)
    struct.pack_into("<BB", body, 88 - 36, 4, 2)
    struct.pack_into("<I", body, 112 - 36, flags)
    return table(b"FACP", bytes(body), revision=3)


S5 = b"\x08_S5_\x12\x06\x04\x0a\x05\x01\x00\x00"
"""Name (_S5_, Package (4) {5, 1, 0, 0}) in AML."""


@dataclass
class Tables:
    """A set of ACPI tables in memory; the defaults are good."""

    madt: bytes = field(
        default_factory=lambda: madt(
            lapic(0, 0), lapic(1, 4), ioapic(2, 0xFEC00000, 0), override(0, 2, 0),
            override(9, 9, 0xD), lapic_nmi(0xFF, 0, 1),
        )
    )  # fmt: skip
    fadt: bytes = field(default_factory=lambda: fadt(0x53000))
    dsdt: bytes = field(default_factory=lambda: table(b"DSDT", b"\x10\x20" + S5))
    xsdt: bool = False

    RSDP = 0xE0000
    ROOT = 0x50000

    def memory(self) -> tuple[int, dict[int, bytes]]:
        """Return the address of the RSDP, and the memory with all tables."""
        places = (0x51000, 0x52000)
        entries = b"".join(struct.pack("<Q" if self.xsdt else "<I", place) for place in places)
        root = table(b"XSDT" if self.xsdt else b"RSDT", entries)
        pointer = rsdp(0, self.ROOT) if self.xsdt else rsdp(self.ROOT).ljust(36, b"\0")
        return self.RSDP, {
            self.RSDP: pointer, self.ROOT: root, 0x51000: self.fadt, 0x52000: self.madt,
            0x53000: self.dsdt,
        }  # fmt: skip
