# SPDX-License-Identifier: MIT
"""Memory objects and mappings against a model, through their system calls, preempted at random.

The kernel's own code runs on the host with a made-up thread: arguments in its frame, continuations
called as the kernel would. After each call the page tables must say what the model says; at the end
every account must be empty.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from abi import SLOT
from host_c import PHYSICAL, TOP, build
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

PAGE = 4096
ACCOUNT, SPACE, PAGER = SLOT, 2 * SLOT, 3 * SLOT  # handles; shim_mapping.c
LARGE = 512 * PAGE
READ, WRITE, EXECUTE, UNCACHED, BIG = 1, 2, 4, 8, 16
E_RIGHTS, E_INVAL, E_NOMEM, E_BUSY, E_OVERLAP = -3, -4, -6, -11, -13
BLOCKED = -(1 << 63)
BASE = 0x10000000 - 8 * PAGE  # the region under test crosses a large page's boundary
PAGES = 8 + 512 + 24
SHIM = Path(__file__).with_name("shim_mapping.c")
SOURCES = [
    *("kernel/mm/frames.c", "kernel/mm/owner.c", "kernel/mm/slab.c", "kernel/obj/quota.c"),
    "kernel/lib/tree.c",
    *("kernel/arch/paging.c", "kernel/obj/memory.c", "kernel/obj/memory_calls.c"),
    *("kernel/obj/mapping.c", "kernel/obj/map_calls.c", "kernel/obj/space.c"),
    "kernel/obj/reclaim.c",
]


class Kernel:
    """The compiled files, with the types ctypes has to know."""

    def __init__(self, lib: ctypes.CDLL) -> None:
        self.lib = lib
        u64 = ctypes.c_uint64
        lib.start.argtypes = [u64, ctypes.c_int]
        lib.stop.restype = ctypes.c_bool
        lib.call.argtypes, lib.call.restype = [ctypes.c_void_p, *[u64] * 5], ctypes.c_int64
        for name, arguments in {
            "used": 0,
            "greatest_step": 0,
            "rdx": 0,
            "drop": 1,
            "move": 1,
            "limit": 1,
            "page_of": 2,
        }.items():
            function = getattr(lib, name)
            function.argtypes, function.restype = [u64] * arguments, u64
        lib.keep.restype = ctypes.c_void_p
        lib.go_on.argtypes, lib.go_on.restype = [ctypes.c_void_p] * 2, ctypes.c_int64
        lib.slice.argtypes, lib.slice.restype = [u64] * 3, ctypes.c_int64
        lib.copy.argtypes, lib.copy.restype = [u64, ctypes.c_uint32], u64
        lib.cut_once.argtypes = [u64]
        lib.fault.argtypes = [u64, u64]
        lib.give_up_after.argtypes = [ctypes.c_int]
        lib.translate.argtypes = [u64, u64, ctypes.POINTER(u64)]

    def call(self, name: str, *arguments: int) -> int:
        """System call NAME, to its end; the result (rdx by `rdx()`)."""
        function = ctypes.cast(getattr(self.lib, f"sys_{name}"), ctypes.c_void_p)
        padded = [*arguments, 0, 0, 0, 0, 0][:5]
        result: int = self.lib.call(function, *padded)
        return result

    @contextmanager
    def in_the_middle(
        self, name: str, *arguments: int, after: int, result: int = 0
    ) -> Iterator[None]:
        """System call NAME stands still after some steps; in here come other threads' calls.

        Then it goes on to its end, to which not a byte of memory is left, and has that result.
        """
        self.lib.give_up_after(after)
        assert self.call(name, *arguments) == BLOCKED
        kept = self.lib.keep()
        yield
        function = ctypes.cast(getattr(self.lib, f"sys_{name}"), ctypes.c_void_p)
        limit = self.lib.limit(self.lib.used())
        assert self.lib.go_on(kept, function) == result
        self.lib.limit(limit)

    def at_lock(self, number: int, others: Callable[[], None]) -> None:
        """Another core's calls, while the next one here has come to that lock of its way."""
        self.meanwhile = ctypes.CFUNCTYPE(None)(others)
        self.lib.at_lock(number, self.meanwhile)

    def create(self, size: int, pager: int = 0) -> int:
        """A new memory object: its handle, or the error."""
        return self.call("memory_create", ACCOUNT, size, pager) or self.lib.rdx()

    def slice(self, handle: int, first: int, count: int) -> int:
        """A capability for a part: its handle, or the error."""
        result: int = self.lib.slice(handle, first, count)
        return result or self.lib.rdx()

    def address(self, handle: int, page: int) -> int:
        """Where one page of an object is, which is there, in the host's memory."""
        frame: int = self.lib.page_of(handle, page * PAGE)
        assert frame
        base: int = ctypes.c_uint64.in_dll(self.lib, "host_memory").value
        return base + frame

    def read(self, handle: int, page: int) -> bytes:
        """What that page holds."""
        return ctypes.string_at(self.address(handle, page), PAGE)

    def write(self, handle: int, page: int, content: bytes) -> None:
        """Fill it."""
        ctypes.memmove(self.address(handle, page), content, PAGE)

    def pages(self) -> list[int]:
        """What is mapped in the region under test."""
        out = (ctypes.c_uint64 * PAGES)()
        self.lib.translate(BASE, PAGES, out)
        return list(out)


def make(folder: Path, sources: list[str]) -> Kernel:
    """The kernel of these files, compiled in a folder."""
    (folder / "entry_model.h").write_text('#include "kernel/arch/entry/tcb.h"\n')
    locks = "#undef LOCK_CHECK\n#define LOCK_CHECK 1\n"  # the shim is told of each
    return Kernel(build(folder, sources, SHIM.read_text(), PHYSICAL + locks))


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    return make(tmp_path_factory.mktemp("mapping"), SOURCES)


@dataclass(eq=False)
class Paged:
    """What the model says of an object with a pager: what its pages hold."""

    pages: dict[int, bytes] = field(default_factory=dict)
    leaving: dict[int, bytes] = field(default_factory=dict)  # half reclaimed by one who has ended


@dataclass(frozen=True)
class Page:
    """What the model says of one page of the region."""

    handle: int
    offset: int
    flags: int
    allowed: int


flags_sets = st.sampled_from([READ, READ | WRITE, READ | EXECUTE, READ | WRITE | BIG, READ | BIG])
spots = st.one_of(st.integers(0, 39), st.sampled_from([8, 9, 519, 520, 521]))
lengths = st.one_of(st.integers(1, 16), st.sampled_from([511, 512, 513, PAGES]))


class Machine(RuleBasedStateMachine):
    """Memory objects and one space."""

    kernel: Kernel

    def __init__(self) -> None:
        super().__init__()
        self.kernel.lib.start(24 << 20, 3)
        self.objects: dict[int, int] = {}  # handle -> pages
        self.rights: dict[int, int] = {}
        self.space: dict[int, Page] = {}
        self.paged: dict[int, Paged] = {}  # handle -> object, of those that have a pager
        self.pagers: list[int] = []  # handles that can supply
        self.touched: set[int] = set()  # pages of the region that show one of a paged object
        self.count = 0

    def handles(self) -> list[int]:
        return sorted(self.objects)

    @precondition(lambda self: len(self.objects) < 12)
    @rule(pages=lengths)
    def create(self, pages: int) -> None:
        before = self.kernel.lib.used()
        handle = self.kernel.create(pages * PAGE)
        if handle > 1 << 32 or handle < 0:
            assert handle in (E_NOMEM, E_NOMEM + (1 << 64))
            assert self.kernel.lib.used() == before, "not all of it was given back"
            return
        self.objects[handle] = pages
        self.rights[handle] = READ | WRITE | EXECUTE
        for page in {0, pages // 2, pages - 1}:
            frame = self.kernel.lib.page_of(handle, page * PAGE)
            base = ctypes.c_uint64.in_dll(self.kernel.lib, "host_memory").value
            assert frame
            assert ctypes.string_at(base + frame, PAGE) == bytes(PAGE)
            ctypes.memset(base + frame, 0x77, PAGE)

    @precondition(lambda self: self.objects and len(self.objects) < 12)
    @rule(data=st.data(), rights=st.sampled_from([READ, READ | WRITE, READ | EXECUTE]))
    def copy(self, data: st.DataObject, rights: int) -> None:
        handle = data.draw(st.sampled_from(self.handles()))
        rights &= self.rights[handle]
        bits = {READ: 0x20000, WRITE: 0x40000, EXECUTE: 0x80000}
        new = self.kernel.lib.copy(handle, sum(bits[r] for r in bits if rights & r))
        self.objects[new], self.rights[new] = self.objects[handle], rights
        if handle in self.paged:
            self.paged[new] = self.paged[handle]

    @precondition(lambda self: self.objects)
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(self.handles()))
        new = self.kernel.lib.move(handle)
        self.objects[new], self.rights[new] = self.objects.pop(handle), self.rights.pop(handle)
        if handle in self.paged:
            self.paged[new] = self.paged.pop(handle)
        self.pagers = [new if pager == handle else pager for pager in self.pagers]
        for at, page in self.space.items():
            if page.handle == handle:
                self.space[at] = Page(new, page.offset, page.flags, page.allowed)

    @precondition(lambda self: self.objects)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(self.handles()))
        self.kernel.lib.drop(handle)
        del self.objects[handle], self.rights[handle]
        self.space = {at: page for at, page in self.space.items() if page.handle != handle}
        self.paged.pop(handle, None)
        self.pagers = [pager for pager in self.pagers if pager != handle]
        self.touched &= self.space.keys()

    # --- pagers ---

    @precondition(lambda self: len(self.objects) < 12)
    @rule(pages=st.one_of(st.just(1), lengths))
    def create_paged(self, pages: int) -> None:
        handle = self.kernel.create(pages * PAGE, pager=PAGER)
        if handle > 1 << 32 or handle < 0:
            return
        self.objects[handle] = pages
        self.rights[handle] = READ | WRITE | EXECUTE
        self.paged[handle] = Paged()
        self.pagers.append(handle)

    def source(self) -> int | None:
        """A handle of an object whose pages are always there."""
        there = [h for h in self.handles() if h not in self.paged and self.rights[h] & WRITE]
        return there[0] if there else None

    @precondition(lambda self: self.pagers and self.source())
    @rule(data=st.data(), again=st.booleans())
    def supply(self, data: st.DataObject, again: bool) -> None:
        handle, source = data.draw(st.sampled_from(self.pagers)), self.source()
        assert source is not None
        model, place = self.paged[handle], data.draw(st.integers(0, self.objects[handle] - 1))
        if again and {*model.pages, *model.leaving}:
            place = data.draw(st.sampled_from(sorted({*model.pages, *model.leaving})))
        self.count += 1
        content = self.count.to_bytes(8, "little") * (PAGE // 8)
        self.kernel.write(source, 0, content)
        result = self.kernel.call("memory_supply", handle, place * PAGE, source, 0)
        if place in model.pages or place in model.leaving:
            assert result == E_BUSY
        elif result != E_NOMEM:
            assert result == 0
            model.pages[place] = content

    @precondition(lambda self: self.pagers)
    @rule(data=st.data(), patience=st.sampled_from([0, 0, 1, 2, 3]), wanted=st.booleans())
    def reclaim(self, data: st.DataObject, patience: int, wanted: bool) -> None:
        """Take a page back; sometimes the thread ends in the middle."""
        handle = data.draw(st.sampled_from(self.pagers))
        model, place = self.paged[handle], data.draw(st.integers(0, self.objects[handle] - 1))
        there = sorted({*model.pages, *model.leaving})
        if there:
            place = data.draw(st.sampled_from([*there, *there, place]))
        source = self.source() if wanted else None
        before = self.kernel.lib.used()
        self.kernel.lib.give_up_after(patience)
        result = self.kernel.call("memory_reclaim", handle, place * PAGE, source or 0, 0)
        if place not in there:
            assert result == E_INVAL
            return
        content = model.pages.pop(place, None) or model.leaving.pop(place)
        if result == BLOCKED:
            model.leaving[place] = content
            return
        assert result == 0
        assert self.kernel.lib.used() <= before - PAGE
        for at, page in self.space.items():
            if self.paged.get(page.handle) is model and page.offset == place:
                self.touched.discard(at)
        if source:
            assert self.kernel.read(source, 0) == content

    @precondition(lambda self: any(model.pages for model in self.paged.values()))
    @rule(data=st.data(), at=spots, count=st.integers(1, 4))
    def show(self, data: st.DataObject, at: int, count: int) -> None:
        """A page that is there, mapped once more with what follows it, and touched."""
        handle = data.draw(st.sampled_from(sorted(h for h in self.paged if self.paged[h].pages)))
        offset = data.draw(st.sampled_from(sorted(self.paged[handle].pages)))
        count = min(count, PAGES - at, self.objects[handle] - offset)
        spot = BASE + at * PAGE | READ
        result = self.kernel.call("map", SPACE, handle, spot, count * PAGE, offset * PAGE)
        if any(at + i in self.space for i in range(count)):
            assert result == E_OVERLAP
        elif result != E_NOMEM:
            assert result == 0
            for i in range(count):
                self.space[at + i] = Page(handle, offset + i, READ, self.rights[handle])
            self.fault(at, 4)

    @precondition(lambda self: self.touched)
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        """To a page that is mapped."""
        page = self.space[data.draw(st.sampled_from(sorted(self.touched)))]
        model = self.paged[page.handle]
        if page.offset in model.pages:
            self.count += 1
            content = self.count.to_bytes(8, "big") * (PAGE // 8)
            self.kernel.write(page.handle, page.offset, content)
            model.pages[page.offset] = content

    # --- mappings ---

    @precondition(lambda self: self.objects)
    @rule(data=st.data(), at=spots, count=lengths, flags=flags_sets)
    def map(self, data: st.DataObject, at: int, count: int, flags: int) -> None:
        handle = data.draw(st.sampled_from(self.handles()))
        count = min(count, PAGES - at)
        spare = self.objects[handle] - count  # negative: it will be refused
        offset = data.draw(st.sampled_from([0, 1, max(0, spare), max(0, spare) // 2]))
        before = self.kernel.lib.used()
        result = self.kernel.call(
            "map", SPACE, handle, BASE + at * PAGE | flags, count * PAGE, offset * PAGE
        )
        if flags & 7 & ~self.rights[handle]:
            assert result == E_RIGHTS
        elif offset + count > self.objects[handle]:
            assert result == E_INVAL
        elif any(at + i in self.space for i in range(count)):
            assert result == E_OVERLAP
        elif result == E_NOMEM:
            assert self.kernel.lib.used() == before, "not all of it was given back"
        else:
            assert result == 0
            for i in range(count):
                self.space[at + i] = Page(handle, offset + i, flags, self.rights[handle])

    @rule(at=spots, count=lengths)
    def unmap(self, at: int, count: int) -> None:
        count = min(count, PAGES - at)
        result = self.kernel.call("unmap", SPACE, BASE + at * PAGE, count * PAGE)
        if result == E_NOMEM:
            return
        assert result == 0
        for i in range(count):
            self.space.pop(at + i, None)
        self.touched &= self.space.keys()

    @rule(at=spots, count=lengths, flags=st.sampled_from([READ, READ | WRITE, READ | EXECUTE]))
    def protect(self, at: int, count: int, flags: int) -> None:
        count = min(count, PAGES - at)
        result = self.kernel.call("protect", SPACE, BASE + at * PAGE, count * PAGE, flags)
        if result == E_NOMEM:
            return
        for i in range(count):
            page = self.space.get(at + i)
            if page is None:
                continue
            if flags & ~page.allowed:
                assert result == E_RIGHTS
                return
            self.space[at + i] = Page(
                page.handle, page.offset, flags | page.flags & ~7, page.allowed
            )
        assert result == 0

    @rule(at=spots, error=st.sampled_from([4, 6, 20]))
    def access(self, at: int, error: int) -> None:
        """A fault in mapped memory is no fault at all when the access is allowed."""
        self.fault(at, error)

    def fault(self, at: int, error: int) -> None:
        page = self.space.get(at)
        needed = {4: READ, 6: WRITE, 20: EXECUTE}[error]
        wanted = 0 if page is not None and page.flags & needed else 2
        model = self.paged.get(page.handle) if page is not None else None
        if model is not None and page is not None and wanted == 0:
            wanted = 0 if page.offset in model.pages else 1  # ask the pager
            what = self.kernel.lib.fault(BASE + at * PAGE + 5, error)
            assert what == wanted or (what == 2 and wanted == 0)  # no memory for page tables
            if what == 0:
                self.touched.add(at)
            return
        assert self.kernel.lib.fault(BASE + at * PAGE + 5, error) == wanted

    @invariant()
    def tables_say_the_same(self) -> None:
        found = self.kernel.pages()
        for at in range(PAGES):
            page = self.space.get(at)
            expected = 0
            model = self.paged.get(page.handle) if page is not None else None
            if page is not None and model is not None:
                if page.offset in model.leaving:
                    continue  # it may or may not have been visited
                if at in self.touched:
                    assert page.offset in model.pages
            if page is not None and (model is None or at in self.touched):
                expected = self.kernel.lib.page_of(page.handle, page.offset * PAGE)
                expected |= page.flags & (WRITE | EXECUTE)
            assert found[at] == expected, f"page {at}: {found[at]:#x}, not {expected:#x}"

    def teardown(self) -> None:
        for handle in self.handles()[::2]:
            self.kernel.lib.drop(handle)
        while self.kernel.lib.stop():
            pass
        for handle in self.handles()[1::2]:
            self.kernel.lib.drop(handle)
        assert self.kernel.lib.used() == 0
        assert self.kernel.lib.owned_frames() == 0


def test_against_model(kernel: Kernel) -> None:
    Machine.kernel = kernel
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@pytest.fixture
def fresh(kernel: Kernel) -> Kernel:
    kernel.lib.start(24 << 20, 0)
    return kernel


def test_refusals(fresh: Kernel) -> None:
    handle = fresh.create(4 * PAGE)
    address = BASE
    assert fresh.call("map", SPACE, handle, address | READ | WRITE | EXECUTE, PAGE, 0) == E_INVAL
    assert fresh.call("map", SPACE, handle, address | WRITE, PAGE, 0) == E_INVAL
    assert fresh.call("map", SPACE, handle, address | READ | 0x20, PAGE, 0) == E_INVAL
    assert fresh.call("map", SPACE, handle, address | READ, PAGE, 1) == E_INVAL
    assert fresh.call("map", SPACE, handle, address | READ, 0, 0) == E_INVAL
    assert fresh.call("map", SPACE, handle, 0 | READ, PAGE, 0) == E_INVAL
    last = 0x7FFFFFFFF000
    assert fresh.call("map", SPACE, handle, last | READ, PAGE, 0) == E_INVAL
    assert fresh.call("map", SPACE, handle, (1 << 63) | READ, PAGE, 0) == E_INVAL
    assert fresh.call("map", SPACE, handle, last - PAGE | READ, 2 * PAGE, 0) == E_INVAL
    assert fresh.call("map", SPACE, handle, last - PAGE | READ, PAGE, 0) == 0
    assert fresh.call("map", SPACE, handle, address | READ, 5 * PAGE, 0) == E_INVAL
    assert fresh.call("map", SPACE, handle, address | READ, PAGE, (1 << 64) - PAGE) == E_INVAL
    assert fresh.call("unmap", SPACE, address, (1 << 64) - PAGE) == E_INVAL
    assert fresh.call("protect", SPACE, address, PAGE, WRITE | READ | EXECUTE) == E_INVAL
    assert fresh.call("memory_create", ACCOUNT, 0, 0) == E_INVAL
    assert fresh.call("memory_create", ACCOUNT, 1 << 48, 0) == E_INVAL


def test_large_pages_are_used_and_split(fresh: Kernel) -> None:
    handle = fresh.create(2 * LARGE)
    address = BASE + 8 * PAGE
    before = fresh.lib.used()
    assert fresh.call("map", SPACE, handle, address | READ | WRITE | BIG, 2 * LARGE, 0) == 0
    # A PDPT and a PD: no table for 4 KiB pages. (The mapping lies beside the memory object.)
    assert fresh.lib.used() - before == 2 * PAGE
    assert fresh.call("unmap", SPACE, address + PAGE, 510 * PAGE) == 0
    assert fresh.lib.used() - before == 3 * PAGE
    pages = fresh.pages()
    assert pages[8]
    assert pages[8 + 511]
    assert not any(pages[9 : 8 + 511])
    assert fresh.call("unmap", SPACE, address, 2 * LARGE) == 0
    assert fresh.lib.used() == before


def test_hole_that_cannot_be_paid_changes_nothing(fresh: Kernel) -> None:
    handle = fresh.create(LARGE)
    address = BASE + 8 * PAGE
    assert fresh.call("map", SPACE, handle, address | READ | BIG, LARGE, 0) == 0
    before, pages = fresh.lib.used(), fresh.pages()
    old = fresh.lib.limit(before)
    assert fresh.call("unmap", SPACE, address + PAGE, PAGE) == E_NOMEM
    assert (fresh.lib.used(), fresh.pages()) == (before, pages)
    fresh.lib.limit(old)
    assert fresh.call("unmap", SPACE, address + PAGE, PAGE) == 0


@pytest.mark.parametrize("name", ["unmap", "protect"])
def test_two_cuts_are_both_paid_or_none(fresh: Kernel, name: str) -> None:
    """Both ends in a large page each: two tables, and two mappings, which may take a slab more."""
    handle = fresh.create(2 * LARGE)
    address = BASE + 8 * PAGE
    arguments = (SPACE, address + PAGE, 2 * LARGE - 2 * PAGE, READ)
    assert fresh.call("map", SPACE, handle, address | READ | WRITE | BIG, 2 * LARGE, 0) == 0
    before, pages = fresh.lib.used(), fresh.pages()
    results = []
    for spare in range(4):
        old = fresh.lib.limit(before + spare * PAGE)
        results.append(fresh.call(name, *arguments))
        if results[-1] == E_NOMEM:
            assert (fresh.lib.used(), fresh.pages()) == (before, pages), f"{spare} pages"
        fresh.lib.limit(old)
    assert results[:2] == [E_NOMEM, E_NOMEM]
    assert results[3] == 0
    changed = fresh.pages()[8 : 8 + 512]
    assert changed[0] & WRITE
    assert not any(page & WRITE for page in changed[1:])


@pytest.mark.parametrize("steps", [1, 3])
def test_what_is_mapped_in_the_middle_of_an_unmap_stays(fresh: Kernel, steps: int) -> None:
    """If it lies across one of the ends: it is mapped after the range was unmapped."""
    fresh.lib.start(24 << 20, 1)
    handle = fresh.create(512 * PAGE)
    at = BASE + PAGE
    assert fresh.call("map", SPACE, handle, at | READ, 200 * PAGE, 0) == 0
    with fresh.in_the_middle("unmap", SPACE, at, 300 * PAGE, after=steps):
        for page in (0, 299):  # relative to BASE
            spot = BASE + page * PAGE
            assert fresh.call("map", SPACE, handle, spot | READ | WRITE, 3 * PAGE, 0) == 0
    there = [page for page, entry in enumerate(fresh.pages()) if entry]
    assert there == [0, 1, 2, 299, 300, 301]


@pytest.mark.parametrize("steps", [1, 3])
def test_what_is_mapped_in_the_middle_of_a_protect_stays(fresh: Kernel, steps: int) -> None:
    fresh.lib.start(24 << 20, 1)
    handle = fresh.create(512 * PAGE)
    at = BASE + PAGE
    assert fresh.call("map", SPACE, handle, at | READ | WRITE, 200 * PAGE, 0) == 0
    with fresh.in_the_middle("protect", SPACE, at, 300 * PAGE, READ, after=steps):
        assert fresh.call("unmap", SPACE, at, (32 * steps + 10) * PAGE) == 0
        for page in (0, 299):
            spot = BASE + page * PAGE
            count = 32 * steps + 6 if page == 0 else 3  # it begins below, and ends behind
            assert fresh.call("map", SPACE, handle, spot | READ | WRITE, count * PAGE, 0) == 0
    pages = fresh.pages()
    new = {*range(32 * steps + 6), 299, 300, 301}
    old = set(range(32 * steps + 11, 201))
    assert {page for page, entry in enumerate(pages) if entry} == new | old
    assert {page for page, entry in enumerate(pages) if entry & WRITE} == new
    for page in new:
        assert fresh.lib.fault(BASE + page * PAGE, 6) == 0, "the mapping says the same"


@pytest.mark.parametrize("steps", [1, 3])
def test_of_two_that_protect_the_later_one_wins(fresh: Kernel, steps: int) -> None:
    """The one in the middle leaves the rest of a mapping to who has changed it since."""
    fresh.lib.start(24 << 20, 1)
    handle = fresh.create(512 * PAGE)
    whole = (SPACE, BASE, 200 * PAGE)
    assert fresh.call("map", SPACE, handle, BASE | READ | WRITE, 200 * PAGE, 0) == 0
    with fresh.in_the_middle("protect", *whole, READ, after=steps):
        assert fresh.call("protect", *whole, READ | EXECUTE) == 0
    assert {entry & (WRITE | EXECUTE) for entry in fresh.pages() if entry} == {EXECUTE}


def test_pager_supplies_page_by_page(fresh: Kernel) -> None:
    paged, source = fresh.create(1 << 40, pager=PAGER), fresh.create(PAGE)
    base = ctypes.c_uint64.in_dll(fresh.lib, "host_memory").value
    ctypes.memset(base + fresh.lib.page_of(source, 0), 0x42, PAGE)
    assert fresh.call("map", SPACE, paged, BASE | READ, 1 << 30, 1 << 35) == 0
    assert fresh.pages() == [0] * PAGES
    assert fresh.lib.fault(BASE + 3 * PAGE, 4) == 1
    assert fresh.lib.fault(BASE + 3 * PAGE, 6) == 2, "written, but mapped read-only"
    offset = (1 << 35) + 3 * PAGE
    assert fresh.call("memory_supply", paged, offset, source, 0) == 0
    assert fresh.call("memory_supply", paged, offset, source, 0) == E_BUSY
    assert fresh.call("memory_supply", paged, offset, source, PAGE) == E_INVAL
    assert fresh.call("memory_supply", source, 0, paged, offset) == E_INVAL
    assert fresh.lib.fault(BASE + 3 * PAGE, 4) == 0
    assert [at for at, page in enumerate(fresh.pages()) if page] == [3]
    frame = fresh.lib.page_of(paged, offset)
    assert ctypes.string_at(base + frame, PAGE) == b"\x42" * PAGE
    # What is left of a mapping still shows the same part of the object.
    assert fresh.call("unmap", SPACE, BASE, 2 * PAGE) == 0
    assert fresh.call("unmap", SPACE, BASE + 4 * PAGE, PAGE) == 0
    for page in (2, 5):
        assert fresh.lib.fault(BASE + page * PAGE, 4) == 1
        offset = (1 << 35) + page * PAGE
        assert fresh.call("memory_supply", paged, offset, source, 0) == 0
        assert fresh.lib.fault(BASE + page * PAGE, 4) == 0
        assert fresh.pages()[page] == fresh.lib.page_of(paged, offset)
    fresh.lib.drop(paged)
    assert fresh.pages() == [0] * PAGES


def test_slices_reach_no_further(fresh: Kernel) -> None:
    whole = fresh.create(8 * PAGE)
    frames = [fresh.lib.page_of(whole, i * PAGE) for i in range(8)]
    part = fresh.slice(whole, 2 * PAGE, 4 * PAGE)
    inner = fresh.slice(part, PAGE, 2 * PAGE)
    assert fresh.call("map", SPACE, inner, BASE | READ, 2 * PAGE, 0) == 0
    assert [page for page in fresh.pages() if page] == frames[3:5]
    assert fresh.call("map", SPACE, inner, BASE + LARGE | READ, PAGE, 2 * PAGE) == E_INVAL
    assert fresh.call("map", SPACE, inner, BASE + LARGE | READ, 3 * PAGE, 0) == E_INVAL
    for first, count in [
        (0, 0),
        (0, 5 * PAGE),
        (4 * PAGE, PAGE),
        (1, PAGE),
        (0, 1),
        ((1 << 64) - PAGE, 2 * PAGE),
        (PAGE, (1 << 64) - PAGE),
    ]:
        assert fresh.slice(part, first, count) == E_INVAL
    fresh.lib.drop(inner)
    assert fresh.pages() == [0] * PAGES


def test_half_unmapped_is_a_smaller_mapping(fresh: Kernel) -> None:
    """What a thread sees that runs between two steps of an unmap."""
    paged, source = fresh.create(1 << 40, pager=PAGER), fresh.create(PAGE)
    assert fresh.call("map", SPACE, paged, BASE | READ, 64 * PAGE, 0) == 0
    assert fresh.call("memory_supply", paged, 0, source, 0) == 0
    assert fresh.lib.fault(BASE, 4) == 0
    address = BASE + 8 * PAGE  # where a page table begins
    assert fresh.call("unmap", SPACE, BASE, 8 * PAGE) == 0
    assert fresh.call("memory_supply", paged, 8 * PAGE, source, 0) == 0
    assert fresh.lib.fault(address, 4) == 0
    fresh.lib.cut_once(address)
    cut = next(i for i in range(64) if fresh.lib.fault(BASE + i * PAGE, 4) == 1)
    assert 8 < cut < 64
    assert fresh.call("memory_supply", paged, cut * PAGE, source, 0) == 0
    assert fresh.lib.fault(BASE + cut * PAGE, 4) == 0
    assert fresh.lib.fault(BASE + (cut + 1) * PAGE, 4) == 1


@pytest.mark.parametrize("step", range(7))
def test_map_undone_at_each_allocation(fresh: Kernel, step: int) -> None:
    handle = fresh.create(PAGES * PAGE)
    before = fresh.lib.used()
    fresh.lib.limit(before + step * PAGE)
    result = fresh.call("map", SPACE, handle, BASE | READ, PAGES * PAGE, 0)
    # PDPT, PD, and three page tables: the region begins before a boundary.
    assert result == (0 if step >= 5 else E_NOMEM)
    if result:
        assert fresh.lib.used() == before
        assert fresh.pages() == [0] * PAGES


def test_a_page_that_is_touched_in_the_middle_of_a_map_of_large_ones(fresh: Kernel) -> None:
    """There is a table in the large page's place, and it is filled."""
    fresh.lib.start(24 << 20, 1)
    handle, spot = fresh.create(LARGE), BASE + 8 * PAGE
    large = ("map", SPACE, handle, spot | READ | BIG, LARGE, 0)
    with fresh.in_the_middle(*large, after=1):
        assert fresh.lib.fault(spot + 5 * PAGE, 4) == 0
    assert all(fresh.pages()[8 : 8 + 512])


@pytest.mark.parametrize("first", [0, 2], ids=["at the start", "behind what is filled"])
def test_what_is_mapped_in_the_middle_of_a_map_that_fails_stays(fresh: Kernel, first: int) -> None:
    """Of what the first has mapped, somebody else has unmapped that part. All the rest goes."""
    fresh.lib.start(24 << 20, 1)
    handle = fresh.create(PAGES * PAGE)
    spot = BASE + first * PAGE
    with fresh.in_the_middle(
        "map", SPACE, handle, BASE | READ, PAGES * PAGE, 0, after=4, result=E_NOMEM
    ):
        assert fresh.call("unmap", SPACE, spot, 3 * PAGE) == 0
        assert fresh.call("map", SPACE, handle, spot | READ | WRITE, 3 * PAGE, 0) == 0
    assert [at for at, page in enumerate(fresh.pages()) if page] == [first, first + 1, first + 2]
    assert fresh.lib.fault(BASE + (first + 3) * PAGE, 4) == 2, "nothing is mapped there"


def test_of_two_that_map_only_the_one_that_fails_is_undone(fresh: Kernel) -> None:
    """Where the first has been unmapped the second maps, and is still at it."""
    fresh.lib.start(24 << 20, 1)
    handle = fresh.create(PAGES * PAGE)
    spot, size = BASE + 8 * PAGE, 64 * PAGE
    first, second = ExitStack(), ExitStack()
    whole = ("map", SPACE, handle, BASE | READ, PAGES * PAGE, 0)
    first.enter_context(fresh.in_the_middle(*whole, after=12, result=E_NOMEM))
    assert fresh.call("unmap", SPACE, spot, size) == 0
    second.enter_context(
        fresh.in_the_middle("map", SPACE, handle, spot | READ | WRITE, size, 0, after=1)
    )
    assert 0 < sum(entry & WRITE > 0 for entry in fresh.pages()) < 64
    first.close()
    second.close()
    assert [at for at, page in enumerate(fresh.pages()) if page] == list(range(8, 72))


def test_map_looks_up_after_each_new_table(fresh: Kernel) -> None:
    """Each has to be cleared. With something pending at every look no step makes more than one."""
    fresh.lib.start(24 << 20, 1)
    handle = fresh.create(PAGES * PAGE)
    before = fresh.lib.used()
    assert fresh.call("map", SPACE, handle, BASE | READ, PAGES * PAGE, 0) == 0
    assert fresh.lib.used() - before >= 5 * PAGE
    assert fresh.lib.greatest_step() <= 2 * PAGE  # the first has the mapping itself to make
    assert all(fresh.pages())


@pytest.mark.parametrize(
    ("call", "arguments", "needs"),
    [
        ("memory_create", (PAGE, 0), 2),  # the object's slab, the page
        ("memory_create", (3 * PAGE, 0), 5),  # and a table
        ("memory_create", (LARGE, 0), 514),  # with less, single pages are tried
        ("memory_create", (LARGE + PAGE, 0), 516),
        ("memory_create", (1 << 40, PAGER), 2),
        ("space_create", (0,), 1),  # beside another in its slab
        ("quota_split", (3 * PAGE,), 4),
    ],
)
def test_creation_undone_at_each_allocation(
    fresh: Kernel, call: str, arguments: tuple[int, ...], needs: int
) -> None:
    before = fresh.lib.used()
    for step in [*range(min(needs, 8)), *range(max(8, needs - 6), needs)]:
        fresh.lib.limit(before + step * PAGE)
        assert fresh.call(call, ACCOUNT, *arguments) == E_NOMEM, step
        assert fresh.lib.used() == before, step
    fresh.lib.limit(before + needs * PAGE)
    assert fresh.call(call, ACCOUNT, *arguments) == 0


def touched(kernel: Kernel, paged: int, count: int, at: int = 0) -> None:
    """Map the object's first `count` pages at a place of the region, each of them touched."""
    assert kernel.call("map", SPACE, paged, BASE + at * PAGE | READ | WRITE, count * PAGE, 0) == 0
    for page in range(count):
        assert kernel.lib.fault(BASE + (at + page) * PAGE, 6) == 0


def paged_object(kernel: Kernel, count: int) -> tuple[int, int]:
    """One with so many pages there, page n full of n, and one to copy from and to."""
    paged, other = kernel.create(1 << 30, pager=PAGER), kernel.create(PAGE)
    for page in range(count):
        kernel.write(other, 0, bytes([page]) * PAGE)
        assert kernel.call("memory_supply", paged, page * PAGE, other, 0) == 0
    return paged, other


def test_a_mapping_cut_in_two_loses_the_page_in_both(fresh: Kernel) -> None:
    paged, other = paged_object(fresh, 8)
    touched(fresh, paged, 8)
    assert fresh.call("unmap", SPACE, BASE + 3 * PAGE, PAGE) == 0
    before = fresh.lib.used()
    for number, page in enumerate((1, 6)):
        assert fresh.call("memory_reclaim", paged, page * PAGE, other, 0) == 0
        assert fresh.read(other, 0) == bytes([page]) * PAGE
        assert fresh.lib.used() == before - (number + 1) * PAGE
    assert [at for at, page in enumerate(fresh.pages()) if page] == [0, 2, 4, 5, 7]


@pytest.mark.parametrize("steps", [1, 5, 29, 32])
def test_who_ends_in_the_middle_leaves_work_for_the_next(fresh: Kernel, steps: int) -> None:
    """Or for one who wants another page, and has to wait for nobody."""
    fresh.lib.start(24 << 20, 1)  # preempted at every look
    paged, other = paged_object(fresh, 2)
    for i in range(30):
        touched(fresh, paged, 2, at=2 * i)
    fresh.lib.give_up_after(steps)
    assert fresh.call("memory_reclaim", paged, 0, other, 0) == (BLOCKED if steps < 31 else 0)
    if steps < 31:
        assert 60 - steps - 1 <= sum(page != 0 for page in fresh.pages()) <= 60 - steps + 1
        assert fresh.lib.page_of(paged, 0) == 0
        assert fresh.lib.fault(BASE, 4) == 1, "missing, for whoever touches it"
        assert fresh.call("memory_supply", paged, 0, other, 0) == E_BUSY
    assert fresh.call("memory_reclaim", paged, PAGE, 0, 0) == 0
    assert not any(fresh.pages())
    if steps < 31:
        assert fresh.call("memory_reclaim", paged, 0, other, 0) == 0
    assert fresh.read(other, 0) == bytes(PAGE)
    for page in (0, PAGE):
        assert fresh.call("memory_reclaim", paged, page, 0, 0) == E_INVAL, "it is gone"
        assert fresh.call("memory_supply", paged, page, other, 0) == 0


@pytest.mark.parametrize("number", range(1, 9))
def test_two_cores_reclaim_and_nothing_else_is_unmapped(fresh: Kernel, number: int) -> None:
    """The other one goes on to a page that the mapping that was found does not show.

    Its address, reckoned from this mapping, is another object's here, and could be the kernel's.
    """
    fresh.lib.start(24 << 20, 1)
    paged, other = paged_object(fresh, 6)
    assert fresh.call("map", SPACE, other, BASE | READ, PAGE, 0) == 0
    found = ("map", SPACE, paged, BASE + 5 * PAGE | READ, PAGE, 5 * PAGE)
    assert fresh.call(*found) == 0
    assert fresh.lib.fault(BASE + 5 * PAGE, 4) == 0
    for i in range(32):  # as many as are passed over in one go
        spot = BASE + (8 + i) * PAGE | READ
        assert fresh.call("map", SPACE, paged, spot, PAGE, (8 + i) * PAGE) == 0
    results = []

    def others() -> None:
        fresh.lib.give_up_after(2)
        results.append(fresh.call("memory_reclaim", paged, 0, 0, 0))

    fresh.at_lock(number, others)
    assert fresh.call("memory_reclaim", paged, 5 * PAGE, 0, 0) == 0
    assert len(results) == 1
    assert [at for at, page in enumerate(fresh.pages()) if page] == [0]
    assert fresh.call("memory_reclaim", paged, 0, 0, 0) == (E_INVAL if results == [0] else 0)


def test_an_object_that_ends_with_a_page_half_gone(fresh: Kernel) -> None:
    fresh.lib.start(24 << 20, 1)
    before = fresh.lib.used()
    for size in (PAGE, 1 << 30):
        paged, other = fresh.create(size, pager=PAGER), fresh.create(PAGE)
        assert fresh.call("memory_supply", paged, 0, other, 0) == 0
        for i in range(4):
            touched(fresh, paged, 1, at=2 * i)
        fresh.lib.give_up_after(2)
        assert fresh.call("memory_reclaim", paged, 0, 0, 0) == BLOCKED
        for handle in (paged, other):
            fresh.lib.drop(handle)
        assert fresh.lib.used() == before


def test_refusals_of_reclaim(fresh: Kernel) -> None:
    paged, other = paged_object(fresh, 2)
    empty = fresh.create(1 << 30, pager=PAGER)
    part = fresh.slice(paged, PAGE, PAGE)
    for arguments in (
        (paged, 2 * PAGE, 0, 0),
        (paged, 1, 0, 0),
        (paged, 1 << 30, 0, 0),
        (paged, (1 << 64) - PAGE, 0, 0),
        (part, PAGE, 0, 0),
        (other, 0, 0, 0),
        (paged, 0, other, PAGE),
        (paged, 0, other, 1),
        (paged, 0, other, (1 << 64) - PAGE),
        (paged, 0, empty, 0),
        (paged, 0, paged, 0),
    ):
        assert fresh.call("memory_reclaim", *arguments) == E_INVAL, arguments
    assert fresh.lib.page_of(paged, 0), "nothing is lost"
    assert fresh.call("memory_reclaim", paged, 0, paged, PAGE) == 0
    assert fresh.read(paged, 1) == bytes(PAGE)
    assert fresh.call("memory_reclaim", part, 0, other, 0) == 0
    assert fresh.lib.page_of(paged, PAGE) == 0


MUTANTS = {
    "a page's owner is not noted": ("memory.c", "frame_own(frame, memory, offset);", ""),
    "a mapping is not visited": ("reclaim.c", "mapping_forget(mapping, offset);", "(void)offset;"),
    "copied before the last could write": (
        "reclaim.c",
        "memcpy(phys_to_virt(copy), phys_to_virt(*frame), PAGE_SIZE);",
        "",
    ),
}


# The model without the rules that these need not. With all of them, whether an example comes by
# what takes five in a row is luck, and luck depends on all modules that are loaded: hypothesis
# draws from their constants.
Paging = type(
    "Paging", (Machine,), dict.fromkeys(("copy", "move", "drop", "map", "unmap", "protect"))
)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_planted_faults_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    """The control of the model: what it has to say of kernels that forget something."""
    name, old, new = MUTANTS[mutant]
    wrong = tmp_path / name
    text = (TOP / "kernel/obj" / name).read_text()
    assert text.count(old) == 1
    wrong.write_text(text.replace(old, new))
    sources = [str(wrong) if source.endswith(f"obj/{name}") else source for source in SOURCES]
    monkeypatch.setattr(Machine, "kernel", make(tmp_path, sources), raising=False)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            Paging,
            settings=settings(
                max_examples=400,
                stateful_step_count=40,
                deadline=None,
                phases=[Phase.generate],
                derandomize=True,
                print_blob=False,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
