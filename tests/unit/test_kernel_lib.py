# SPDX-License-Identifier: MIT
"""kprintf and the string functions on the host, against Python's own."""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_ulong, c_void_p
from typing import Any

import host_c
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

UART = """
#include "kernel/arch/uart.h"
char output[65536];
unsigned long output_size;
void uart_putc(char c) { output[output_size++ % sizeof(output)] = c; }
"""
SOURCES = ["kernel/debug/print.c", "kernel/lib/string.c"]


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return host_c.build(tmp_path_factory.mktemp("lib"), SOURCES, UART, prelude="")


def kprintf(lib: ctypes.CDLL, text: bytes, *arguments: Any) -> bytes:
    size = c_ulong.in_dll(lib, "output_size")
    size.value = 0
    lib.kprintf(text, *arguments)
    return bytes((ctypes.c_char * 65536).in_dll(lib, "output"))[: size.value]


CASES: list[tuple[bytes, tuple[Any, ...], bytes]] = [
    (b"plain\n", (), b"plain\r\n"),
    (b"%c%c", (c_int(65), c_int(66)), b"AB"),
    (b"[%s|%5s|%-5s|%1s]", (b"abc",) * 4, b"[abc|  abc|abc  |abc]"),
    (b"%s", (c_char_p(None),), b"(null)"),
    (b"%d %i %d", (c_int(-1), c_int(0), c_int(-(2**31))), b"-1 0 -2147483648"),
    (b"%ld", (c_long(-(2**63)),), b"-9223372036854775808"),
    (b"%u %lu %zu", (c_uint(2**32 - 1), c_ulong(2**64 - 1), c_size_t(7)),
     b"4294967295 18446744073709551615 7"),
    (b"%x %lx %llx", (c_uint(0xBEEF), c_ulong(2**64 - 1), c_ulong(0)), b"beef ffffffffffffffff 0"),
    (b"%p", (c_void_p(0x1000),), b"0x0000000000001000"),
    (b"[%5d|%-5d|%05d|%-05d]", (c_int(-42),) * 4, b"[  -42|-42  |-0042|-42  ]"),
    (b"%016lx", (c_ulong(0x123),), b"0000000000000123"),
    (b"100%% %q %", (), b"100% %q %"),
    (b"%5", (), b"%5"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "arguments", "expected"), CASES, ids=lambda value: repr(value)[:24]
)
def test_kprintf(
    lib: ctypes.CDLL, text: bytes, arguments: tuple[Any, ...], expected: bytes
) -> None:
    assert kprintf(lib, text, *arguments) == expected


SLOW_START = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SLOW_START
@given(
    value=st.integers(-(2**63), 2**63 - 1),
    flags=st.sampled_from(["", "-", "0", "-0"]),
    width=st.integers(1, 30),
    kind=st.sampled_from("dux"),
)
def test_kprintf_numbers_like_python(
    lib: ctypes.CDLL, *, value: int, flags: str, width: int, kind: str
) -> None:
    shown = value if kind == "d" else value % 2**64
    expected = f"%{flags}{width}{kind}" % shown
    found = kprintf(lib, f"%{flags}{width}l{kind}".encode(), c_long(value))
    assert found.decode() == expected


@SLOW_START
@given(content=st.binary(min_size=1, max_size=300), data=st.data())
def test_memmove_in_one_buffer(lib: ctypes.CDLL, content: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(content)))
    to = data.draw(st.integers(0, len(content)))
    size = data.draw(st.integers(0, len(content) - max(start, to)))
    buffer = ctypes.create_string_buffer(content, len(content))
    base = ctypes.addressof(buffer)
    lib.memmove.restype = c_void_p
    assert lib.memmove(c_void_p(base + to), c_void_p(base + start), c_size_t(size)) == base + to
    expected = bytearray(content)
    expected[to : to + size] = content[start : start + size]
    assert buffer.raw == bytes(expected)


@SLOW_START
@given(content=st.binary(max_size=100), byte=st.integers(-300, 300))
def test_memcpy_and_memset(lib: ctypes.CDLL, content: bytes, byte: int) -> None:
    buffer = ctypes.create_string_buffer(b"<" * (len(content) + 2), len(content) + 2)
    inside = c_void_p(ctypes.addressof(buffer) + 1)
    lib.memcpy(inside, content, c_size_t(len(content)))
    assert buffer.raw == b"<" + content + b"<"
    lib.memset(inside, c_int(byte), c_size_t(len(content)))
    assert buffer.raw == b"<" + bytes([byte % 256]) * len(content) + b"<"


def sign(value: int) -> int:
    return (value > 0) - (value < 0)


@SLOW_START
@given(left=st.binary(max_size=20), right=st.binary(max_size=20))
def test_comparisons(lib: ctypes.CDLL, left: bytes, right: bytes) -> None:
    size = min(len(left), len(right))
    expected = (left[:size] > right[:size]) - (left[:size] < right[:size])
    assert sign(lib.memcmp(left, right, c_size_t(size))) == expected
    a, b = left.split(b"\0")[0], right.split(b"\0")[0]
    assert sign(lib.strcmp(left, right)) == (a > b) - (a < b)
    assert sign(lib.strncmp(left, right, c_size_t(3))) == (a[:3] > b[:3]) - (a[:3] < b[:3])
    lib.strlen.restype = c_size_t
    assert lib.strlen(left) == len(a)


@SLOW_START
@given(text=st.binary(max_size=20), size=st.integers(1, 25))
def test_string_copy(lib: ctypes.CDLL, text: bytes, size: int) -> None:
    text = text.split(b"\0")[0]
    buffer = ctypes.create_string_buffer(b"<" * 30, 30)
    lib.string_copy.restype = ctypes.c_bool
    assert lib.string_copy(buffer, c_size_t(size), text) == (len(text) < size)
    kept = text[: size - 1] + b"\0"
    assert buffer.raw == kept + b"<" * (30 - len(kept))
