# SPDX-License-Identifier: MIT
"""The boot module's ELF check: each refusal by name; nothing broken gets through."""

from __future__ import annotations

import ctypes
import struct
from dataclasses import astuple, dataclass, field
from itertools import pairwise

import pytest
from host_c import build
from hypothesis import example, given, settings
from hypothesis import strategies as st

PAGE = 4096
END = 0x7FFFFFFE0000  # of user memory, for the program
R, W, X = 4, 2, 1
SHIM = """
#include <string.h>
#include <sys/mman.h>
#include "kernel/mm/elf_image.h"

uint64_t host_memory;
struct elf_image image;

/* The file ends where the page does, and after it nothing may be touched. */
const char *check(const void *file, uint64_t size, uint64_t end);
const char *check(const void *file, uint64_t size, uint64_t end)
{
    static char *area;
    enum { PAGES = 8 };
    if (!area) {
        area = mmap(0, (PAGES + 1) * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                    -1, 0);
        mprotect(area + PAGES * 4096, 4096, PROT_NONE);
    }
    char *at = area + PAGES * 4096 - size;
    memcpy(at, file, size);
    return elf_read(&image, at, size, end);
}
"""


class Segment(ctypes.Structure):
    """struct elf_segment."""

    _fields_ = [
        *((name, ctypes.c_uint64) for name in ("address", "bytes", "skip", "offset", "file_bytes")),
        ("flags", ctypes.c_uint8),
    ]


class Image(ctypes.Structure):
    """struct elf_image."""

    _fields_ = [("entry", ctypes.c_uint64), ("count", ctypes.c_uint), ("segments", Segment * 8)]


@dataclass
class Load:
    """A program header, in the order of the file."""

    type: int = 1
    flags: int = R | X
    offset: int = 0x1000
    vaddr: int = 0x400000
    paddr: int = 0
    filesz: int = 0x100
    memsz: int = 0x100
    align: int = PAGE


@dataclass
class Elf:
    """A small program, sound unless told otherwise."""

    magic: bytes = b"\x7fELF"
    cls: int = 2
    data: int = 1
    type: int = 2
    machine: int = 62
    entry: int = 0x400010
    phoff: int = 64
    phentsize: int = 56
    phnum: int | None = None
    size: int = 0x2000
    loads: list[Load] = field(
        default_factory=lambda: [Load(), Load(flags=R | W, vaddr=0x402000, memsz=0x5000)]
    )

    def file(self) -> bytes:
        head = struct.pack("<4sBBB9x", self.magic, self.cls, self.data, 1)
        count = len(self.loads) if self.phnum is None else self.phnum
        head += struct.pack(
            "<HHIQQQIHHHHHH",
            self.type,
            self.machine,
            1,
            self.entry,
            self.phoff,
            0,
            0,
            64,
            self.phentsize,
            count,
            0,
            0,
            0,
        )
        table = b"".join(struct.pack("<IIQQQQQQ", *astuple(load)) for load in self.loads)
        return (head + table).ljust(self.size, b"\x90")[: self.size]


@dataclass
class Checker:
    """elf_read() on bytes."""

    lib: ctypes.CDLL

    def __call__(self, file: bytes, end: int = END) -> str | None:
        said = self.lib.check(file, len(file), end)
        return None if said is None else said.decode()

    def image(self) -> Image:
        return Image.in_dll(self.lib, "image")


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Checker:
    sources = ["kernel/mm/elf_image.c"]
    lib = build(tmp_path_factory.mktemp("elf"), sources, SHIM)
    lib.check.argtypes = [ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint64]
    lib.check.restype = ctypes.c_char_p
    return Checker(lib)


def test_sound_program(check: Checker) -> None:
    elf = Elf(loads=[Load(), Load(flags=R | W, vaddr=0x402F00, filesz=0x80, memsz=0x300)])
    assert check(elf.file()) is None
    image = check.image()
    assert (image.entry, image.count) == (0x400010, 2)
    code, data = image.segments[0], image.segments[1]
    assert (code.address, code.bytes, code.skip, code.flags) == (0x400000, PAGE, 0, 5)
    assert (data.address, data.bytes, data.skip, data.flags) == (0x402000, 2 * PAGE, 0xF00, 3)
    assert (data.offset, data.file_bytes) == (0x1000, 0x80)


REFUSED = {
    "too short for an ELF file": [Elf(size=63), Elf(size=0)],
    "not an ELF file": [Elf(magic=b"\x7fELG")],
    "not a 64-bit little-endian ELF file": [Elf(cls=1), Elf(data=2)],
    "not for x86-64": [Elf(machine=3)],
    "not a static executable": [
        Elf(type=3),
        Elf(loads=[Load(), Load(type=2)]),
        Elf(loads=[Load(), Load(type=3)]),
    ],
    "no program headers, or of a wrong size": [Elf(phentsize=32), Elf(phnum=0)],
    "program headers beyond the end of the file": [
        Elf(size=64 + 55),
        Elf(phoff=0x2000 - 111),
        Elf(phoff=(1 << 64) - 56),
        Elf(phnum=0xFFFF),
    ],
    "a segment beyond the end of the file": [
        Elf(size=0x10FF),
        Elf(loads=[Load(offset=(1 << 64) - 0x10)]),
        Elf(loads=[Load(offset=0x2001, filesz=0)]),
        Elf(loads=[Load(filesz=(1 << 64) - 0x1000, memsz=(1 << 64) - 1)]),
    ],
    "a segment larger in the file than in memory": [Elf(loads=[Load(memsz=0xFF)])],
    "a segment outside user memory": [
        Elf(loads=[Load(vaddr=0)]),
        Elf(loads=[Load(vaddr=END - 0xFF)]),
        Elf(loads=[Load(vaddr=0xFFFFFFFF81000000)]),
        Elf(loads=[Load(memsz=(1 << 64) - 0x400000)]),
        Elf(loads=[Load(vaddr=END + PAGE)]),
    ],
    "a segment that cannot be read": [Elf(loads=[Load(flags=X)])],
    "a segment both writable and executable": [Elf(loads=[Load(flags=R | W | X)])],
    "two segments on one page": [
        Elf(loads=[Load(), Load(flags=R | W, vaddr=0x400F00)]),
        Elf(loads=[Load(memsz=0x3000), Load(flags=R, vaddr=0x401000)]),
        Elf(loads=[Load(), Load(flags=R, vaddr=0x3FF000, memsz=0x1001)]),
    ],
    "too many segments": [Elf(loads=[Load(vaddr=0x400000 + i * PAGE) for i in range(9)])],
    "the entry point is in no executable segment": [
        Elf(entry=0x3FFFFF),
        Elf(entry=0x400100),
        Elf(entry=0x402010),
        Elf(entry=0),
        Elf(loads=[Load(memsz=0x200)], entry=0x400100),
        Elf(loads=[Load(type=4)]),
    ],
}


@pytest.mark.parametrize(
    ("elf", "reason"), [(elf, reason) for reason, elves in REFUSED.items() for elf in elves]
)
def test_refused_by_name(check: Checker, elf: Elf, reason: str) -> None:
    assert check(elf.file()) == reason


def sound(image: Image, size: int) -> bool:
    """Whatever was accepted can be loaded without a further look."""
    spans = []
    for segment in image.segments[: image.count]:
        end = segment.address + segment.bytes
        spans.append((segment.address, end))
        if not (
            PAGE <= segment.address < end <= END + PAGE
            and segment.address % PAGE == 0
            and segment.skip + segment.file_bytes <= segment.bytes
            and segment.offset + segment.file_bytes <= size
            and segment.flags in (1, 3, 5)
        ):
            return False
    spans.sort()
    return all(a[1] <= b[0] for a, b in pairwise(spans))


words = st.one_of(
    st.integers(0, 2**64 - 1), st.integers(0, 0x3000), st.integers(2**64 - 0x2000, 2**64 - 1)
)
edits = st.lists(
    st.tuples(st.integers(0, 64 + 2 * 56 - 8), words, st.sampled_from([1, 2, 4, 8])),
    min_size=1,
    max_size=4,
)


@settings(max_examples=2000, deadline=None)
@given(edits, st.one_of(st.just(0x2000), st.integers(0, 0x2000)))
@example([(64 + 32, 2**64 - 1, 8)], 0x2000)
def test_broken_files(check: Checker, edits: list[tuple[int, int, int]], size: int) -> None:
    file = bytearray(Elf().file())
    for at, value, width in edits:
        file[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    if check(bytes(file[:size])) is None:
        assert sound(check.image(), size)
