# SPDX-License-Identifier: MIT
"""User-side C on the host: text formatting, the ELF reader, the heap, the console's line editor."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

TOP = Path(__file__).parents[2]
SOURCES = [
    *(f"user/libos/{name}.c" for name in ("format", "elf", "heap", "number")),
    "user/console/editor.c",
]
# The heap's names must not meet the host's; pages for it come from the host.
RENAMED = {name: f"os_{name}" for name in ("malloc", "calloc", "free", "snprintf", "vsnprintf")}
SHIM = r"""
#include <stdlib.h>
#include "user/libos/memory.h"
#include "user/console/editor.h"

int64_t region_create(struct region *region, size_t bytes)
{
    region->bytes = PAGE_ROUND_UP(bytes);
    region->address = aligned_alloc(PAGE_BYTES, region->bytes);
    return region->address == NULL ? -6 : 0;
}

void region_release(struct region *region)
{
    (free)(region->address);
}

static char shown[65536];
static size_t shown_bytes;

static void show(const char *text, size_t size)
{
    for (size_t i = 0; i < size && shown_bytes < sizeof(shown); i++) {
        shown[shown_bytes++] = text[i];
    }
}

struct editor *editor_new(void)
{
    struct editor *editor = calloc(1, sizeof(*editor));
    editor->echo = show;
    shown_bytes = 0;
    return editor;
}

size_t editor_lines(const struct editor *editor) { return editor->lines; }
size_t editor_shown(char *to) { __builtin_memcpy(to, shown, shown_bytes); return shown_bytes; }
void editor_free(struct editor *editor) { free(editor); }
"""
READ, WRITE, EXECUTE = 1, 2, 4  # MAP_*; ELF has them the other way round


class Segment(ctypes.Structure):
    """struct elf_segment."""

    _fields_ = (
        ("address", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("data", ctypes.c_void_p),
        ("data_offset", ctypes.c_uint64),
        ("data_bytes", ctypes.c_uint64),
    )


class Image(ctypes.Structure):
    """struct elf_image."""

    _fields_ = (
        ("entry", ctypes.c_uint64),
        ("count", ctypes.c_uint32),
        ("segments", Segment * 8),
    )


@pytest.fixture(scope="module")
def libos(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("libos")
    shim, library = folder / "shim.c", folder / "libos.so"
    shim.write_text(SHIM, encoding="ascii")
    flags = f"-std=gnu17 -O2 -Wall -Wextra -Werror -fPIC -fno-builtin -I{TOP}".split()
    objects = []
    for number, source in enumerate([*SOURCES, str(shim)]):
        names = RENAMED.items() if source != str(shim) else ()
        defines = [f"-D{old}={new}" for old, new in names]
        objects.append(folder / f"{number}.o")
        command = ["gcc", *flags, *defines, "-c", source, "-o", str(objects[-1])]
        subprocess.run(command, check=True, cwd=TOP)
    subprocess.run(["gcc", "-shared", "-Wl,-Bsymbolic", *objects, "-o", library], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.elf_parse.restype = ctypes.c_char_p
    for name in ("os_malloc", "os_calloc", "editor_new"):
        getattr(loaded, name).restype = ctypes.c_void_p
    for name in ("editor_lines", "editor_take", "editor_shown"):
        getattr(loaded, name).restype = ctypes.c_size_t
    return loaded


def formatted(libos: ctypes.CDLL, text: str, *values: object, size: int = 256) -> tuple[str, int]:
    buffer = ctypes.create_string_buffer(size + 1)
    length = libos.os_snprintf(buffer, ctypes.c_size_t(size), text.encode(), *values)
    return buffer.value.decode(), length


LONG = ctypes.c_int64
FORMATS = [
    ("%d|%5d|%-5d|%05d", (-1, -42, 42, -42)),
    ("%u %x %08x", (7, 255, 48879)),
    ("%ld %lu %lx", (LONG(-(2**63)), LONG(-1), LONG(-1))),
    ("%c%c %3c", (97, 98, 99)),
    ("%s|%6s|%-6s|%.2s|%.*s", (b"abc", b"abc", b"abc", b"abc", 1, b"abc")),
    ("%*d %zu %hu", (4, 3, LONG(5), 6)),
    ("100%% of %s", (b"it",)),
]


@pytest.mark.parametrize(("text", "values"), FORMATS, ids=[text for text, _ in FORMATS])
def test_format_agrees_with_the_hosts(
    libos: ctypes.CDLL, text: str, values: tuple[object, ...]
) -> None:
    host = ctypes.CDLL(None)
    buffer = ctypes.create_string_buffer(256)
    length = host.snprintf(buffer, ctypes.c_size_t(256), text.encode(), *values)
    assert formatted(libos, text, *values) == (buffer.value.decode(), length)


def test_format_takes_over_what_it_does_not_know(libos: ctypes.CDLL) -> None:
    assert formatted(libos, "%q %")[0] == "%q %"
    assert formatted(libos, "%p", ctypes.c_void_p(0x1234))[0] == "0x0000000000001234"
    assert formatted(libos, "%s", None)[0] == "(null)"


@given(st.integers(0, 40), st.text(alphabet="abc %", max_size=60))
def test_format_never_writes_past_its_buffer(libos: ctypes.CDLL, size: int, text: str) -> None:
    buffer = ctypes.create_string_buffer(b"\xee" * 64, 64)
    length = libos.os_snprintf(buffer, ctypes.c_size_t(size), b"%s", text.encode())
    assert length == len(text)
    assert buffer.raw[size:] == b"\xee" * (64 - size)
    if size > 0:
        assert buffer.value == text.encode()[: size - 1]


GOOD_LOAD = {"type": 1, "flags": 5, "offset": 4096, "address": 0x400000, "file": 9, "memory": 9}
GOOD_HEADER = {"bits": 2, "type": 2, "machine": 62, "entry_size": 56, "table": 64}


def load(**changes: int) -> dict[str, int]:
    """A program header, all right but for `changes`."""
    return GOOD_LOAD | changes


def program_header(fields: dict[str, int]) -> bytes:
    values = [fields[name] for name in ("type", "flags", "offset", "address")]
    return struct.pack("<IIQQQQQQ", *values, 0, fields["file"], fields["memory"], 4096)


def elf(*loads: dict[str, int], entry: int = 0x400010, size: int = 0x3000, **other: int) -> bytes:
    """An executable with these program headers; `other` changes what its header says."""
    h = GOOD_HEADER | {"entries": len(loads)} | other
    ident = b"\x7fELF" + bytes([h["bits"], 1, 1]) + bytes(9)
    head = struct.pack("<HHIQQQI", h["type"], h["machine"], 1, entry, h["table"], 0, 0)
    head += struct.pack("<HHHHHH", 64, h["entry_size"], h["entries"], 0, 0, 0)
    return (ident + head + b"".join(map(program_header, loads))).ljust(size, b"\0")


def parse(libos: ctypes.CDLL, file: bytes) -> tuple[str | None, Image]:
    image = Image()
    reason = libos.elf_parse(ctypes.byref(image), file, ctypes.c_size_t(len(file)))
    return reason and reason.decode(), image


def test_elf_two_segments(libos: ctypes.CDLL) -> None:
    data = load(flags=6, address=0x402345, offset=0x2345, file=0x10, memory=0x2000)
    reason, image = parse(libos, elf(load(), data))
    assert reason is None
    assert (image.entry, image.count) == (0x400010, 2)
    text, bss = image.segments[0], image.segments[1]
    assert (text.address, text.bytes, text.flags) == (0x400000, 0x1000, READ | EXECUTE)
    assert (bss.address, bss.bytes, bss.flags) == (0x402000, 0x3000, READ | WRITE)
    assert (bss.data_offset, bss.data_bytes) == (0x345, 0x10)


TOP_OF_USER = 0x00007FFFFFFFF000
BAD = [
    ("shorter", b"\x7fELF"),
    ("shorter", b""),
    ("64-bit", elf(load(), bits=1)),
    ("static executable", elf(load(), type=3)),
    ("static executable", elf(load(), machine=3)),
    ("another size", elf(load(), entry_size=32)),
    ("program headers beyond", elf(load(), table=2**64 - 1)),
    ("program headers beyond", elf(load(), entries=60000)),
    ("segment beyond", elf(load(offset=2**64 - 16))),
    ("segment beyond", elf(load(file=2**64 - 0x1000, memory=2**64 - 1))),
    ("more bytes in the file", elf(load(memory=8))),
    ("outside user", elf(load(address=0))),
    ("outside user", elf(load(address=0xFFFFFFFF81000000))),
    ("outside user", elf(load(address=TOP_OF_USER - 0x1000, memory=0x2000))),
    ("outside user", elf(load(memory=2**64 - 1))),
    ("both writable", elf(load(flags=7))),
    ("cannot be read", elf(load(flags=1))),
    ("overlap", elf(load(), load(address=0x400800, flags=4))),
    ("overlap", elf(load(address=0x500000), load())),
    ("too many", elf(*[load(address=0x400000 + i * 0x1000, file=0) for i in range(9)])),
    ("dynamically", elf(load(), load(type=3))),
    ("entry point", elf(load(), entry=0x401000)),
    ("entry point", elf(load(flags=4))),
    ("entry point", elf()),
]


@pytest.mark.parametrize(("words", "file"), BAD)
def test_elf_refusals(libos: ctypes.CDLL, words: str, file: bytes) -> None:
    reason, _ = parse(libos, file)
    assert reason is not None
    assert words in reason


@given(st.lists(st.tuples(st.integers(0, 175), st.integers(0, 255)), max_size=8))
def test_elf_damage_never_yields_what_must_not_be(
    libos: ctypes.CDLL, damage: list[tuple[int, int]]
) -> None:
    file = bytearray(elf(load(), load(flags=6, address=0x402000, offset=0x2000, memory=0x5000)))
    for at, value in damage:
        file[at] = value
    reason, image = parse(libos, bytes(file))
    if reason is not None:
        return
    end = 0x1000
    for segment in image.segments[: image.count]:
        assert segment.address >= end
        end = segment.address + segment.bytes
        assert end <= TOP_OF_USER
        assert segment.flags & (WRITE | EXECUTE) != WRITE | EXECUTE
        assert segment.data_offset + segment.data_bytes <= segment.bytes


@given(st.lists(st.tuples(st.integers(0, 100_000), st.booleans()), max_size=40))
def test_heap_blocks_never_overlap(libos: ctypes.CDLL, steps: list[tuple[int, bool]]) -> None:
    live: dict[int, int] = {}
    for number, (size, drop) in enumerate(steps):
        if drop and live:
            address, held = live.popitem()
            assert ctypes.string_at(address, held) == bytes([address >> 4 & 0xFF]) * held
            libos.os_free(ctypes.c_void_p(address))
            continue
        block = libos.os_malloc(ctypes.c_size_t(size))
        assert block is not None, number
        assert block % 16 == 0
        assert all(block + size <= a or a + n <= block for a, n in live.items() if n and size)
        ctypes.memset(block, block >> 4 & 0xFF, size)
        live[block] = size
    for address, held in live.items():
        assert ctypes.string_at(address, held) == bytes([address >> 4 & 0xFF]) * held
        libos.os_free(ctypes.c_void_p(address))


def test_calloc_refuses_a_product_that_wraps(libos: ctypes.CDLL) -> None:
    assert libos.os_calloc(ctypes.c_size_t(2**33), ctypes.c_size_t(2**33)) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", None),
        ("0xFFFFffffffffffff", 2**64 - 1),
        ("0x10000000000000000", None),
        ("-1", 2**64 - 1),
        ("", None),
        ("0x", None),
        ("-", None),
        ("12a", None),
        ("1 ", None),
    ],
)
def test_parse_number(libos: ctypes.CDLL, text: str, number: int | None) -> None:
    value = ctypes.c_uint64(77)
    libos.parse_number.restype = ctypes.c_bool
    assert libos.parse_number(text.encode(), ctypes.byref(value)) == (number is not None)
    assert value.value == (77 if number is None else number)


PROBE = r"""
#include <stdio.h>
#include "user/libos/probe.h"
#include "user/libos/start.h"

struct start_page own = {.arguments = "probe"};

int main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    unsigned missed = probe_self_test();
    probe_fill(7);
    probe.in.rax = 39; /* the host's getpid */
    probe_run(probe_syscall);
    unsigned differences = probe_check(PROBE_KEPT_BY_SYSCALL, "getpid");
    probe_fill(8);
    probe.in.rdx = 1;
    probe.in.rcx = 3;
    probe_run(probe_divide); /* by 3: rax and rdx change, and nothing else */
    unsigned found = probe_check(PROBE_ALL | PROBE_FLAGS | PROBE_SILENT, "");
    printf("%u missed, %u differences, %u found\n", missed, differences, found);
    return 0;
}
"""


def test_probe_on_the_host(tmp_path: Path) -> None:
    main, program = tmp_path / "main.c", tmp_path / "probe"
    main.write_text(PROBE, encoding="ascii")
    sources = [str(main), "user/libos/probe.c", "user/libos/probe_run.S"]
    flags = f"-O2 -ffreestanding -mgeneral-regs-only -I{TOP} -o {program}".split()
    command = ["gcc", *flags, *sources]
    subprocess.run(command, check=True, cwd=TOP)
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    assert done.stdout == "0 missed, 0 differences, 2 found\n"


def typed(libos: ctypes.CDLL, keys: bytes) -> tuple[list[bytes], bytes]:
    """The lines that these keys make, and what is shown meanwhile."""
    editor = ctypes.c_void_p(libos.editor_new())
    for key in keys:
        libos.editor_input(editor, ctypes.c_char(key))
    lines = []
    buffer = ctypes.create_string_buffer(65536)
    while libos.editor_lines(editor):
        length = libos.editor_take(editor, buffer, ctypes.c_size_t(1024))
        lines.append(buffer.raw[:length])
    size = libos.editor_shown(buffer)
    shown = buffer.raw[:size]
    libos.editor_free(editor)
    return lines, shown


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        (b"help\r", [b"help"]),
        (b"one\r\ntwo\nthree\r", [b"one", b"two", b"three"]),
        (b"\r\r", [b"", b""]),
        (b"helq\x7fp\r", [b"help"]),
        (b"\x08\x08x\r", [b"x"]),
        (b"wrong\x15right\r", [b"right"]),
        (b"run one two  \x17three\r", [b"run one three"]),
        (b"half\x03whole\r", [b"", b"whole"]),
        (b"a\x1b[Ab\x1bOCc\x1b[15~d\r", [b"abcd"]),
        (b"a\tb\x01\r", [b"a b"]),
        (b"unfinished", []),
        (b"x" * 1030 + b"\r", [b"x" * 1024]),
    ],
)
def test_editor(libos: ctypes.CDLL, keys: bytes, lines: list[bytes]) -> None:
    assert typed(libos, keys)[0] == lines


def test_editor_shows_what_is_typed_and_rubbed_out(libos: ctypes.CDLL) -> None:
    assert typed(libos, b"ab\x7f\r")[1] == b"ab\b \b\n"


def test_editor_drops_whole_lines_when_nobody_reads(libos: ctypes.CDLL) -> None:
    lines, shown = typed(libos, (b"y" * 1000 + b"\r") * 12)
    assert lines == [b"y" * 1000] * 8
    assert shown.count(b"\a") == 4


@given(st.binary(max_size=300))
def test_editor_keeps_only_printable_bytes(libos: ctypes.CDLL, keys: bytes) -> None:
    for line in typed(libos, keys)[0]:
        assert all(byte >= 0x20 and byte != 0x7F for byte in line)
        assert len(line) <= 1024
