# SPDX-License-Identifier: MIT
"""Frames, slabs and accounts: nothing that is handed out overlaps, all is zeroed and adds up."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

import pytest
from host_c import build
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

FRAMES = 2048
PAGE = 4096
HOLE = range(700, 703)  # frames that are not RAM
SHIM = f"""
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/debug/panic.h"
#include "kernel/grace.h"
#include "kernel/mm/frames.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/quota.h"

uint64_t host_memory;
/* quota.c's system calls are not under test here. */
void object_init(struct object *object, enum object_type type, struct quota *quota)
{{
    (void)object, (void)type, (void)quota;
}}
void object_unref(struct object *object) {{ (void)object; }}
void *object_alloc(struct quota *quota, size_t size) {{ return kmem_alloc(quota, size); }}
bool grace_pending(void) {{ return false; }}
int64_t grace_wait(struct thread *self, continuation_fn *then)
{{
    (void)self, (void)then;
    abort();
}}
int64_t cap_publish(struct thread *t, struct object *o) {{ (void)t, (void)o; return 0; }}
int cap_error(const struct space *s, cap_t handle, enum object_type type)
{{
    (void)s, (void)handle, (void)type;
    return 0;
}}

static struct page_frame table[{FRAMES}];
static struct quota accounts[3];

void start(uint64_t limit0, uint64_t limit1, uint64_t limit2);
void start(uint64_t limit0, uint64_t limit1, uint64_t limit2)
{{
    static void *block;
    if (!block) {{
        block = aligned_alloc(1 << 21, {FRAMES * PAGE});
    }}
    host_memory = (uint64_t)block;
    memset(block, 0xa5, {FRAMES * PAGE});
    uint64_t empty;
    while ((empty = frames_take(0)) != 0) {{ /* what the last run left */ }}
    memset(table, 0, sizeof(table));
    memset(accounts, 0, sizeof(accounts));
    frames_init(table, {FRAMES});
    frames_add(PAGE_SIZE, {(HOLE.start - 1) * PAGE});
    frames_add({HOLE.stop * PAGE}, {(FRAMES - HOLE.stop) * PAGE});
    accounts[0].limit = limit0;
    accounts[1].limit = limit1;
    accounts[2].limit = limit2;
}}
static jmp_buf bug;
void panic(const char *format, ...) {{ (void)format; longjmp(bug, 1); }}
int frame_free_panics(struct quota *quota, uint64_t physical, unsigned order);
int frame_free_panics(struct quota *quota, uint64_t physical, unsigned order)
{{
    if (setjmp(bug)) {{
        return 1;
    }}
    frame_free(quota, physical, order);
    return 0;
}}
int kmem_free_panics(struct quota *quota, void *memory, size_t size);
int kmem_free_panics(struct quota *quota, void *memory, size_t size)
{{
    if (setjmp(bug)) {{
        return 1;
    }}
    kmem_free(quota, memory, size);
    return 0;
}}
int kmem_alloc_panics(struct quota *quota, size_t size);
int kmem_alloc_panics(struct quota *quota, size_t size)
{{
    if (setjmp(bug)) {{
        return 1;
    }}
    kmem_alloc(quota, size);
    return 0;
}}
struct quota *account(int i);
struct quota *account(int i) {{ return &accounts[i]; }}
uint64_t used(int i);
uint64_t used(int i) {{ return accounts[i].used; }}
"""
USABLE = FRAMES - 1 - len(HOLE)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    sources = ["kernel/mm/frames.c", "kernel/mm/slab.c", "kernel/obj/quota.c"]
    lib = build(tmp_path_factory.mktemp("frames"), sources, SHIM)
    u64, size, pointer = ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p
    lib.start.argtypes = [u64, u64, u64]
    lib.account.restype = pointer
    lib.frame_alloc.argtypes, lib.frame_alloc.restype = [pointer, ctypes.c_uint], u64
    lib.frame_free.argtypes = [pointer, u64, ctypes.c_uint]
    lib.kmem_alloc.argtypes, lib.kmem_alloc.restype = [pointer, size], pointer
    lib.kmem_free.argtypes = [pointer, pointer, size]
    lib.frame_free_panics.argtypes = lib.frame_free.argtypes
    lib.kmem_free_panics.argtypes = lib.kmem_free.argtypes
    lib.kmem_alloc_panics.argtypes = lib.kmem_alloc.argtypes
    lib.mm_free_bytes.restype = lib.used.restype = u64
    return lib


@dataclass
class Model:
    """What must hold of everything that has been handed out."""

    # address -> bytes, owner, whether it lies in a slab
    live: dict[int, tuple[int, int, bool]] = field(default_factory=dict)

    def overlaps(self, at: int, size: int) -> bool:
        return any(
            at < other + length and other < at + size for other, (length, _, _) in self.live.items()
        )

    def charge(self, owner: int, base: int) -> int:
        """The account's frames: whole blocks, and each frame that a small object of its lies in."""
        blocks = sum(size for size, who, small in self.live.values() if who == owner and not small)
        slabs = {
            (at - base) // PAGE
            for at, (_, who, small) in self.live.items()
            if who == owner and small
        }
        return blocks + PAGE * len(slabs)


class Machine(RuleBasedStateMachine):
    """Random allocation and release by three accounts, the third of which cannot be satisfied."""

    lib: ctypes.CDLL
    limits = (4 << 20, 64 * PAGE, 3 * PAGE)

    def __init__(self) -> None:
        super().__init__()
        self.lib.start(*self.limits)
        self.base = ctypes.c_uint64.in_dll(self.lib, "host_memory").value
        self.model = Model()

    def taken(self, at: int, size: int, owner: int, small: bool) -> None:
        frame = (at - self.base) // PAGE
        assert at % size == 0 or not small
        assert frame > 0
        assert frame + size // PAGE <= FRAMES
        assert not set(range(frame, frame + max(1, size // PAGE))) & set(HOLE)
        assert not self.model.overlaps(at, size)
        assert ctypes.string_at(at, size) == bytes(size), "not zeroed"
        ctypes.memset(at, 0x5A, size)
        self.model.live[at] = (size, owner, small)

    @rule(owner=st.integers(0, 2), order=st.integers(0, 9))
    def take_frames(self, owner: int, order: int) -> None:
        before = self.lib.used(owner)
        physical = self.lib.frame_alloc(self.lib.account(owner), order)
        if physical == 0:
            assert order > 0 or before + PAGE > self.limits[owner], "refused without reason"
            return
        assert physical % (PAGE << order) == 0
        self.taken(self.base + physical, PAGE << order, owner, small=False)

    @rule(owner=st.integers(0, 2), size=st.integers(1, 4096), count=st.integers(1, 70))
    def take_objects(self, owner: int, size: int, count: int) -> None:
        rounded = max(64, 1 << (size - 1).bit_length())
        for _ in range(count):
            at = self.lib.kmem_alloc(self.lib.account(owner), size)
            if at is None:
                assert self.lib.used(owner) + PAGE > self.limits[owner], "refused without reason"
                return
            self.taken(at, rounded, owner, small=rounded < PAGE)

    @precondition(lambda self: self.model.live)
    @rule(data=st.data(), count=st.integers(1, 70))
    def give(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.model.live))):
            at = data.draw(st.sampled_from(sorted(self.model.live)))
            size, owner, small = self.model.live.pop(at)
            if small:
                self.lib.kmem_free(self.lib.account(owner), at, size)
            else:
                order = (size // PAGE).bit_length() - 1
                self.lib.frame_free(self.lib.account(owner), at - self.base, order)

    @invariant()
    def adds_up(self) -> None:
        used = [self.lib.used(owner) for owner in range(3)]
        assert used == [self.model.charge(owner, self.base) for owner in range(3)]
        assert self.lib.mm_free_bytes() == USABLE * PAGE - sum(used)

    @invariant()
    def nobody_else_writes(self) -> None:
        for at, (size, _, _) in self.model.live.items():
            assert ctypes.string_at(at, size) == b"\x5a" * size

    def teardown(self) -> None:
        """All given back: memory is whole again, down to the largest blocks."""
        while self.model.live:
            at, (size, owner, small) = self.model.live.popitem()
            if small:
                self.lib.kmem_free(self.lib.account(owner), at, size)
            else:
                self.lib.frame_free(
                    self.lib.account(owner),
                    at - self.base,
                    (size // PAGE).bit_length() - 1,
                )
        self.adds_up()
        largest = [self.lib.frame_alloc(self.lib.account(0), 9) for _ in range(2)]
        assert all(largest), "blocks were not merged"


def test_allocator_against_model(kernel: ctypes.CDLL) -> None:
    Machine.lib = kernel
    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=60, stateful_step_count=30, deadline=None),
    )


def test_exhaustion_is_the_account_s_own(kernel: ctypes.CDLL) -> None:
    kernel.start(10 * PAGE, 10 * PAGE, 0)
    mine, other = kernel.account(0), kernel.account(1)
    objects = [kernel.kmem_alloc(mine, 64) for _ in range(10 * 64)]
    assert all(objects)
    assert kernel.kmem_alloc(mine, 64) is None
    # One object of 64 bytes left in each frame still pays for the frame: nobody else does.
    for index, at in enumerate(objects):
        if index % 64:
            kernel.kmem_free(mine, at, 64)
    assert kernel.used(0) == 10 * PAGE
    assert all(kernel.frame_alloc(other, 0) for _ in range(10))
    assert kernel.frame_alloc(other, 0) == 0


def test_all_memory_can_be_used(kernel: ctypes.CDLL) -> None:
    kernel.start(USABLE * PAGE + 1, 0, 0)
    frames = {kernel.frame_alloc(kernel.account(0), 0) for _ in range(USABLE)}
    assert len(frames) == USABLE
    assert 0 not in frames
    assert kernel.frame_alloc(kernel.account(0), 0) == 0
    assert kernel.used(0) == USABLE * PAGE


def test_what_is_not_there_cannot_be_freed(kernel: ctypes.CDLL) -> None:
    kernel.start(100 * PAGE, 0, 0)
    mine = kernel.account(0)
    base = ctypes.c_uint64.in_dll(kernel, "host_memory").value
    block = kernel.frame_alloc(mine, 2)
    assert kernel.frame_free_panics(mine, block + PAGE, 0), "the middle of a block"
    assert kernel.frame_free_panics(mine, block, 1), "half of it"
    assert kernel.kmem_free_panics(mine, base + block, 64), "no slab"
    assert not kernel.frame_free_panics(mine, block, 2)
    assert kernel.frame_free_panics(mine, block, 2), "twice"
    assert kernel.frame_free_panics(mine, HOLE.start * PAGE, 0), "not RAM"
    small = kernel.kmem_alloc(mine, 64)
    assert kernel.kmem_free_panics(mine, small, 128), "another size"
    other = kernel.kmem_alloc(mine, 64)
    kernel.kmem_free(mine, other, 64)
    assert kernel.kmem_free_panics(mine, other, 64), "twice (in debug builds)"


@pytest.mark.parametrize("size", [64, 168, 2048])
def test_use_after_the_end_is_found(kernel: ctypes.CDLL, size: int) -> None:
    """In debug builds, when the piece is taken again."""
    kernel.start(100 * PAGE, 0, 0)
    mine = kernel.account(0)
    kernel.kmem_alloc(mine, size)  # so that the slab stays
    small = kernel.kmem_alloc(mine, size)
    kernel.kmem_free(mine, small, size)
    assert not kernel.kmem_alloc_panics(mine, size)
    kernel.kmem_free(mine, small, size)
    ctypes.memset(small + size - 8, 0, 1)
    assert kernel.kmem_alloc_panics(mine, size)
