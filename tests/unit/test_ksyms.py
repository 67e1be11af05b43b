# SPDX-License-Identifier: MIT
"""The kernel's own symbol table: made by the build, read by kernel/debug/ksyms.c."""

from __future__ import annotations

import bisect
import ctypes
import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from host_c import TOP, build

TEXT = 4096


@pytest.fixture(scope="module")
def tool() -> Any:
    """tools/scons/ksyms.py."""
    spec = importlib.util.spec_from_file_location("ksyms", TOP / "tools/scons/ksyms.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MARKS = f"""
.globl __text_start, __text_end
.text
__text_start: .skip {TEXT}
__text_end: nop
"""


def load(folder: Path, table: str) -> Any:
    """kernel/debug/ksyms.c with TABLE, as assembly, for a kernel text of TEXT bytes."""
    lines = json.dumps(table.replace("/*", "#").replace("*/", "") + MARKS)
    lib = build(folder, ["kernel/debug/ksyms.c"], f"__asm__({lines});\n", prelude="")
    lib.ksym_lookup.restype = ctypes.c_char_p
    lib.ksym_lookup.argtypes = [ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64)]
    return lib


def lookup(lib: Any, offset: int) -> tuple[str, int] | None:
    """What ksym_lookup says of the text's byte OFFSET."""
    start = ctypes.addressof(ctypes.c_char.in_dll(lib, "__text_start"))
    distance = ctypes.c_uint64(77)
    name = lib.ksym_lookup(start + offset, ctypes.byref(distance))
    if name is None:
        assert distance.value == 0
        return None
    return name.decode(), distance.value


@pytest.mark.parametrize(
    "table",
    [
        [(0, "first"), (5, "second"), (6, "third"), (4000, "a_long_name_for_the_last")],
        [(100, "only")],
        [(n * 3, f"function_{n}") for n in range(1000)],
    ],
)
def test_lookup_finds_the_function_of_every_byte(
    tool: Any, tmp_path: Path, table: list[tuple[int, str]]
) -> None:
    lib = load(tmp_path, tool.assembly(table))
    starts = [start for start, _ in table]
    for offset in range(TEXT):
        index = bisect.bisect_right(starts, offset) - 1
        expected = (table[index][1], offset - starts[index]) if index >= 0 else None
        assert lookup(lib, offset) == expected


def test_lookup_outside_the_text_and_in_an_empty_table(tool: Any, tmp_path: Path) -> None:
    lib = load(tmp_path, tool.assembly([(0, "first")]))
    assert lookup(lib, -1) is None
    assert lookup(lib, TEXT) is None
    empty = tmp_path / "empty"
    empty.mkdir()
    assert lookup(load(empty, tool.assembly([])), 0) is None


def test_functions_are_the_images_own(tool: Any, tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text(
        "static int x; int f(int n) { return n + x; } int g(void) { x = 1; return f(2); }\n"
        '__attribute__((section(".elsewhere"))) int h(void) { return 3; }\n'
    )
    (tmp_path / "a.ld").write_text(
        "SECTIONS { . = 0x10000; .text : { __text_start = .; *(.text) }\n"
        ".elsewhere : { *(.elsewhere) } }\n"
    )
    compile_it = ["gcc", "-O1", "-fno-pic", "-ffreestanding", "-c", "a.c"]
    subprocess.run(compile_it, cwd=tmp_path, check=True)
    subprocess.run(["ld", "-T", "a.ld", "-o", "a.elf", "a.o"], cwd=tmp_path, check=True)
    listing = subprocess.run(["nm", "a.elf"], cwd=tmp_path, text=True, check=True,
                             stdout=subprocess.PIPE).stdout  # fmt: skip
    addresses = {line.split()[2]: int(line.split()[0], 16) for line in listing.splitlines()}
    expected = sorted((addresses[name] - addresses["__text_start"], name) for name in ("f", "g"))
    assert tool.functions(str(tmp_path / "a.elf")) == expected


def test_every_built_kernel_carries_its_functions(tool: Any, tmp_path: Path) -> None:
    images = sorted((TOP / "build").glob("*/kernel.elf"))
    assert images, "no kernel in build/: run scons first"
    for image in images:
        expected = tool.functions(str(image))
        assert len(expected) > 100
        section = tmp_path / "ksyms"
        dump = ["objcopy", "-O", "binary", "--only-section=.rodata", str(image), str(section)]
        subprocess.run(dump, check=True)
        names = b"\0".join(name.encode() for _, name in expected) + b"\0"
        assert names in section.read_bytes()
