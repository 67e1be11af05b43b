# SPDX-License-Identifier: MIT
"""What the plugin that watches IF must know of Onestack: see tools/onestack/plugins/windows.c."""

from __future__ import annotations

import functools
import struct
from pathlib import Path

from onestack.elf import Image, Images
from onestack.structs import Structs
from onestack.symbolize import Symbolizer
from onestack.windows import Watcher, memory_users, vector_marks

TOP = Path(__file__).resolve().parents[2]
VECTORS = 256
PATHS = ("sys_", "fast_", "continuation_run", "idle")
PANICS = ("panic", "panic_trap", "panic_stop_here")
LAPIC_EOI = 0xFFFFFFFFFEE000B0  # kernel/arch/lapic.h


def looks(kernel: Path, image: Image) -> set[int]:
    """Instructions that ask what is pending: they read core->pending, and the source says so.

    Where the exits do it RSP may stand for the core; they are known by their windows.
    """
    offset = Structs(kernel).offset("core", "pending")
    symbolizer = Symbolizer(Images([image]))
    found = set()
    for address in memory_users(image, offset, ("cmp", "test", "mov", "movzx")):
        source = symbolizer.line(address)
        if source and "pending" in _text(source.file, source.line).lower():
            found.add(address)
    return found


@functools.cache
def _lines(file: str) -> list[str]:
    return (TOP / file).read_text(encoding="utf-8").splitlines()


def _text(file: str, line: int) -> str:
    return _lines(file)[line - 1]


def marks(kernel: Path) -> dict[str, set[int]]:
    """All that the plugin asks for."""
    image = Image(kernel)
    table = image.bytes_at(image.symbol("vector_table").address, VECTORS * 2)
    stubs = image.symbol("vector_stubs").address
    windows = image.symbol("__windows_start").address
    raw = image.bytes_at(windows, image.symbol("__windows_end").address - windows)
    restart = {first for first, _ in struct.iter_unpack("<2Q", raw)}
    names = {symbol.name: symbol.address for symbol in image.symbols}
    return {
        **vector_marks([stubs + distance for distance in struct.unpack(f"<{VECTORS}H", table)]),
        "outermost": {names["ret_to_user_empty"]},
        "restart": restart,
        "record": memory_users(image, LAPIC_EOI, ("mov",)),
        "look": looks(kernel, image) | restart,
        "path": {a for name, a in names.items() if name.startswith(PATHS)},
        "stop": {a for name, a in names.items() if name in PANICS},
    }


def watcher(kernel: Path, folder: Path) -> Watcher:
    """For a machine that boots KERNEL."""
    return Watcher(marks(kernel), folder)
