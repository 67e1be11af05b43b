# SPDX-License-Identifier: MIT
"""x86-64 page tables, read out of a guest's physical memory (Intel SDM vol. 3, 4.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

PAGE = 4096
ENTRIES = 512
PRESENT, WRITE, USER, LARGE, NO_EXECUTE = 1 << 0, 1 << 1, 1 << 2, 1 << 7, 1 << 63
ADDRESS = 0x000F_FFFF_FFFF_F000
LOWER_HALF_END = 1 << 47

Read = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Region:
    """Neighbouring pages with the same rights on neighbouring frames.

    Rights are those that all levels together grant. `entry` is the physical address of the first
    page's own entry, `size` the page's.
    """

    start: int
    end: int
    physical: int
    writable: bool
    user: bool
    executable: bool
    entry: int
    size: int

    @property
    def kernel_half(self) -> bool:
        """Whether it lies in the upper half of the address space."""
        return self.start >= LOWER_HALF_END

    @property
    def physical_end(self) -> int:
        """One more than the last physical address."""
        return self.physical + self.end - self.start

    def __str__(self) -> str:
        """As `start-end urwx -> physical`."""
        rights = ("u" if self.user else "k") + "r"
        rights += ("w" if self.writable else "-") + ("x" if self.executable else "-")
        return f"{self.start:#018x}-{self.end:#018x} {rights} -> {self.physical:#x}"

    def joins(self, after: Region) -> bool:
        """Whether `after` goes on where this one ends, in every respect."""
        return (
            self.end == after.start
            and self.physical_end == after.physical
            and (self.writable, self.user, self.executable)
            == (after.writable, after.user, after.executable)
        )


def _table(read: Read, at: int) -> list[int]:
    raw = read(at, PAGE)
    return [int.from_bytes(raw[i : i + 8], "little") for i in range(0, PAGE, 8)]


def _walk(read: Read, table: int, level: int, base: int, above: Region) -> Iterator[Region]:
    """Pages below one table. `above` carries the rights of the levels above."""
    size = PAGE << 9 * (level - 1)
    for index, entry in enumerate(_table(read, table)):
        if not entry & PRESENT:
            continue
        start = base + index * size
        if level == 4 and start >= LOWER_HALF_END:
            start |= 0xFFFF << 48
        here = replace(
            above,
            start=start,
            end=start + size,
            physical=entry & ADDRESS & ~(size - 1),
            writable=above.writable and bool(entry & WRITE),
            user=above.user and bool(entry & USER),
            executable=above.executable and not entry & NO_EXECUTE,
            entry=table + index * 8,
            size=size,
        )
        if level == 1 or (level < 4 and entry & LARGE):
            yield here
        else:
            yield from _walk(read, entry & ADDRESS, level - 1, start, here)


def pages(read: Read, cr3: int) -> Iterator[Region]:
    """Every page that the tables map, by address. `read(physical, size)` reads the guest."""
    top = Region(0, 0, 0, writable=True, user=True, executable=True, entry=0, size=0)
    return _walk(read, cr3 & ADDRESS, 4, 0, top)


def regions(read: Read, cr3: int) -> list[Region]:
    """The same, neighbours joined."""
    joined: list[Region] = []
    for page in pages(read, cr3):
        if joined and joined[-1].joins(page):
            joined[-1] = replace(joined[-1], end=page.end)
        else:
            joined.append(page)
    return joined


def entry_address(read: Read, cr3: int, address: int) -> tuple[int, int]:
    """Where the lowest entry for `address` is, in physical memory, and its level, 4 to 1."""
    table, level = cr3 & ADDRESS, 4
    while True:
        at = table + (address >> 12 + 9 * (level - 1) & ENTRIES - 1) * 8
        entry = int.from_bytes(read(at, 8), "little")
        if level == 1 or not entry & PRESENT or (level < 4 and entry & LARGE):
            return at, level
        table, level = entry & ADDRESS, level - 1
