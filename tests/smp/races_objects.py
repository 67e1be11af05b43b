# SPDX-License-Identifier: MIT
"""Races of memory, capabilities, accounts and ends."""

from __future__ import annotations

from collections.abc import Mapping

from agent_support import ALL, PAGE, READ, SPOT, WRITE
from agent_victim import CODE, DATA, LOOP, UD2, Victim
from scene import CORE_B, CORE_C, But, Scene
from stage import A_FIRST, Stage, call, ipc, race

# ---- memory and capabilities


def _mapped(s: Stage, at: int = SPOT + (1 << 30)) -> tuple[int, int]:
    memory = s.make("memory_create", s.agent.quota, PAGE)
    assert s.agent.call("map", s.agent.space, memory, at | READ | WRITE, PAGE, 0) == 0
    assert s.agent.poke(at, 77)
    return memory, at


@race()
def unmap_and_a_message_from_there(s: Stage) -> Scene:
    _, at = _mapped(s)
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    s.block_ipc(v, "receive", endpoint, "size=64")
    return s.scene(
        call(s.a, "unmap", s.agent.space, at, PAGE),
        ipc(s.b, "send", endpoint, "bytes=64", f"from={at}"),
        lambda: {"v": s.got(v), "there": s.agent.peek(at)},
    )


@race()
def deleting_memory_and_a_message_into_it(s: Stage) -> Scene:
    memory, at = _mapped(s)
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    s.block_ipc(v, "send", endpoint, "bytes=64")
    return s.scene(
        call(s.a, "cap_delete", memory),
        ipc(s.b, "receive", endpoint, "size=64", f"to={at}"),
        lambda: {"v": s.got(v), "there": s.agent.peek(at)},
    )


@race(both=False)
def two_unmap(s: Stage) -> Scene:
    _, at = _mapped(s)
    return s.scene(
        call(s.a, "unmap", s.agent.space, at, PAGE),
        call(s.b, "unmap", s.agent.space, at, PAGE),
        lambda: {"there": s.agent.peek(at)},
    )


@race()
def map_and_unmap(s: Stage) -> Scene:
    memory = s.make("memory_create", s.agent.quota, PAGE)
    at = SPOT + (1 << 30)
    return s.scene(
        call(s.a, "map", s.agent.space, memory, at | READ | WRITE, PAGE, 0),
        call(s.b, "unmap", s.agent.space, at, PAGE),
        lambda: {"there": s.agent.peek(at)},
    )


@race()
def map_and_deletion_of_the_memory(s: Stage) -> Scene:
    memory = s.make("memory_create", s.agent.quota, PAGE)
    at = SPOT + (1 << 30)
    return s.scene(
        call(s.a, "map", s.agent.space, memory, at | READ | WRITE, PAGE, 0),
        call(s.b, "cap_delete", memory),
        lambda: {"there": s.agent.peek(at)},
    )


@race(both=False)
def two_map_at_one_place(s: Stage) -> Scene:
    one, two = (s.make("memory_create", s.agent.quota, PAGE) for _ in range(2))
    at = SPOT + (1 << 30)
    return s.scene(
        call(s.a, "map", s.agent.space, one, at | READ | WRITE, PAGE, 0),
        call(s.b, "map", s.agent.space, two, at | READ | WRITE, PAGE, 0),
        lambda: {"there": s.agent.peek(at)},
    )


@race()
def protect_and_unmap(s: Stage) -> Scene:
    _, at = _mapped(s)
    return s.scene(
        call(s.a, "protect", s.agent.space, at, PAGE, READ),
        call(s.b, "unmap", s.agent.space, at, PAGE),
        lambda: {"there": s.agent.peek(at), "written": s.agent.poke(at, 1)},
    )


def _copied(s: Stage, worker: int) -> object:
    """What has become of a copy that a worker made: its kind, deleted."""
    result = s.agent.poll(worker)
    if result is None or result.value != 0:
        return None
    kind = s.agent.call("cap_info", result.second)
    s.agent.call("cap_delete", result.second)
    return kind


@race()
def copy_and_revoke(s: Stage) -> Scene:
    bell = s.make("notification_create")
    derived = s.copy(bell)
    return s.scene(
        call(s.a, "cap_copy", derived, ALL, 0, 0),
        call(s.b, "cap_revoke", bell),
        lambda: {"copy": _copied(s, s.a), "derived": s.agent.call("cap_info", derived)},
    )


@race()
def copy_and_delete(s: Stage) -> Scene:
    bell = s.make("notification_create")
    return s.scene(
        call(s.a, "cap_copy", bell, ALL, 0, 0),
        call(s.b, "cap_delete", bell),
        lambda: {"copy": _copied(s, s.a)},
    )


@race()
def info_and_delete(s: Stage) -> Scene:
    bell = s.make("notification_create")

    def judge() -> Mapping[str, object]:
        result = s.agent.poll(s.a)
        return {"rights": result.second if result and result.value >= 0 else None}

    return s.scene(call(s.a, "cap_info", bell), call(s.b, "cap_delete", bell), judge)


@race()
def move_and_revoke(s: Stage) -> Scene:
    bell, twin = s.make("notification_create"), s.twin(CORE_C)
    derived = s.copy(bell)

    def judge() -> Mapping[str, object]:
        result = s.agent.poll(s.a)
        kind = None
        if result is not None and result.value == 0:
            kind = s.agent.call("cap_info", result.second, worker=twin.number)
        return {"there": kind, "here": s.agent.call("cap_info", derived)}

    return s.scene(call(s.a, "cap_move", derived, twin.space), call(s.b, "cap_revoke", bell), judge)


@race(both=False)
def two_move_one_capability(s: Stage) -> Scene:
    bell, twin = s.make("notification_create"), s.twin(CORE_C)
    return s.scene(
        call(s.a, "cap_move", bell, twin.space),
        call(s.b, "cap_move", bell, twin.space),
        lambda: {"here": s.agent.call("cap_info", bell)},
    )


@race(
    But(A_FIRST, {"b": 0}),
    why="both have found it, and to both it is true that it is gone",
    both=False,
)
def two_delete_one_capability(s: Stage) -> Scene:
    bell = s.make("notification_create")
    return s.scene(call(s.a, "cap_delete", bell), call(s.b, "cap_delete", bell), dict)


@race()
def deleting_and_using_a_slot(s: Stage) -> Scene:
    """One frees a slot of the table while the other looks for a free one."""
    bell = s.make("notification_create")

    def judge() -> Mapping[str, object]:
        result = s.agent.poll(s.b)
        made = result.second if result and result.value == 0 else 0
        kind = s.agent.call("cap_info", made)
        return {"kind": kind, "deleted": s.agent.call("cap_delete", made)}

    return s.scene(
        call(s.a, "cap_delete", bell), call(s.b, "endpoint_create", s.agent.quota), judge
    )


@race(both=False)
def two_create(s: Stage) -> Scene:
    def judge() -> Mapping[str, object]:
        handles = [result.second for result in map(s.agent.poll, (s.a, s.b)) if result]
        kinds = [s.agent.call("cap_info", handle) for handle in handles]
        for handle in handles:
            s.agent.call("cap_delete", handle)
        return {"kinds": tuple(kinds), "differ": len(set(handles))}

    return s.scene(
        call(s.a, "notification_create", s.agent.quota),
        call(s.b, "endpoint_create", s.agent.quota),
        judge,
    )


@race(both=False)
def two_split_an_account(s: Stage) -> Scene:
    def judge() -> Mapping[str, object]:
        values = [result.value for result in map(s.agent.poll, (s.a, s.b)) if result]
        for result in map(s.agent.poll, (s.a, s.b)):
            if result and result.value == 0:
                s.agent.call("cap_delete", result.second)
        return {"values": tuple(sorted(values))}

    part = s.make("quota_split", s.agent.quota, 256 * PAGE)
    return s.scene(
        call(s.a, "quota_split", part, 150 * PAGE),
        call(s.b, "quota_split", part, 150 * PAGE),
        judge,
    )


# ---- ends


@race()
def new_thread_and_end_of_its_space(s: Stage) -> Scene:
    space = s.make("space_create", s.agent.quota, 0)

    def judge() -> Mapping[str, object]:
        result = s.agent.poll(s.a)
        made = result.second if result and result.value == 0 else 0
        state = s.state(made) if made else None
        s.agent.call("cap_delete", made)
        return {"state": state}

    return s.scene(
        call(s.a, "thread_create", s.agent.quota, space, 100 << 8 | 100),
        call(s.b, "space_end", space),
        judge,
    )


@race()
def start_and_end_of_the_space(s: Stage) -> Scene:
    victim = s.victim(LOOP, CORE_C, start=False)
    return s.scene(
        call(s.a, "thread_start", victim.thread, CODE, DATA + PAGE, DATA),
        call(s.b, "space_end", victim.space),
        lambda: {"state": victim.info().state},
    )


@race()
def end_of_a_space_and_of_its_thread(s: Stage) -> Scene:
    victim = s.victim(LOOP, CORE_C)
    return s.scene(
        call(s.a, "space_end", victim.space),
        call(s.b, "thread_end", victim.thread),
        lambda: {"state": victim.info().state},
    )


@race()
def end_of_a_space_and_deletion_of_its_thread(s: Stage) -> Scene:
    """The last capability for one that its space is just ending, or has just ended."""
    victim = s.victim(LOOP, CORE_C)
    return s.scene(
        call(s.a, "space_end", victim.space), call(s.b, "cap_delete", victim.thread), dict
    )


@race()
def end_of_oneself_and_deletion(s: Stage) -> Scene:
    """A thread ends as its last capability goes."""
    return s.scene(call(s.a, "thread_end", 0), call(s.b, "cap_delete", s.thread(s.a)), dict)


@race()
def end_and_deletion_of_a_thread(s: Stage) -> Scene:
    victim = s.victim(LOOP, CORE_C)
    mine = s.copy(victim.thread)
    return s.scene(
        call(s.a, "thread_end", mine),
        call(s.b, "cap_revoke", victim.thread),
        lambda: {"state": victim.info().state},
    )


@race()
def end_of_a_space_and_map_into_it(s: Stage) -> Scene:
    victim = s.victim(LOOP, CORE_C)
    memory = s.make("memory_create", s.agent.quota, PAGE)
    return s.scene(
        call(s.a, "space_end", victim.space),
        call(s.b, "map", victim.space, memory, SPOT | READ | WRITE, PAGE, 0),
        lambda: {"state": victim.info().state, "memory": s.agent.call("cap_delete", memory)},
    )


@race()
def end_of_a_space_and_a_capability_for_it(s: Stage) -> Scene:
    victim = s.victim(LOOP, CORE_C)
    bell = s.make("notification_create")
    return s.scene(
        call(s.a, "space_end", victim.space),
        call(s.b, "cap_copy", bell, ALL, 0, victim.space),
        lambda: {"state": victim.info().state},
    )


@race(both=False)
def watch_and_end_of_a_space(s: Stage) -> Scene:
    bell, space = s.make("notification_create"), s.make("space_create", s.agent.quota, 0)
    return s.scene(
        call(s.a, "space_watch", space, bell, 2),
        call(s.b, "space_end", space),
        lambda: {"bits": s.bits(bell)},
    )


def _faulted(s: Stage) -> Victim:
    """One that faults whenever it runs, and a has its fault."""
    endpoint = s.make("endpoint_create")
    victim = s.victim(UD2, CORE_C, start=False)
    assert s.agent.call("space_set_fault", victim.space, endpoint, 0) == 0
    s.block_ipc(s.a, "receive", endpoint)
    assert s.agent.call("thread_start", victim.thread, CODE, DATA + PAGE, DATA) == 0
    s.come(s.a)
    return victim


@race()
def verdict_and_registers_of_the_faulted(s: Stage) -> Scene:
    """It goes on with all the new ones or none, whoever writes what to its frame."""
    victim = _faulted(s)
    victim.page.write({**victim.registers(), "rax": 0x77, "rbx": 0x77}.values())

    def judge() -> Mapping[str, object]:
        s.agent.settle(victim.thread)
        registers = victim.registers()
        return {"registers": (registers["rax"], registers["rbx"])}

    return s.scene(
        ipc(s.a, "reply", 0),
        call(s.b, "thread_set_registers", victim.thread, victim.page.at),
        judge,
    )


@race()
def verdict_and_suspension_of_the_faulted(s: Stage) -> Scene:
    victim = _faulted(s)

    def judge() -> Mapping[str, object]:
        s.agent.settle(victim.thread)
        before = victim.info().state
        resumed = s.agent.call("thread_resume", victim.thread)
        s.agent.settle(victim.thread)
        return {"before": before, "resumed": resumed, "state": victim.info().state}

    return s.scene(ipc(s.a, "reply", 0), call(s.b, "thread_suspend", victim.thread), judge)


@race()
def verdict_and_migration_of_the_faulted(s: Stage) -> Scene:
    victim = _faulted(s)

    def judge() -> Mapping[str, object]:
        s.agent.settle(victim.thread)  # it faults again, on whichever core it comes to
        info = victim.info()
        return {"state": info.state, "core": info.core}

    return s.scene(
        ipc(s.a, "reply", 0), call(s.b, "thread_set_affinity", victim.thread, CORE_B), judge
    )


@race(
    But(A_FIRST, {"b": 0}),
    why="the verdict is on its way to the thread's core, and it is ended once",
)
def verdict_and_end_of_the_faulted(s: Stage) -> Scene:
    victim = _faulted(s)
    return s.scene(
        ipc(s.a, "reply", 0, "label=1"),
        call(s.b, "thread_end", victim.thread),
        lambda: {"state": victim.info().state},
    )


@race()
def bind_of_a_line_and_end_of_the_notification(s: Stage) -> Scene:
    bell = s.make("notification_create")
    lines = s.agent.hardware()[0]
    line = s.keep(s.agent.make("range_slice", lines, 5, 1))
    return s.scene(
        call(s.a, "irq_bind", line, bell, 1),
        call(s.b, "cap_delete", bell),
        lambda: {"freed": s.agent.call("irq_bind", line, 0, 0)},
    )


@race(both=False)
def two_bind_one_line(s: Stage) -> Scene:
    one, two = s.make("notification_create"), s.make("notification_create")
    line = s.keep(s.agent.make("range_slice", s.agent.hardware()[0], 5, 1))
    return s.scene(
        call(s.a, "irq_bind", line, one, 1),
        call(s.b, "irq_bind", line, two, 1),
        lambda: {"freed": s.agent.call("irq_bind", line, 0, 0)},
    )
