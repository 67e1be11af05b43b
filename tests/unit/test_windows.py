# SPDX-License-Identifier: MIT
"""What the plugin that watches IF is told, and what is read of its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import TOY
from onestack import windows
from onestack.elf import Image
from onestack.errors import UsageError
from onestack.windows import Kind, Place, Watcher


def test_marks_of_vectors() -> None:
    marks = windows.vector_marks(range(100, 356))
    assert marks["excused"] == {102, 118}
    assert marks["irq"] == set(range(132, 356))
    assert len(marks["trap"]) == 30


def test_instructions_by_their_memory_operand() -> None:
    image = Image(TOY)
    symbols = [s for s in image.symbols if s.code and s.size]
    moves = [
        instruction
        for s in symbols
        for instruction in image.disassemble(s.address, s.address + s.size)
        if instruction.mnemonic == "mov" and instruction.operands.endswith("[rsp + 8]")
    ]
    found = windows.memory_users(image, 8, ("mov",))
    assert found >= {instruction.address for instruction in moves}
    assert not windows.memory_users(image, 8, ("bswap",))


def test_a_mark_that_the_plugin_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such mark: exit"):
        Watcher({"exit": {1}}, tmp_path)


def test_the_longest_comes_first(tmp_path: Path) -> None:
    watcher = Watcher({"irq": {1}}, tmp_path)
    short, long = Place(Kind.WINDOW, 16, 0, 20, 3, 9), Place(Kind.WINDOW, 8, 0, 40, 7, 1)
    rows = (long, short, Place(Kind.RECORD, 1, 1, 1, 5, 1))
    free = bytes(windows.PLACE.size)
    packed = [windows.PLACE.pack(p.kind, p.first, p.path, p.last, p.longest, p.count) for p in rows]
    head = windows.HEAD.pack(1000, 2, 0, 0)
    (tmp_path / "windows").write_bytes(head + packed[1] + free + packed[2] + packed[0])
    found = watcher.windows()
    assert found.of(Kind.WINDOW) == [long, short]
    assert found.longest(Kind.WINDOW) == long
    assert (found.instructions, found.interrupts, found.contradictions) == (1000, 2, 0)
    with pytest.raises(UsageError, match="no stretch"):
        found.longest(Kind.STRETCH)
    watcher.forget()
    assert not watcher.windows().places


def test_a_table_that_was_too_small(tmp_path: Path) -> None:
    watcher = Watcher({"irq": {1}}, tmp_path)
    (tmp_path / "windows").write_bytes(windows.HEAD.pack(1, 0, 0, 5))
    with pytest.raises(UsageError, match="5 places did not fit"):
        watcher.windows()
