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
from hypothesis import given
from hypothesis import strategies as st

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


class Ksym(ctypes.Structure):
    """struct ksym of kernel/debug/ksyms.h."""

    _fields_ = (("name", ctypes.c_char * 48), ("offset", ctypes.c_uint64))


def load(folder: Path, table: str) -> Any:
    """kernel/debug/ksyms.c with TABLE, as assembly, for a kernel text of TEXT bytes."""
    lines = json.dumps(table.replace("/*", "#").replace("*/", "") + MARKS)
    lib = build(folder, ["kernel/debug/ksyms.c"], f"__asm__({lines});\n", prelude="")
    lib.ksym_lookup.restype = ctypes.c_bool
    lib.ksym_lookup.argtypes = [ctypes.c_uint64, ctypes.POINTER(Ksym)]
    return lib


def lookup(lib: Any, offset: int) -> tuple[str, int] | None:
    """What ksym_lookup says of the text's byte OFFSET."""
    start = ctypes.addressof(ctypes.c_char.in_dll(lib, "__text_start"))
    found = Ksym(b"of before", 77)
    if not lib.ksym_lookup(start + offset, ctypes.byref(found)):
        assert (found.name, found.offset) == (b"?", 0)
        return None
    return found.name.decode(), found.offset


@pytest.mark.parametrize(
    "table",
    [
        [(0, "first"), (5, "second"), (6, "third"), (4000, "a_long_name_for_the_last")],
        [(100, "only")],
        [(n * 3, f"function_{n}") for n in range(1000)],
        [(n * 200, "a" * (2 * n + 7)) for n in range(20)],  # pairs of pairs of pairs
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


def test_a_long_name_is_cut_off(tool: Any, tmp_path: Path) -> None:
    lib = load(tmp_path, tool.assembly([(0, "x" * 100), (10, "y")]))
    assert lookup(lib, 9) == ("x" * 47, 9)
    assert lookup(lib, 10) == ("y", 0)


def unpack(name: bytes, pairs: list[bytes]) -> tuple[bytes, int]:
    """NAME in full, and how deep pairs stood in pairs."""
    if len(name) == 1 and name < b"\x80":
        return name, 1
    inner = pairs[name[0] - 0x80] if len(name) == 1 else name
    parts = [unpack(inner[n : n + 1], pairs) for n in range(len(inner))]
    return b"".join(part for part, _ in parts), 1 + max((deep for _, deep in parts), default=0)


@given(st.lists(st.text("ab_", min_size=1, max_size=300), max_size=30))
def test_packed_names_are_the_names_and_nest_no_deeper_than_the_kernel_follows(
    tool: Any, names: list[str]
) -> None:
    packed, pairs = tool.pack(names)
    assert [unpack(name, pairs)[0].decode() for name in packed if name] == names
    assert all(unpack(pair, pairs)[1] <= tool.NESTS for pair in pairs)


def test_names_take_half_the_room(tool: Any) -> None:
    image = TOP / "build/tcb-ist-release/kernel.elf"
    names = [name for _, name in tool.functions(str(image))]
    packed, pairs = tool.pack(names)
    assert sum(map(len, packed)) + 2 * len(pairs) < sum(map(len, names)) * 0.55


def test_every_built_kernel_carries_its_functions(tool: Any, tmp_path: Path) -> None:
    images = sorted((TOP / "build").glob("*/kernel.elf"))
    assert images, "no kernel in build/: run scons first"
    for image in images:
        table = tool.functions(str(image))
        assert len(table) > 100
        (tmp_path / "table.S").write_text(tool.assembly(table))
        subprocess.run(["gcc", "-c", "table.S", "-o", "table.o"], cwd=tmp_path, check=True)
        packed, rodata = tmp_path / "packed", tmp_path / "rodata"
        for section, binary, target in (
            (".ksyms", tmp_path / "table.o", packed),
            (".rodata", image, rodata),
        ):
            dump = ["objcopy", "-O", "binary", f"--only-section={section}"]
            subprocess.run([*dump, str(binary), str(target)], check=True)
        assert packed.read_bytes() in rodata.read_bytes()
