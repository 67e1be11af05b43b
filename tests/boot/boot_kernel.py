# SPDX-License-Identifier: MIT
"""The kernel under test, and its struct bootinfo as seen from outside."""

from __future__ import annotations

import ctypes
from pathlib import Path

from onestack.elf import Images
from onestack.machine import Machine

TOP = Path(__file__).resolve().parents[2]
INIT = TOP / "build/user/init.elf"

PVH, MULTIBOOT2 = 1, 2
USABLE, RESERVED, RECLAIM, NVS, BAD, IMAGE, MODULE, TRAMPOLINE = range(1, 9)


class MemRange(ctypes.Structure):
    """struct mem_range."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("type", ctypes.c_uint32),
    )


class BootModule(ctypes.Structure):
    """struct boot_module."""

    _fields_ = (("base", ctypes.c_uint64), ("size", ctypes.c_uint64))


class BootInfo(ctypes.Structure):
    """struct bootinfo, boot/bootinfo.h."""

    _fields_ = (
        ("protocol", ctypes.c_uint32),
        ("range_count", ctypes.c_uint32),
        ("ranges", MemRange * 128),
        ("module_count", ctypes.c_uint32),
        ("modules", BootModule * 4),
        ("trampoline", ctypes.c_uint64),
        ("rsdp_size", ctypes.c_uint32),
        ("rsdp", ctypes.c_uint8 * 36),
        ("cmdline", ctypes.c_char * 1024),
    )

    def of_type(self, kind: int) -> list[tuple[int, int]]:
        """Return base and length of each range of one type."""
        ranges = self.ranges[: self.range_count]
        return [(each.base, each.length) for each in ranges if each.type == kind]


def run_to(machine: Machine, images: Images, symbol: str) -> None:
    """Run until the boot core is about to execute the function."""
    machine.run_to(images.resolve(symbol), 30.0)


def read_bootinfo(machine: Machine, images: Images) -> BootInfo:
    """What kernel_main gets, where the machine stands at its first instruction."""
    symbol = images.images[0].symbol("bootinfo")
    assert symbol.size == ctypes.sizeof(BootInfo), "boot/bootinfo.h and this file disagree"
    assert machine.gdb.registers()["rdi"] == symbol.address
    return BootInfo.from_buffer_copy(machine.gdb.read(symbol.address, symbol.size))
