# SPDX-License-Identifier: MIT
"""The page-table walk and the rules of the audit, on tables made up here."""

from __future__ import annotations

from onestack.audit import check_absent, check_rights
from onestack.pagetables import (
    LARGE,
    NO_EXECUTE,
    PAGE,
    PRESENT,
    USER,
    WRITE,
    Region,
    entry_address,
    regions,
)

KERNEL = 0xFFFFFFFF80000000
ROOT = 0x10000


class Tables:
    """Physical memory with page tables in it."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}
        self.next = ROOT + PAGE

    def read(self, at: int, size: int) -> bytes:
        return b"".join(self.words.get(at + i, 0).to_bytes(8, "little") for i in range(0, size, 8))

    def map(self, address: int, entry: int, level: int = 1, above: int = USER | WRITE) -> None:
        table = ROOT
        for upper in range(4, level, -1):
            at = table + (address >> 12 + 9 * (upper - 1) & 511) * 8
            if at not in self.words:
                self.words[at] = self.next | PRESENT | above
                self.next += PAGE
            table = self.words[at] & 0xFFFFFFFFFF000
        self.words[table + (address >> 12 + 9 * (level - 1) & 511) * 8] = entry

    def regions(self) -> list[Region]:
        return regions(self.read, ROOT)


def test_neighbours_are_joined_and_levels_combined() -> None:
    tables = Tables()
    for i in range(3):
        tables.map(0x400000 + i * PAGE, 0x9000 + i * PAGE | PRESENT | USER)
    tables.map(0x403000, 0x9000 | PRESENT | USER)  # its frame is not the next one
    tables.map(KERNEL, 0x1000000 | PRESENT | WRITE | NO_EXECUTE | LARGE, level=2, above=WRITE)
    tables.map(KERNEL + (1 << 30), 0x40000000 | PRESENT | USER | LARGE, level=3, above=0)
    low, alone, data, gib = tables.regions()
    assert (low.start, low.end, low.physical) == (0x400000, 0x403000, 0x9000)
    assert (low.user, low.writable, low.executable) == (True, False, True)
    assert alone.physical == 0x9000
    assert (data.start, data.end - data.start, data.user) == (KERNEL, 2 << 20, False)
    assert (data.writable, data.executable) == (True, False)
    assert (gib.end - gib.start, gib.user) == (1 << 30, False), "user only if every level says so"


def test_entry_address_is_the_lowest_entry() -> None:
    tables = Tables()
    tables.map(0x400000, 0x9000 | PRESENT)
    at, level = entry_address(tables.read, ROOT, 0x400000)
    assert (tables.words[at], level) == (0x9000 | PRESENT, 1)
    assert entry_address(tables.read, ROOT, 1 << 40) == (ROOT + 2 * 8, 4)


def rules(tables: Tables) -> list[str]:
    return [rule for rule, _ in check_rights(tables.regions())]


def test_rules() -> None:
    tables = Tables()
    tables.map(KERNEL, 0x1000000 | PRESENT)
    tables.map(0x400000, 0x9000 | PRESENT | USER)
    assert rules(tables) == []
    tables.map(0x400000, 0x9000 | PRESENT)
    assert rules(tables) == ["identity"]
    tables.map(0x400000, 0x1000000 | PRESENT | USER | WRITE | NO_EXECUTE)
    assert rules(tables) == ["alias"], "a user may not write the kernel's code either"
    assert [rule for rule, _ in check_absent(tables.regions(), [KERNEL, KERNEL + PAGE])] == [
        "guard"
    ]
