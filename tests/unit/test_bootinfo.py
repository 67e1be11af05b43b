# SPDX-License-Identifier: MIT
"""The boot parsers on the host: what loaders say, right and wrong, becomes one struct bootinfo."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import boot_cases as case
import pytest
from boot_cases import PAGE, Machine, ParserCrashError, Range, Runner
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

Memory = tuple[int, dict[int, bytes]]

WAYS = pytest.mark.parametrize("way", [case.PVH, case.MULTIBOOT2], ids=["pvh", "multiboot2"])
FUZZ = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with Runner(tmp_path_factory.mktemp("boot")) as process:
        yield process


def loaded(machine: Machine, way: int) -> Memory:
    return machine.pvh() if way == case.PVH else machine.multiboot2()


def boot(runner: Runner, machine: Machine, way: int) -> dict[str, Any]:
    return runner.run(way, *loaded(machine, way))


def patched(memory: Memory, base: int, offset: int, content: bytes) -> Memory:
    """Overwrite bytes of one blob."""
    address, blobs = memory
    old = blobs[base]
    return address, blobs | {base: old[:offset] + content + old[offset + len(content) :]}


# What must come out.


@WAYS
def test_everything_is_taken_over(runner: Runner, way: int) -> None:
    pointer = case.rsdp(0x1234, 0x5678)
    info = boot(runner, Machine(rsdp=pointer), way)
    assert info == {
        "reason": None,
        "protocol": way,
        "cmdline": b"verbose".hex(),
        "rsdp": pointer.hex(),
        "modules": [[0x2000000, 0x2345]],
        "trampoline": PAGE,
        "ranges": [
            [0, PAGE, case.RESERVED],
            [PAGE, PAGE, case.TRAMPOLINE],
            [2 * PAGE, 0x9F000 - 2 * PAGE, case.USABLE],
            [0x100000, 0xF00000, case.USABLE],
            [0x1000000, 0x20000, case.KERNEL],
            [0x1020000, 0xFE0000, case.USABLE],
            [0x2000000, 0x3000, case.MODULE],
            [0x2003000, 0xDFFD000, case.USABLE],
        ],
    }


@WAYS
def test_without_command_line_and_rsdp(runner: Runner, way: int) -> None:
    info = boot(runner, Machine(cmdline=None), way)
    assert (info["reason"], info["cmdline"], info["rsdp"]) == (None, "", "")


@WAYS
def test_no_low_memory_means_no_trampoline(runner: Runner, way: int) -> None:
    info = boot(runner, Machine(ranges=[(0x100000, 0xFF00000, case.USABLE)]), way)
    assert (info["reason"], info["trampoline"]) == (None, 0)


@WAYS
def test_longest_command_line(runner: Runner, way: int) -> None:
    info = boot(runner, Machine(cmdline=b"x" * 1023), way)
    assert (info["reason"], info["cmdline"]) == (None, (b"x" * 1023).hex())


@WAYS
def test_empty_and_unknown_ranges(runner: Runner, way: int) -> None:
    ranges = [*Machine().ranges, (0, 0, 0), (0xFD00000000, 0x300000000, 20)]
    info = boot(runner, Machine(ranges=ranges), way)
    assert info["reason"] is None
    assert info["ranges"][-1] == [0xFD00000000, 0x300000000, case.RESERVED]


def test_map_entries_that_have_grown(runner: Runner) -> None:
    info = runner.run(case.MULTIBOOT2, *Machine().multiboot2(entry_size=40))
    assert info == boot(runner, Machine(), case.MULTIBOOT2)


@pytest.mark.parametrize("place", [0x9FC00, 0xE0000, 0xFFFF0])
def test_rsdp_where_a_bios_puts_it(runner: Runner, place: int) -> None:
    address, memory = Machine().pvh()
    memory[0x40E] = struct.pack("<H", 0x9FC0)
    bios = bytearray(0x100000 + 64 - 0x9FC00)
    pointer = case.rsdp(0x1234)
    bios[place - 0x9FC00 : place - 0x9FC00 + len(pointer)] = pointer
    info = runner.run(case.PVH, address, memory | {0x9FC00: bytes(bios)})
    assert info["rsdp"] == pointer.hex()


@WAYS
def test_rsdp_with_a_bad_extension_falls_back_to_its_first_part(runner: Runner, way: int) -> None:
    pointer = case.rsdp(0x1234, 0x5678)[:-1] + b"\x55"
    assert boot(runner, Machine(rsdp=pointer), way)["rsdp"] == pointer[:20].hex()


@WAYS
def test_rsdp_with_a_bad_checksum_is_none(runner: Runner, way: int) -> None:
    pointer = case.rsdp(0x1234)[:-1] + b"\x55"
    assert boot(runner, Machine(rsdp=pointer), way)["rsdp"] == ""


# What must be refused, and how.

BAD_MACHINES = {
    "no module": (Machine(modules=[]), "no boot module"),
    "empty module": (Machine(modules=[(0x2000000, 0)]), "a boot module is empty"),
    "five modules": (
        Machine(modules=[(0x2000000 + i * PAGE, PAGE) for i in range(5)]),
        "too many boot modules",
    ),
    "module over the kernel": (Machine(modules=[(0x101F000, 0x2000)]), "free memory"),
    "modules in one another": (
        Machine(modules=[(0x2000000, 0x3000), (0x2002000, 0x3000)]),
        "free memory",
    ),
    "module outside of memory": (Machine(modules=[(0x20000000, 0x1000)]), "free memory"),
    "kernel in reserved memory": (
        Machine(ranges=[*Machine().ranges, (0x1010000, PAGE, case.RESERVED)]),
        "kernel does not lie in usable memory",
    ),
    "range that wraps": (
        Machine(ranges=[*Machine().ranges, (0xFFFFFFFFFFFFF000, 0x2000, case.RESERVED)]),
        "out of bounds",
    ),
    "long command line": (Machine(cmdline=b"x" * 1024), "command line is too long"),
    "129 ranges": (
        Machine(ranges=[(i * 0x100000, PAGE, 1) for i in range(129)]),
        "too many ranges",
    ),
    # The loader's map fits, but not with the pieces that it is cut into.
    "127 ranges and a hole": (
        Machine(ranges=[*Machine().ranges, *((0x3000000 + i * 0x2000, 1, 2) for i in range(126))]),
        "too many ranges",
    ),
    "no memory map": (Machine(ranges=[]), "no memory map"),
}


@WAYS
@pytest.mark.parametrize("name", BAD_MACHINES)
def test_refused(runner: Runner, way: int, name: str) -> None:
    machine, reason = BAD_MACHINES[name]
    assert reason in boot(runner, machine, way)["reason"]


INFO = Machine.INFO
GOOD = Machine().pvh()
ELSEWHERE = b"\xf0" * 8
BAD_PVH = {
    "magic": (patched(GOOD, INFO, 0, b"\0\0\0\0"), "corrupt"),
    "version 0": (patched(GOOD, INFO, 4, bytes(4)), "no memory map"),
    "map elsewhere": (patched(GOOD, INFO, 40, ELSEWHERE), "map lies out of reach"),
    "map too long": (patched(GOOD, INFO, 48, b"\xff" * 4), "out of reach"),
    "modules elsewhere": (
        patched(GOOD, INFO, 16, ELSEWHERE),
        "list lies out of reach",
    ),
    "command line elsewhere": (
        patched(GOOD, INFO, 24, ELSEWHERE),
        "command line lies",
    ),
    "module above 4 GiB": (
        Machine(modules=[(0x300000000, 1 << 20)]).pvh(),
        "module lies out of reach",
    ),
    "information elsewhere": ((0x8000000, {}), "information lies out of reach"),
    "information at 0": ((0, {0: Machine().pvh()[1][INFO]}), "information lies out of reach"),
}


@pytest.mark.parametrize("name", BAD_PVH)
def test_corrupt_pvh(runner: Runner, name: str) -> None:
    memory, reason = BAD_PVH[name]
    assert reason in runner.run(case.PVH, *memory)["reason"]


def multiboot2(*tags: bytes, end: bytes = case.tag(0, b""), size: int | None = None) -> Memory:
    body = b"".join(tags) + end
    total = 8 + len(body) if size is None else size
    return INFO, {INFO: struct.pack("<II", total, 0) + body}


BAD_MULTIBOOT2 = {
    "no end tag": multiboot2(end=b""),
    "total size beyond memory": multiboot2(size=0x1000),
    "total size 0": multiboot2(size=0),
    "total size cuts a tag": multiboot2(case.tag(1, b"text\0"), size=20),
    "tag of size 0": multiboot2(struct.pack("<II", 1, 0)),
    "tag of size 7": multiboot2(struct.pack("<II", 1, 7)),
    "tag beyond the end": multiboot2(struct.pack("<II", 99, 0x1000)),
    "tag padded beyond the end": multiboot2(struct.pack("<II", 99, 9) + b"x", end=b""),
    "tag of size 2^32 - 1": multiboot2(struct.pack("<II", 99, 0xFFFFFFFF)),
    "empty command line": multiboot2(case.tag(1, b"")),
    "endless command line": multiboot2(case.tag(1, b"abcd")),
    "module of 4 bytes": multiboot2(case.tag(3, bytes(4))),
    "module that ends first": multiboot2(case.tag(3, struct.pack("<II", 0x3000, 0x2000) + b"\0")),
    "map of 4 bytes": multiboot2(case.tag(6, bytes(4))),
    "map entries of size 0": multiboot2(case.tag(6, struct.pack("<II", 0, 0) + bytes(48))),
    "map entries of size 8": multiboot2(case.tag(6, struct.pack("<II", 8, 0) + bytes(48))),
}


@pytest.mark.parametrize("name", BAD_MULTIBOOT2)
def test_corrupt_multiboot2(runner: Runner, name: str) -> None:
    answer = runner.run(case.MULTIBOOT2, *BAD_MULTIBOOT2[name])
    assert answer["reason"] == "the Multiboot2 information is corrupt"


def test_multiboot2_elsewhere(runner: Runner) -> None:
    assert "out of reach" in runner.run(case.MULTIBOOT2, 0x5000, {})["reason"]


# The memory map against a model that looks at each page by itself.

LIMIT = 0x1800000  # of the model's memory, above the kernel's image


@st.composite
def odd_ranges(draw: st.DrawFn) -> list[Range]:
    """Draw ranges of all types, with overlaps and odd ends, around usable memory for the kernel."""
    address = st.one_of(
        st.integers(0, LIMIT - 1), st.integers(0, LIMIT // PAGE - 1).map(lambda page: page * PAGE)
    )
    ranges: list[Range] = [(0xF00000, 0x500000, case.USABLE)]
    for _ in range(draw(st.integers(0, 12))):
        base = draw(address)
        length = draw(st.one_of(st.integers(0, 4 * PAGE), st.integers(0, LIMIT - base)))
        kind = draw(st.integers(0, 8))
        ranges.append((base, min(length, LIMIT - base), kind))
    return draw(st.permutations(ranges))


def page_types(ranges: list[Range]) -> list[int]:
    """Say of each page what the loader's map makes of it, 0 = nothing."""
    types = [0] * (LIMIT // PAGE)
    for base, length, raw in ranges:
        kind = raw if case.USABLE <= raw <= case.BAD else case.RESERVED
        if kind == case.USABLE:
            pages = range(-(-base // PAGE), (base + length) // PAGE)
        else:
            pages = range(base // PAGE, -(-(base + length) // PAGE) if length else 0)
        for page in pages:
            types[page] = max(types[page], kind)
    types[0] = max(types[0], case.RESERVED) if types[0] == case.USABLE else case.RESERVED
    return types


def assert_well_formed(ranges: list[list[int]]) -> None:
    """Whole pages, ascending, apart, and no two neighbours that could be one."""
    for base, length, kind in ranges:
        assert base % PAGE == 0
        assert length % PAGE == 0
        assert length > 0
        assert case.USABLE <= kind <= case.TRAMPOLINE
    for (base, length, kind), (above, _, other) in pairwise(ranges):
        assert base + length <= above
        assert base + length < above or kind != other


def expected_map(ranges: list[Range]) -> tuple[list[int], int] | None:
    """Return each page's type and the trampoline; None if kernel or module have no place."""
    types = page_types(ranges)
    claims = [(page, case.KERNEL) for page in range(0x1000, 0x1020)]
    claims += [(page, case.MODULE) for page in range(0x1100, 0x1102)]
    if any(types[page] != case.USABLE for page, _ in claims):
        return None
    for page, kind in claims:
        types[page] = kind
    low = [page for page in range(0x100) if types[page] == case.USABLE]
    if low:
        types[low[0]] = case.TRAMPOLINE
    return types, low[0] * PAGE if low else 0


def parsed_map(runner: Runner, ranges: list[Range], way: int) -> tuple[list[int], int] | None:
    """Return the same as the kernel's parser says it."""
    info = boot(runner, Machine(ranges=ranges, modules=[(0x1100000, 0x1800)]), way)
    if info["reason"] is not None:
        assert "usable memory" in info["reason"] or "free memory" in info["reason"]
        return None
    assert_well_formed(info["ranges"])
    types = [0] * (LIMIT // PAGE)
    for base, length, kind in info["ranges"]:
        types[base // PAGE : (base + length) // PAGE] = [kind] * (length // PAGE)
    return types, info["trampoline"]


@WAYS
@FUZZ
@given(ranges=odd_ranges())
def test_map_against_model(runner: Runner, way: int, ranges: list[Range]) -> None:
    assert parsed_map(runner, ranges, way) == expected_map(ranges)


# Anything at all.


@WAYS
@FUZZ
@given(data=st.data())
def test_damaged_information(runner: Runner, way: int, data: st.DataObject) -> None:
    """A reason or a sound result, never a crash (the sanitizers end the process)."""
    address, memory = loaded(Machine(rsdp=case.rsdp(0x1234, 0x5678)), way)
    for _ in range(data.draw(st.integers(1, 6))):
        base = data.draw(st.sampled_from(sorted(memory)))
        content = bytearray(memory[base])
        at = data.draw(st.integers(0, min(len(content), 256) - 1))
        damage = data.draw(
            st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from([b"\xff" * 8, b"\0" * 8]))
        )
        content[at : at + len(damage)] = damage
        memory[base] = bytes(content)
    if data.draw(st.booleans()):
        base = data.draw(st.sampled_from(sorted(memory)))
        memory[base] = memory[base][: data.draw(st.integers(1, len(memory[base])))]
    info = runner.run(way, address, memory)
    if info["reason"] is None:
        assert_well_formed(info["ranges"])
        assert info["modules"]


@FUZZ
@given(content=st.binary(min_size=1, max_size=300))
def test_random_multiboot2(runner: Runner, content: bytes) -> None:
    size = struct.pack("<II", 8 + len(content), 0)
    assert runner.run(case.MULTIBOOT2, INFO, {INFO: size + content})["reason"] is not None


# The tests themselves: each of these faults is found by one of the cases above.

PLANTED = {
    "trusts the size of map entries": (
        ("boot/multiboot2.c", " || map.entry_size < sizeof(entry)", ""),
        BAD_MULTIBOOT2["map entries of size 0"],
        case.MULTIBOOT2,
    ),
    "trusts the count of ranges": (
        (
            "boot/memmap.c",
            'if (info->range_count == BOOT_RANGES) {\n        return "',
            'if (0) {\n        return "',
        ),
        Machine(ranges=[(i * 0x100000, PAGE, 1) for i in range(600)]).pvh(),
        case.PVH,
    ),
    "trusts the count of modules": (
        ("boot/collect.c", "info->module_count == BOOT_MODULES", "false"),
        Machine(modules=[(0x2000000 + i * PAGE, PAGE) for i in range(600)]).pvh(),
        case.PVH,
    ),
    "reads the RSDP whole before its size is known": (
        ("boot/rsdp.c", " || size < BOOT_RSDP_SIZE", ""),
        multiboot2(case.tag(14, case.rsdp(0x1234, 0x5678)[:20])),
        case.MULTIBOOT2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_planted_fault_is_found(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    edit, memory, way = PLANTED[name]
    with (
        Runner(tmp_path_factory.mktemp("planted"), edit) as broken,
        pytest.raises(ParserCrashError),
    ):
        broken.run(way, *memory)


SEARCH = settings(FUZZ, max_examples=5000, phases=[Phase.generate])
PLANTED_IN_MAP = {
    "usable memory wins over reserved": (
        "type = MEM_USABLE; type <= MEM_BAD && reason == NULL; type++",
        "type = MEM_BAD; type >= MEM_USABLE && reason == NULL; type--",
    ),
    "partial pages are usable": ("paint(info, page_up(base), page_down(end), type)",
                                 "paint(info, page_down(base), page_up(end), type)"),
    "the upper part of a split range is lost": ("range_end(&ranges[i]) <= end",
                                                "ranges[i].base < end"),
    "neighbours stay apart": ("merge_with_next(info, (uint32_t)at - 1);", "at--;"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED_IN_MAP)
def test_model_finds_planted_fault(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    edit = ("boot/memmap.c", *PLANTED_IN_MAP[name])

    def differs(ranges: list[Range]) -> bool:
        try:
            return parsed_map(broken, ranges, case.PVH) != expected_map(ranges)
        except AssertionError:
            return True

    with Runner(tmp_path_factory.mktemp("planted"), edit) as broken:
        find(
            odd_ranges(),
            differs,
            settings=settings(FUZZ, max_examples=5000, phases=[Phase.generate]),
        )
