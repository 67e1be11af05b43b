# SPDX-License-Identifier: MIT
"""Races of what has an end, or moves, with a call that has just found it."""

from __future__ import annotations

from collections.abc import Mapping

from abi import ERRORS as E
from abi import RIGHTS
from abi import TYPES as T
from agent_support import ALL, PAGE, READ, SPOT, WRITE, Page
from scene import CORE_B, CORE_C, But, Scene
from stage import A_FIRST, B_FIRST, Stage, call, ipc, race

THERE = SPOT + (1 << 30)
SECRET = 0x5EC7E7
GENERATION = 1 << 32  # of a handle, in its upper half

# ---- revoke: what is derived from a capability that goes, or moves, meanwhile

GONE, BELL = E["BADCAP"], T["NOTIFICATION"]
HALF = (
    But(B_FIRST, {"derived": (BELL, GONE)}),
    But(B_FIRST, {"derived": (GONE, GONE)}),
)
WHY_HALF = "it went in the middle, and the caller learns that some may be left"


@race(*HALF, why=WHY_HALF)
def revoke_and_move(s: Stage) -> Scene:
    bell = s.make("notification_create")
    derived = s.copy(bell), s.copy(bell)

    def judge() -> Mapping[str, object]:
        kinds = tuple(s.agent.call("cap_info", one) for one in derived)
        moved = s.agent.poll(s.b)
        assert moved is not None
        return {"derived": kinds, "moved": s.agent.call("cap_delete", moved.second)}

    return s.scene(call(s.a, "cap_revoke", bell), call(s.b, "cap_move", bell, 0), judge)


@race(*HALF, why=WHY_HALF, both=False)
def revoke_and_delete(s: Stage) -> Scene:
    bell = s.make("notification_create")
    derived = s.copy(bell), s.copy(bell)
    return s.scene(
        call(s.a, "cap_revoke", bell),
        call(s.b, "cap_delete", bell),
        lambda: {"derived": tuple(s.agent.call("cap_info", one) for one in derived)},
    )


# ---- memory that has a pager


def _paged(s: Stage) -> tuple[int, int]:
    """Two pages, both there; and other memory with something in it."""
    source = s.make("memory_create", s.agent.quota, PAGE)
    paged = s.make("memory_create", s.agent.quota, 2 * PAGE, s.make("endpoint_create"))
    for page in range(2):
        assert s.agent.call("memory_supply", paged, page * PAGE, source, 0) == 0
    return paged, source


@race()
def reclaim_and_deletion_of_the_memory(s: Stage) -> Scene:
    paged, _ = _paged(s)
    return s.scene(
        call(s.a, "memory_reclaim", paged, 0, 0, 0), call(s.b, "cap_delete", paged), dict
    )


@race(both=False)
def reclaim_into_what_is_deleted(s: Stage) -> Scene:
    paged, target = _paged(s)
    return s.scene(
        call(s.a, "memory_reclaim", paged, 0, target, 0),
        call(s.b, "cap_delete", target),
        lambda: {"again": s.agent.call("memory_reclaim", paged, 0, 0, 0)},
    )


@race(both=False)
def two_reclaim_one_page(s: Stage) -> Scene:
    paged, target = _paged(s)
    return s.scene(
        call(s.a, "memory_reclaim", paged, 0, target, 0),
        call(s.b, "memory_reclaim", paged, 0, 0, 0),
        lambda: {"again": s.agent.call("memory_reclaim", paged, 0, 0, 0)},
    )


@race()
def reclaim_and_unmap(s: Stage) -> Scene:
    paged, _ = _paged(s)
    assert s.agent.call("map", s.agent.space, paged, THERE | READ | WRITE, 2 * PAGE, 0) == 0
    assert s.agent.poke(THERE, 1)
    assert s.agent.poke(THERE + PAGE, 2)
    return s.scene(
        call(s.a, "memory_reclaim", paged, 0, 0, 0),
        call(s.b, "unmap", s.agent.space, THERE, PAGE),
        lambda: {"kept": s.agent.peek(THERE + PAGE), "there": s.agent.peek(THERE)},
    )


@race(both=False)
def reclaim_and_a_message_from_there(s: Stage) -> Scene:
    """The sender misses the page, or has it."""
    paged, _ = _paged(s)
    assert s.agent.call("map", s.agent.space, paged, THERE | READ | WRITE, 2 * PAGE, 0) == 0
    assert s.agent.poke(THERE, 1)
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    s.block_ipc(v, "receive", endpoint, "size=64")
    return s.scene(
        call(s.a, "memory_reclaim", paged, 0, 0, 0),
        ipc(s.b, "send", endpoint, "bytes=64", f"from={THERE}"),
        lambda: {"v": s.got(v)},
    )


@race(answers=True, both=False)
def first_touch_by_a_message_and_reclaim(s: Stage) -> Scene:
    """The page is there and not yet mapped; it may go again as soon as it is."""
    paged, _ = _paged(s)
    assert s.agent.call("map", s.agent.space, paged, THERE | READ | WRITE, 2 * PAGE, 0) == 0
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    s.block_ipc(v, "receive", endpoint, "size=64")
    return s.scene(
        ipc(s.a, "send", endpoint, "bytes=64", f"from={THERE}"),
        call(s.b, "memory_reclaim", paged, 0, 0, 0),
        lambda: {"v": s.got(v)},
    )


@race(both=False)
def supply_and_deletion_of_the_memory(s: Stage) -> Scene:
    paged, source = _paged(s)
    assert s.agent.call("memory_reclaim", paged, PAGE, 0, 0) == 0
    return s.scene(
        call(s.a, "memory_supply", paged, PAGE, source, 0), call(s.b, "cap_delete", paged), dict
    )


@race(both=False)
def supply_from_what_is_deleted(s: Stage) -> Scene:
    paged, source = _paged(s)
    assert s.agent.call("memory_reclaim", paged, PAGE, 0, 0) == 0
    return s.scene(
        call(s.a, "memory_supply", paged, PAGE, source, 0),
        call(s.b, "cap_delete", source),
        lambda: {"is there": s.agent.call("memory_reclaim", paged, PAGE, 0, 0)},
    )


# ---- memory whose handle somebody has guessed before it is all there


def _next_handle(s: Stage) -> int:
    """What the agent's next capability will be called: the slot that was freed last comes first."""
    handle = s.agent.make("endpoint_create", s.agent.quota)
    assert s.agent.call("cap_delete", handle) == 0
    s.agent.free()  # when that is known, no core looks at the slot any more
    return handle + GENERATION


def _strike_made(s: Stage, worker: int) -> None:
    result = s.agent.poll(worker)
    if result is not None and result.value == 0:
        s.agent.call("cap_delete", result.second)


@race(
    But(A_FIRST, {"a": "gone"}),
    both=False,
    why="its capability is there from the start, and so can go before all the pages are",
)
def new_memory_and_its_deletion(s: Stage) -> Scene:
    guessed = _next_handle(s)

    def judge() -> Mapping[str, object]:
        _strike_made(s, s.a)
        return {}

    return s.scene(
        call(s.a, "memory_create", s.agent.quota, 3 * PAGE), call(s.b, "cap_delete", guessed), judge
    )


def _brought(s: Stage, v: int) -> object:
    """What has become of the capability of v's message: its kind, deleted."""
    result = s.agent.poll(v)
    if result is None or result.value < 0:
        return None
    kind = s.agent.call("cap_info", result.caps[0])
    s.agent.call("cap_delete", result.caps[0])
    return kind


@race()
def message_with_a_capability_and_revoke(s: Stage) -> Scene:
    """It can be revoked before it is found: then the message has brought one that has gone."""
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    bell = s.make("notification_create")
    derived = s.copy(bell)
    s.block_ipc(v, "receive", endpoint, "size=0")
    return s.scene(
        ipc(s.a, "send", endpoint, f"caps={derived}"),
        call(s.b, "cap_revoke", bell),
        lambda: {"v": s.got(v), "copy": _brought(s, v)},
    )


@race()
def message_with_a_capability_and_its_deletion(s: Stage) -> Scene:
    """The copy takes its place, found or not."""
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    memory = s.make("memory_create", s.agent.quota, PAGE)
    s.block_ipc(v, "receive", endpoint, "size=0")
    return s.scene(
        ipc(s.a, "send", endpoint, f"caps={memory}"),
        call(s.b, "cap_delete", memory),
        lambda: {"v": s.got(v), "copy": _brought(s, v)},
    )


@race(both=False)
def failing_message_and_deletion_of_what_it_brought(s: Stage) -> Scene:
    """Who guesses the copy's handle does not find it before the message can fail no more."""
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    bell = s.make("notification_create")
    s.block_ipc(v, "receive", endpoint, "size=0")
    guessed = _next_handle(s)
    return s.scene(
        ipc(s.a, "send", endpoint, f"caps={bell},12345"),
        call(s.b, "cap_delete", guessed),
        lambda: {"v": s.got(v)},
    )


@race(both=False)
def failing_message_and_deletion_of_what_it_was_to_bring(s: Stage) -> Scene:
    """A thread of another core ends with the copy that is taken back: not in a's next reply."""
    end, v, caller = s.make("endpoint_create"), s.worker(CORE_C), s.worker(CORE_B)
    ends = s.make("thread_create", s.agent.quota, s.agent.space, 100 << 8 | 100)
    assert s.agent.call("thread_set_affinity", ends, CORE_C) == 0
    s.block_ipc(caller, "call", end)
    s.receive(s.a, end)
    saved = s.keep(s.agent.make("reply_save", s.agent.quota, worker=s.a))
    s.block_ipc(v, "receive", end, "size=0")

    def judge() -> Mapping[str, object]:
        replied = s.agent.ipc("reply", saved, worker=s.a)
        return {
            "replied": replied and replied.value,
            "caller": s.got(caller),
            "a's": s.page.info(s.thread(s.a)).priority,
        }

    return s.scene(
        ipc(s.a, "send", end, f"caps={ends},12345"), call(s.b, "cap_delete", ends), judge
    )


@race(both=False)
def failing_message_and_deletion_of_what_it_brings(s: Stage) -> Scene:
    """The copy may be the last that is left. Who waits learns of the end, whatever a does next."""
    endpoint, v, waits = s.make("endpoint_create"), s.worker(CORE_C), s.worker(CORE_C)
    other = s.make("endpoint_create")
    to_other = s.keep(s.agent.make("cap_copy", other, RIGHTS["ENDPOINT_SEND"], 0, 0))
    s.block_ipc(v, "receive", endpoint, "size=0")
    s.block_ipc(waits, "send", to_other)
    return s.scene(
        ipc(s.a, "send", endpoint, f"caps={other},12345"),
        call(s.b, "cap_delete", other),
        lambda: {"v": s.got(v), "waits": s.got(waits)},
    )


LARGE = 512 * PAGE


def supply_from_what_is_being_made(s: Stage) -> Scene:
    """Zeroed page by page, but a large page of memory is there at once, with what was in it before.

    Not declared: it takes too many instructions to be swept.
    """
    paged, _ = _paged(s)
    assert s.agent.call("memory_reclaim", paged, 0, 0, 0) == 0
    last = LARGE - PAGE
    before = s.make("memory_create", s.agent.quota, LARGE)
    assert s.agent.call("map", s.agent.space, before, THERE | READ | WRITE, LARGE, 0) == 0
    assert s.agent.poke(THERE + last, SECRET)
    assert s.agent.call("cap_delete", before) == 0
    target = Page(s.agent, THERE)
    guessed = _next_handle(s)

    def judge() -> Mapping[str, object]:
        s.keep(target.memory)
        _strike_made(s, s.a)
        return {
            "is there": s.agent.call("memory_reclaim", paged, 0, target.memory, 0),
            "content": s.agent.peek(THERE),
        }

    return s.scene(
        call(s.a, "memory_create", s.agent.quota, LARGE),
        call(s.b, "memory_supply", paged, 0, guessed, last),
        judge,
    )


# ---- what is half done when its thread ends


@race(both=False)
def protect_and_end_of_who_protects(s: Stage) -> Scene:
    """What it has not come to can be written to all the same, once the mapping says so."""
    pages = 80  # more than are protected in one go
    memory = s.make("memory_create", s.agent.quota, pages * PAGE)
    assert s.agent.call("map", s.agent.space, memory, THERE | READ, pages * PAGE, 0) == 0
    last = THERE + (pages - 1) * PAGE
    w = s.agent.poke

    def judge() -> Mapping[str, object]:
        return {"written": w(THERE, 1) == w(last, 1)}

    return s.scene(
        call(s.a, "protect", s.agent.space, THERE, pages * PAGE, READ | WRITE),
        call(s.b, "thread_end", s.thread(s.a)),
        judge,
    )


# ---- accounts that end


def _from_an_account(s: Stage, name: str, *arguments: int) -> Scene:
    """Something is made from an account that goes."""
    part = s.make("quota_split", s.agent.quota, 64 * PAGE)

    def judge() -> Mapping[str, object]:
        _strike_made(s, s.a)
        return {}

    return s.scene(call(s.a, name, part, *arguments), call(s.b, "cap_delete", part), judge)


@race(both=False)
def split_and_end_of_the_account(s: Stage) -> Scene:
    return _from_an_account(s, "quota_split", PAGE)


@race(both=False)
def new_space_and_end_of_the_account(s: Stage) -> Scene:
    return _from_an_account(s, "space_create", 0)


@race(both=False)
def new_thread_and_end_of_the_account(s: Stage) -> Scene:
    return _from_an_account(s, "thread_create", s.agent.space, 100 << 8 | 100)


@race(both=False)
def new_memory_and_end_of_the_account(s: Stage) -> Scene:
    return _from_an_account(s, "memory_create", 2 * PAGE)


# ---- a space that nobody lives in: its end waits for nothing but all cores to forget its table


@race(answers=True)
def map_into_a_space_and_its_end(s: Stage) -> Scene:
    space = s.make("space_create", s.agent.quota, 0)
    memory = s.make("memory_create", s.agent.quota, PAGE)
    return s.scene(
        call(s.a, "map", space, memory, THERE | READ | WRITE, PAGE, 0),
        call(s.b, "space_end", space),
        dict,
    )


@race(answers=True, both=False)
def unmap_in_a_space_and_its_end(s: Stage) -> Scene:
    space = s.make("space_create", s.agent.quota, 0)
    memory = s.make("memory_create", s.agent.quota, PAGE)
    assert s.agent.call("map", space, memory, THERE | READ | WRITE, PAGE, 0) == 0
    return s.scene(
        call(s.a, "unmap", space, THERE, PAGE),
        call(s.b, "space_end", space),
        dict,
    )


@race(answers=True, both=False)
def copy_into_a_space_and_its_end(s: Stage) -> Scene:
    space = s.make("space_create", s.agent.quota, 0)
    bell = s.make("notification_create")
    return s.scene(
        call(s.a, "cap_copy", bell, ALL, 0, space),
        call(s.b, "space_end", space),
        dict,
    )


# ---- interrupt lines


@race(both=False)
def bind_of_a_line_and_deletion_of_its_capability(s: Stage) -> Scene:
    bell = s.make("notification_create")
    whole = s.keep(s.agent.make("range_slice", s.agent.hardware()[0], 5, 1))
    line = s.copy(whole)
    return s.scene(
        call(s.a, "irq_bind", line, bell, 1),
        call(s.b, "cap_delete", line),
        lambda: {"free": s.agent.call("irq_bind", whole, bell, 1)},
    )


@race(both=False)
def bind_of_a_line_and_move_of_its_capability(s: Stage) -> Scene:
    bell = s.make("notification_create")
    whole = s.keep(s.agent.make("range_slice", s.agent.hardware()[0], 5, 1))
    line = s.copy(whole)

    def judge() -> Mapping[str, object]:
        before = s.agent.call("irq_bind", whole, bell, 1)
        moved = s.agent.poll(s.b)
        assert moved is not None
        deleted = s.agent.call("cap_delete", moved.second)
        return {"before": before, "deleted": deleted, "bell": s.agent.call("irq_ack", whole)}

    return s.scene(call(s.a, "irq_bind", line, bell, 1), call(s.b, "cap_move", line, 0), judge)


@race(both=False)
def map_and_move_of_the_capability(s: Stage) -> Scene:
    """What is mapped by a capability stays mapped when that moves, and goes with it."""
    memory = s.make("memory_create", s.agent.quota, PAGE)

    def judge() -> Mapping[str, object]:
        there = s.agent.peek(THERE)
        moved = s.agent.poll(s.b)
        assert moved is not None
        s.agent.call("cap_delete", moved.second)
        return {"there": there, "after": s.agent.peek(THERE)}

    return s.scene(
        call(s.a, "map", s.agent.space, memory, THERE | READ | WRITE, PAGE, 0),
        call(s.b, "cap_move", memory, 0),
        judge,
    )
