# SPDX-License-Identifier: MIT
"""Names, lines, inlined calls and backtraces of a small program built here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from onestack.elf import ElfError, Image, Images, SymbolError
from onestack.errors import UsageError
from onestack.gdbstub import GdbError
from onestack.symbolize import Symbolizer

SOURCE = """\
static inline __attribute__((always_inline)) int inner(volatile int *p)
{
    return *p + 1;
}
__attribute__((noinline)) int leaf(volatile int *p)
{
    return inner(p) * 3;
}
__attribute__((noinline)) int middle(volatile int *p)
{
    return leaf(p) + 1;
}
int start(void)
{
    volatile int x = 1;
    return middle(&x) + 5;
}
int table[4] = {1};
int zero[4];
"""


def build(folder: Path, *flags: str, name: str = "prog") -> Images:
    source, elf = folder / "prog.c", folder / f"{name}.elf"
    source.write_text(SOURCE)
    link = ["-nostdlib", "-static", "-no-pie", "-Wl,-e,start", "-Wl,--build-id=none"]
    command: list[str | Path] = [
        "gcc",
        *flags,
        *link,
        f"-ffile-prefix-map={folder}=.",
        "-o",
        elf,
        source,
    ]
    subprocess.run(command, check=True)
    return Images.load(elf)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prog")


@pytest.fixture(scope="module", params=["-gdwarf-4", "-gdwarf-5"])
def optimised(request: pytest.FixtureRequest, folder: Path) -> Images:
    return build(folder, "-O2", request.param, name="fast" + request.param)


def test_function_line_and_inlined_call(optimised: Images) -> None:
    symbolizer = Symbolizer(optimised)
    address = optimised.resolve("leaf")
    place = symbolizer.place(address)
    assert place.name == "leaf"
    assert place.inlined == ("inner",)
    lines = set()
    function = optimised.images[0].symbol("leaf")
    for instruction in optimised.images[0].disassemble(address, address + function.size):
        source = symbolizer.place(instruction.address).source
        assert source is not None
        assert source.file.endswith("prog.c")
        lines.add(source.line)
    assert 3 in lines  # the inlined one's
    assert lines & {6, 7, 8}


def test_address_outside_is_bare(optimised: Images) -> None:
    place = Symbolizer(optimised).place(0x10)
    assert (place.name, place.source) == ("0x10", None)


def return_address(images: Images, caller: str, callee: str) -> int:
    """The address after the call."""
    symbol = images.images[0].symbol(caller)
    target = f"{images.resolve(callee):#x}"
    code = images.images[0].disassemble(symbol.address, symbol.address + symbol.size)
    return next(i.end for i in code if i.mnemonic == "call" and i.operands == target)


@pytest.mark.parametrize("tables", ["", "no-"])
def test_backtrace(folder: Path, tables: str) -> None:
    """By .eh_frame, and by .debug_frame where there is none."""
    tables = f"-f{tables}asynchronous-unwind-tables"
    images = build(folder, "-O0", "-g", "-fno-omit-frame-pointer", tables, name="slow")
    top = 0x8000
    outer, inner = top - 0x40, top - 0x80  # frame pointers of start() and middle()
    words = {
        outer: 0,
        outer + 8: 0,
        inner: outer,
        inner + 8: return_address(images, "start", "middle"),
        inner - 0x18: return_address(images, "middle", "leaf"),
    }

    def read(address: int, size: int) -> bytes:
        found = [words.get(address + at) for at in range(0, size, 8)]
        if None in found:
            raise GdbError("not mapped")
        return b"".join(word.to_bytes(8, "little") for word in found if word is not None)

    registers = {"rip": images.resolve("leaf"), "rsp": inner - 0x18, "rbp": inner}
    registers |= dict.fromkeys(("rax", "rbx", "rcx", "rdx", "rsi", "rdi"), 0)
    registers |= {f"r{n}": 0 for n in range(8, 16)}
    places = Symbolizer(images).backtrace(registers, read)
    names = [place.name.partition("+")[0] for place in places]
    assert names == ["leaf", "middle", "start"]
    assert [place.source.line for place in places if place.source] == [6, 11, 16]


def test_backtrace_by_frame_pointers_alone(folder: Path) -> None:
    images = build(folder, "-O0", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables")
    frame = 0x7FC0
    words = {frame: 0, frame + 8: return_address(images, "start", "middle")}
    registers = {"rip": images.resolve("middle") + 4, "rsp": frame - 8, "rbp": frame}

    def read(address: int, size: int) -> bytes:
        return b"".join(words[address + at].to_bytes(8, "little") for at in range(0, size, 8))

    places = Symbolizer(images).backtrace(registers, read)
    assert [place.name.partition("+")[0] for place in places] == ["middle", "start"]


# ---- symbols


def test_locations(optimised: Images) -> None:
    leaf = optimised.resolve("leaf")
    name = optimised.images[0].name
    assert optimised.resolve("leaf+0x3") == leaf + 3
    assert optimised.resolve(f"{name}!leaf+3") == leaf + 3
    assert optimised.resolve(hex(leaf)) == optimised.resolve(leaf) == leaf
    assert optimised.range_of("table") == range(
        optimised.resolve("table"), optimised.resolve("table") + 16
    )
    assert optimised.range_of("leaf..leaf+0x2") == range(leaf, leaf + 2)
    assert optimised.name(leaf + 1) == "leaf+0x1"
    assert (
        optimised.name(optimised.resolve("zero") + 4) == "zero+0x4"
    )  # not in the file, but mapped


def test_unknown_symbols_and_images(optimised: Images) -> None:
    with pytest.raises(SymbolError, match="Did you mean middle"):
        optimised.resolve("midle")
    with pytest.raises(UsageError, match="no image 'x'"):
        optimised.resolve("x!leaf")
    with pytest.raises(UsageError, match="not a location"):
        optimised.resolve("a+b+c")
    with pytest.raises(UsageError, match="not a range"):
        optimised.range_of("0x10")


def test_file_that_is_no_elf(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"\x7fELF but short")
    with pytest.raises(ElfError):
        Image(file)
    with pytest.raises(ElfError, match="cannot read"):
        Image(tmp_path / "none")
