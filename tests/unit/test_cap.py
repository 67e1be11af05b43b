# SPDX-License-Identifier: MIT
"""Capability tables and derivation trees against a model that is a tree of Python objects.

Every step is tried both straight through and with a preemption point taken wherever there is one.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from abi import ERRORS, RIGHTS, SLOT, SYSCALLS, TYPES
from host_c import TOP, build
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

SPACES = 4
U64 = ctypes.c_uint64
SOURCES = [f"kernel/obj/{name}.c" for name in ("object", "cap", "cap_calls")]
ALL = 2**32 - 1
GRANT, REVOKE = RIGHTS["GRANT"], RIGHTS["REVOKE"]
TYPE_RIGHTS = {
    TYPES["ENDPOINT"]: 0x3800 | GRANT | REVOKE,
    TYPES["NOTIFICATION"]: 0xC000 | GRANT | REVOKE,
    TYPES["MEMORY"]: 0x1E0000 | GRANT | REVOKE,
}
BADGED = {TYPES["ENDPOINT"], TYPES["NOTIFICATION"]}
ROOM = 512


class Slot(ctypes.Structure):
    """The beginning of struct cap: what a look-up without a lock reads."""

    _fields_ = [
        ("handle", U64),
        ("object", ctypes.c_void_p),
        ("badge", U64),
        ("rights", ctypes.c_uint32),
    ]


def load(folder: Path, sources: list[str]) -> ctypes.CDLL:
    """The kernel's SOURCES (paths from the top) as a library."""
    (folder / "entry_model.h").write_text('#include "kernel/arch/entry/tcb.h"\n')
    shim = Path(__file__).with_name("cap_host.c").read_text()
    lib = build(folder, sources, shim)
    lib.call.argtypes = [
        ctypes.c_uint,
        ctypes.c_uint,
        U64,
        U64,
        U64,
        U64,
        ctypes.c_bool,
    ]
    lib.call.restype = lib.create.restype = lib.look.restype = ctypes.c_int64
    lib.second.restype = lib.space_cap.restype = lib.figure.restype = U64
    lib.start.argtypes = [ctypes.c_uint, ctypes.c_uint, ctypes.c_bool]
    lib.slot_of.argtypes, lib.slot_of.restype = (
        [ctypes.c_uint, U64],
        ctypes.POINTER(Slot),
    )
    lib.look.argtypes = [ctypes.c_uint, U64, *[ctypes.c_void_p] * 3]
    lib.tree.argtypes = [*[ctypes.c_void_p] * 4, ctypes.c_int]
    return lib


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return load(tmp_path_factory.mktemp("cap"), SOURCES)


@dataclass(eq=False)
class Node:
    """A capability. Children: the newest first, as the kernel puts them."""

    handle: int
    space: int
    rights: int
    badge: int
    thing: Thing
    siblings: list[Node]
    children: list[Node] = field(default_factory=list)

    def walk(self, depth: int = 0) -> list[tuple[int, int, int]]:
        rows = [(self.handle, self.space, depth)]
        for child in self.children:
            rows += child.walk(depth + 1)
        return rows


@dataclass(eq=False)
class Thing:
    type: int
    address: int
    size: int
    roots: list[Node] = field(default_factory=list)
    dead: bool = False

    def nodes(self) -> list[Node]:
        found, todo = [], list(self.roots)
        while todo:
            node = todo.pop()
            found.append(node)
            todo += node.children
        return found


class Caps(RuleBasedStateMachine):
    """Random operations in a few spaces, on kernel and model alike."""

    lib: ctypes.CDLL
    pages: int = 2
    looking: bool = False  # another core may hold pointers to slots that are given up

    def __init__(self) -> None:
        super().__init__()
        self.lib.start(self.pages, 3, self.looking)
        self.held: list[tuple[ctypes._Pointer[Slot], int, int | None, int]] = []
        self.held_since = 0
        self.things: list[Thing] = []
        self.live: dict[tuple[int, int], Node] = {}
        self.stale: list[tuple[int, int]] = []
        self.ended: set[int] = set()
        self.dead_things = 0
        self.spaces = [
            [self.lib.space_cap(space, of) for of in range(SPACES)] for space in range(SPACES)
        ]

    def call(self, space: int, name: str, *args: int, preempt: bool = False) -> int:
        padded = [*args, 0, 0, 0, 0][:4]
        return int(self.lib.call(space, SYSCALLS[name].number, *padded, preempt))

    def room(self, space: int) -> int:
        return self.pages * 64 - 1 - int(self.lib.figure(2 + space))

    def pick(self, data: st.DataObject) -> tuple[int, int]:
        """A space that has not ended and a handle to try in it, mostly a good one."""
        live: list[tuple[int, int]] = sorted(self.live)
        live += 2 * [key for key in live if self.live[key].children]
        if live and data.draw(st.integers(0, 7), label="good") > 0:
            good: tuple[int, int] = data.draw(st.sampled_from(live), label="handle")
            return good
        wrong: list[tuple[int, int]] = [key for key in self.stale if key[0] not in self.ended]
        wrong += [
            (0, handle)
            for handle in (0, 1 << 32, 77, 1 << 32 | 80, 1 << 32 | 4000 * SLOT, 2**64 - 1)
        ]
        return data.draw(st.sampled_from(wrong), label="handle")

    def add(self, space: int, handle: int, node: Node) -> None:
        assert (space, handle) not in self.live, "a handle was given twice"
        assert (space, handle) not in self.stale, "a handle came back"
        self.live[space, handle] = node

    @rule(data=st.data())
    def another_core_looks(self, data: st.DataObject) -> None:
        """It has found a capability, and will read more of it until it has come to its end."""
        if self.live and self.looking:
            space, handle = data.draw(st.sampled_from(sorted(self.live)), label="looks")
            slot = self.lib.slot_of(space, handle)
            found = slot.contents
            self.forget()
            self.held.append((slot, handle, found.object, found.badge))

    def forget(self) -> None:
        """What the other core had found before the slots were last collected."""
        collections = int(self.lib.figure(2 + SPACES))
        if collections != self.held_since:
            self.held.clear()
        self.held_since = collections

    @rule()
    def another_core_is_done(self) -> None:
        self.lib.collect()

    @invariant()
    def what_another_core_reads_stays(self) -> None:
        self.forget()
        for slot, handle, address, badge in self.held:
            assert (slot.contents.object, slot.contents.badge) == (address, badge)
            assert slot.contents.handle in (handle, (handle >> 32) + 1 << 32)

    def drop(self, node: Node) -> None:
        at = node.siblings.index(node)
        node.siblings[at : at + 1] = node.children
        for child in node.children:
            child.siblings = node.siblings
        del self.live[node.space, node.handle]
        self.stale.append((node.space, node.handle))
        thing = node.thing
        receive = [n for n in thing.nodes() if n.rights & RIGHTS["ENDPOINT_RECEIVE"]]
        deaf = thing.type == TYPES["ENDPOINT"] and not receive
        if not thing.dead and (deaf or not thing.roots):
            thing.dead = True
            self.dead_things += 1

    @initialize(space=st.integers(0, SPACES - 1), kind=st.sampled_from(sorted(TYPE_RIGHTS)))
    def begin(self, space: int, kind: int) -> None:
        self.create(space, kind)

    @rule(space=st.integers(0, SPACES - 1), kind=st.sampled_from(sorted(TYPE_RIGHTS)))
    def create(self, space: int, kind: int) -> None:
        if space in self.ended:
            return
        before, room = int(self.lib.figure(0)), self.room(space)
        result = self.lib.create(space, kind)
        if room <= 0:
            assert result == ERRORS["NOMEM"]
            assert self.lib.figure(0) == before
            return
        assert result == 0
        handle = int(self.lib.second(space))
        thing = Thing(kind, self.look(space, handle)[3], int(self.lib.figure(0)) - before)
        node = Node(handle, space, TYPE_RIGHTS[kind], 0, thing, thing.roots)
        thing.roots.append(node)
        self.things.append(thing)
        self.add(space, handle, node)

    def look(self, space: int, handle: int) -> tuple[int, int, int, int]:
        badge, rights, address = U64(), U64(), ctypes.c_void_p()
        kind = self.lib.look(
            space,
            handle,
            ctypes.byref(badge),
            ctypes.byref(rights),
            ctypes.byref(address),
        )
        return int(kind), badge.value, rights.value, address.value or 0

    @rule(
        data=st.data(),
        to=st.integers(0, SPACES - 1),
        keep=st.sampled_from([ALL, ALL & ~GRANT, ALL & ~REVOKE, 0x1800, 0x1800 | GRANT, 0]),
        badge=st.sampled_from([0, 0, 5, 2**63]),
    )
    def copy(self, data: st.DataObject, to: int, keep: int, badge: int) -> None:
        space, handle = self.pick(data)
        target = self.spaces[space][to] if to != space or badge else 0
        room = self.room(to)
        result = self.call(space, "cap_copy", handle, keep, badge, target)
        expected = self.expect_copy(self.live.get((space, handle)), keep, badge, to, room=room)
        assert result == expected
        if result == 0:
            self.add_copy(self.live[space, handle], to, keep, badge)

    def add_copy(self, parent: Node, to: int, keep: int, badge: int) -> None:
        handle, rights = int(self.lib.second(parent.space)), parent.rights & keep
        node = Node(handle, to, rights, badge or parent.badge, parent.thing, parent.children)
        parent.children.insert(0, node)
        self.add(to, handle, node)

    def expect_copy(self, node: Node | None, keep: int, badge: int, to: int, *, room: int) -> int:
        if node is None:
            return ERRORS["BADCAP"]
        if to in self.ended:
            return ERRORS["BADCAP"]  # the capability for the space has gone with its last holder
        if to != node.space and not node.rights & GRANT:
            return ERRORS["RIGHTS"]
        if not node.rights & keep:
            return ERRORS["INVAL"]
        new_badge = badge not in (0, node.badge)
        if new_badge and (node.badge or node.thing.type not in BADGED):
            return ERRORS["INVAL"]
        if room <= 0:
            return ERRORS["NOMEM"]
        return ERRORS["DEAD"] if node.thing.dead else 0

    @rule(data=st.data(), to=st.integers(0, SPACES - 1))
    def move(self, data: st.DataObject, to: int) -> None:
        if to in self.ended:
            return
        space, handle = self.pick(data)
        room = self.room(to)
        result = self.call(space, "cap_move", handle, self.spaces[space][to])
        node = self.live.get((space, handle))
        if node is None:
            assert result == ERRORS["BADCAP"]
        elif to != space and not node.rights & GRANT:
            assert result == ERRORS["RIGHTS"]
        elif room <= 0:
            assert result == ERRORS["NOMEM"]
        elif node.thing.dead:
            assert result == ERRORS["DEAD"]
        else:
            assert result == 0
            del self.live[space, handle]
            self.stale.append((space, handle))
            node.handle, node.space = int(self.lib.second(space)), to
            self.add(to, node.handle, node)

    @rule(data=st.data(), preempt=st.booleans())
    def delete(self, data: st.DataObject, preempt: bool) -> None:
        space, handle = self.pick(data)
        result = self.call(space, "cap_delete", handle, preempt=preempt)
        node = self.live.get((space, handle))
        assert result == (ERRORS["BADCAP"] if node is None else 0)
        if node is not None:
            self.drop(node)

    @rule(preempt=st.booleans())
    def deafen(self, preempt: bool) -> None:
        """Somebody may send to the newest endpoint; who may receive from it gives it up."""
        endpoints = [t for t in self.things if t.type == TYPES["ENDPOINT"] and t.roots]
        if not endpoints or self.room(endpoints[-1].roots[0].space) <= 0:
            return
        parent = endpoints[-1].roots[0]
        keep = RIGHTS["ENDPOINT_SEND"] | RIGHTS["REVOKE"]
        result = self.call(parent.space, "cap_copy", parent.handle, keep)
        assert result == self.expect_copy(parent, keep, 0, parent.space, room=1)
        if result == 0:
            self.add_copy(parent, parent.space, keep, 0)
        for node in endpoints[-1].nodes():
            if node.rights & RIGHTS["ENDPOINT_RECEIVE"]:
                assert self.call(node.space, "cap_delete", node.handle, preempt=preempt) == 0
                self.drop(node)

    @rule(data=st.data(), preempt=st.booleans())
    def revoke(self, data: st.DataObject, preempt: bool) -> None:
        space, handle = self.pick(data)
        result = self.call(space, "cap_revoke", handle, preempt=preempt)
        node = self.live.get((space, handle))
        if node is None:
            assert result == ERRORS["BADCAP"]
        elif not node.rights & REVOKE:
            assert result == ERRORS["RIGHTS"]
        else:
            assert result == 0
            while node.children:
                self.drop(node.children[0])

    @rule(space=st.integers(1, SPACES - 1), preempt=st.booleans())
    def end_space(self, space: int, preempt: bool) -> None:
        if space in self.ended or len(self.live) < 12:
            return
        assert self.call(space, "space_end", preempt=preempt) == 0
        self.ended.add(space)
        for where, handle in list(self.live):
            if where == space:
                self.drop(self.live[where, handle])
        assert self.lib.figure(2 + space) == 0
        for holder in set(range(SPACES)) - self.ended:
            assert self.call(holder, "cap_delete", self.spaces[holder][space]) == 0
            self.spaces[holder][space] = 2**63

    @rule(data=st.data())
    def info(self, data: st.DataObject) -> None:
        space, handle = self.pick(data)
        result = self.call(space, "cap_info", handle)
        node = self.live.get((space, handle))
        assert result == (ERRORS["BADCAP"] if node is None else node.thing.type)
        if node is not None:
            assert self.lib.second(space) == node.rights

    @invariant()
    def every_handle_names_what_it_should(self) -> None:
        for (space, handle), node in self.live.items():
            expected = (node.thing.type, node.badge, node.rights, node.thing.address)
            assert self.look(space, handle) == expected
        for space, handle in self.stale:
            if space not in self.ended:
                assert self.look(space, handle)[0] == -1

    @invariant()
    def trees_are_as_in_the_model(self) -> None:
        handles, where, depths = (U64 * ROOM)(), (U64 * ROOM)(), (ctypes.c_int * ROOM)()
        for thing in self.things:
            if not thing.roots:
                continue
            count = self.lib.tree(thing.address, handles, where, depths, ROOM)
            rows = [row for root in thing.roots for row in root.walk()]
            assert [(handles[i], where[i], depths[i]) for i in range(max(count, 0))] == rows

    @invariant()
    def memory_is_that_of_named_objects(self) -> None:
        assert self.lib.figure(0) == sum(thing.size for thing in self.things if thing.roots)
        assert self.lib.figure(1) == self.dead_things + len(self.ended)


def run(kernel: ctypes.CDLL, pages: int, *, looking: bool, shrink: bool = True) -> None:
    class Machine(Caps):
        pass

    Machine.lib, Machine.pages, Machine.looking = kernel, pages, looking
    case = Machine.TestCase
    phases = set(Phase) if shrink else {Phase.generate}
    case.settings = settings(max_examples=100, stateful_step_count=60, deadline=None, phases=phases)
    case().runTest()


@pytest.mark.parametrize(("pages", "looking"), [(1, False), (4, False), (2, True)])
def test_random_sequences_agree_with_the_model(
    kernel: ctypes.CDLL, pages: int, looking: bool
) -> None:
    run(kernel, pages, looking=looking)


PLANTED = {
    "generation": (
        "hidden(cap->handle) + GENERATION_ONE",
        "cap->handle & GENERATION_MASK",
    ),
    "orphan": (
        "derive_first(parent ? &parent->child : &object->caps",
        "derive_first(&object->caps",
    ),
    "rights": (
        "cap->rights = rights;",
        "cap->rights = parent ? parent->rights : rights;",
    ),
    "filled too soon": ("!grace_hold_slot(core_here(), cap)", "true"),
    "deaf": ("--((struct endpoint *)object)->receive_caps == 0", "false"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(tmp_path: Path, fault: str) -> None:
    text = (TOP / "kernel/obj/cap.c").read_text()
    right, wrong = PLANTED[fault]
    assert right in text
    (tmp_path / "cap.c").write_text(text.replace(right, wrong))
    others = [name for name in SOURCES if not name.endswith("/cap.c")]
    broken = load(tmp_path, [*others, str(tmp_path / "cap.c")])
    with pytest.raises(AssertionError):
        run(broken, 4, looking=True, shrink=False)


def test_many_preempted_revokes_leave_nothing(kernel: ctypes.CDLL) -> None:
    kernel.start(64, 2, False)
    assert kernel.create(0, TYPES["MEMORY"]) == 0
    first = chain = int(kernel.second(0))
    number = SYSCALLS["cap_copy"].number
    for i in range(3000):
        assert kernel.call(0, number, chain if i % 3 else first, ALL, 0, 0, False) == 0
        chain = int(kernel.second(0))
    assert kernel.figure(2) == 3001
    assert kernel.call(0, SYSCALLS["cap_revoke"].number, first, 0, 0, 0, True) == 0
    assert kernel.figure(2) == 1
    assert kernel.call(0, SYSCALLS["cap_delete"].number, first, 0, 0, 0, True) == 0
    assert kernel.figure(0) == 0


def test_the_model_knows_all_rights() -> None:
    text = (TOP / "kernel/obj/cap.c").read_text()
    for name, bits in RIGHTS.items():
        assert name == "ALL" or bits.bit_count() == 1
        if name not in ("ALL", "GRANT", "REVOKE"):
            assert f"RIGHT_{name}" in text, f"cap.c gives {name} to no type"
