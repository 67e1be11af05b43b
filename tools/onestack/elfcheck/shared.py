# SPDX-License-Identifier: MIT
"""What several cores write lies in a section of its own, each object alone on its cache lines."""

from __future__ import annotations

import itertools

from onestack.elfcheck.image import Image, Violation
from onestack.elfcheck.insn import static_address

START, END = "__shared_start", "__shared_end"
"""The linker script's symbols around that section. An image without them is not checked."""

CACHE_LINE = 64


def check_shared(image: Image) -> list[Violation]:
    """Alone on its lines; and no locked instruction names a variable elsewhere."""
    start, end = image.address_of(START), image.address_of(END)
    if start is None or end is None:
        return []
    return _neighbours(image, start, end) + _strays(image, start, end)


def _neighbours(image: Image, start: int, end: int) -> list[Violation]:
    objects = [s for s in image.symbols if s.size and start <= s.address < end]
    found = [
        Violation("shared", one.name, "does not begin a cache line")
        for one in objects
        if one.address % CACHE_LINE
    ]
    found += [
        Violation("shared", after.name, f"lies on a cache line of {before.name}")
        for before, after in itertools.pairwise(objects)
        if after.address < -(-before.end // CACHE_LINE) * CACHE_LINE
    ]
    if end % CACHE_LINE:
        found.append(Violation("shared", END, "what follows lies on the last one's cache line"))
    return found


def _strays(image: Image, start: int, end: int) -> list[Violation]:
    """Who locks the bus means other cores. Addresses that are computed cannot be told."""
    found = []
    for address, insn in image.instructions.items():
        if not (insn.mnemonic.startswith("lock ") or insn.mnemonic == "xchg"):
            continue
        for place in (static_address(insn, operand) for operand in insn.operands):
            section = image.section_at(place) if place is not None else None
            if place is None or section is None or not section.writable or start <= place < end:
                continue
            names = [s.name for s in image.symbols if s.address <= place < s.end]
            what = f"{insn.mnemonic} on {names[0] if names else hex(place)}, which is not declared"
            found.append(Violation("shared", image.name_of(address), what))
    return found
