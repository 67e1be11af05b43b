# SPDX-License-Identifier: MIT
"""Pairs of operations for the interleaving sweep: what is set up, the two, what is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent import Agent, Twin
from agent_support import ALL, EXECUTE, FOREVER, PAGE, READ, SPOT, WRITE, E, Page, give
from agent_victim import CODE, DATA, LOOP, UD2, Victim
from interleaving import CORE_A, CORE_B, CORE_C, But, Job, Race, Scene

RACES: dict[str, Race] = {}
WORDS = "w=1,2,3,4,5,6"
A_FIRST, B_FIRST = "a then b", "b then a"
BUSY = But(A_FIRST, {"b": E["BUSY"]})
TAKEN = "it has its message and has not gone on yet: it waits for nothing that could be cancelled"


class Stage:
    """What a race is made of: two actors a and b, a third worker v, objects."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.handles: list[int] = []
        self.workers: list[int] = []
        self.victims: list[Victim] = []
        self.page = Page(agent)
        self.keep(self.page.memory)
        self.a = self.worker(CORE_A)
        self.b = self.worker(CORE_B)

    def keep(self, handle: int) -> int:
        self.handles.append(handle)
        return handle

    def worker(self, core: int, priority: int = 150) -> int:
        self.workers.append(self.agent.worker(priority, priority, core))
        return self.workers[-1]

    def twin(self, core: int) -> Twin:
        twin = self.agent.twin(150, 150, core)
        self.workers.append(twin.number)
        return twin

    def make(self, name: str, *arguments: int) -> int:
        """A new object, from the agent's account unless told otherwise."""
        return self.keep(self.agent.make(name, *(arguments or (self.agent.quota,))))

    def copy(self, handle: int, badge: int = 0) -> int:
        return self.keep(self.agent.make("cap_copy", handle, ALL, badge, 0))

    def victim(self, code: bytes, core: int, start: bool = True) -> Victim:
        """A thread in a space of its own."""
        victim = Victim.build(self.agent, code, 1 + len(self.victims), priority=100)
        self.victims.append(victim)
        assert self.agent.call("thread_set_affinity", victim.thread, core) == 0
        if start:
            assert self.agent.call("thread_start", victim.thread, CODE, DATA + PAGE, DATA) == 0
        return victim

    def thread(self, worker: int) -> int:
        return self.agent.threads[worker]

    def block(self, worker: int, name: str, *arguments: int) -> None:
        assert self.agent.start(name, *arguments, worker=worker) is None

    def block_ipc(self, worker: int, name: str, endpoint: int, *options: str) -> None:
        assert self.agent.ipc(name, endpoint, *options, worker=worker) is None

    # ---- looks

    def got(self, worker: int) -> object:
        """Result, second value and words; None: it is blocked."""
        result = self.agent.poll(worker)
        return None if result is None else (result.value, result.words[:2])

    def state(self, thread: int) -> str:
        return self.page.info(thread).state

    def bits(self, notification: int) -> tuple[int, int]:
        result = self.agent.sys("poll", notification)
        return result.value, result.second

    def scene(self, a: Job, b: Job, judge: Callable[[], Mapping[str, object]]) -> Scene:
        def judge_and_strike() -> Mapping[str, object]:
            return {**judge(), "given back": self.strike()}

        return Scene(a, b, judge_and_strike)

    def strike(self) -> bool:
        """Take everything down; has the account all of it back?"""
        for worker in self.workers:
            self.agent.drop(worker)
        for victim in self.victims:
            victim.drop()
        for handle in reversed(self.handles):
            self.agent.call("cap_delete", handle)
        return self.agent.has_back(self.agent.at_first)


def call(worker: int, name: str, *arguments: int) -> Job:
    return Job(worker, name, arguments)


def ipc(worker: int, name: str, *arguments: int | str) -> Job:
    return Job(worker, name, arguments, ipc=True)


def race(
    *also: But, why: str = "", both: bool = True
) -> Callable[[Callable[[Stage], Scene]], Callable[[Stage], Scene]]:
    """Declare a race; with `both` also the one in which b is the frozen one."""

    def declare(setup: Callable[[Stage], Scene]) -> Callable[[Stage], Scene]:
        name = setup.__name__.replace("_", "-")
        RACES[name] = Race(name, lambda agent: setup(Stage(agent)), also, why)
        if both:
            RACES[f"{name}-turned"] = Race(
                f"{name}-turned",
                lambda agent: turned(setup(turned_stage(agent))),
                tuple(turned_exception(one) for one in also),
                why,
            )
        return setup

    return declare


def turned_exception(one: But) -> But:
    names = {"a": "b", "b": "a"}
    changes = {names.get(key, key): value for key, value in one.changes.items()}
    return But(B_FIRST if one.order == A_FIRST else A_FIRST, changes)


def turned_stage(agent: Agent) -> Stage:
    """A stage on which the first actor lives on core B."""
    stage = Stage.__new__(Stage)
    Stage.__init__(stage, agent)
    stage.a, stage.b = stage.b, stage.a
    return stage


def turned(scene: Scene) -> Scene:
    return Scene(scene.b, scene.a, scene.judge)


# ---- messages


@race(BUSY, why=TAKEN)
def send_and_cancel_of_the_receiver(s: Stage) -> Scene:
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    s.block_ipc(v, "receive", endpoint)
    return s.scene(
        ipc(s.a, "send", endpoint, WORDS),
        call(s.b, "thread_cancel", s.thread(v)),
        lambda: {"v": s.got(v)},
    )


@race()
def send_and_end_of_the_receiver(s: Stage) -> Scene:
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    s.block_ipc(v, "receive", endpoint)
    return s.scene(
        ipc(s.a, "send", endpoint, WORDS),
        call(s.b, "thread_end", s.thread(v)),
        lambda: {"v": s.state(s.thread(v))},
    )


@race()
def send_and_suspend_of_the_receiver(s: Stage) -> Scene:
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    s.block_ipc(v, "receive", endpoint)

    def judge() -> Mapping[str, object]:
        before = s.got(v)
        resumed = s.agent.call("thread_resume", s.thread(v))
        return {"before": before, "resumed": resumed, "v": s.got(v)}

    return s.scene(
        ipc(s.a, "send", endpoint, WORDS), call(s.b, "thread_suspend", s.thread(v)), judge
    )


@race()
def send_and_migration_of_the_receiver(s: Stage) -> Scene:
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    s.block_ipc(v, "receive", endpoint)
    return s.scene(
        ipc(s.a, "send", endpoint, WORDS),
        call(s.b, "thread_set_affinity", s.thread(v), CORE_B),
        lambda: {"v": s.got(v), "core": s.page.info(s.thread(v)).core},
    )


@race()
def send_and_priority_of_the_receiver(s: Stage) -> Scene:
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    s.block_ipc(v, "receive", endpoint)
    return s.scene(
        ipc(s.a, "send", endpoint, WORDS),
        call(s.b, "thread_set_priority", s.thread(v), 120),
        lambda: {"v": s.got(v), "priority": s.page.info(s.thread(v)).priority},
    )


@race()
def send_and_revoke_of_its_endpoint(s: Stage) -> Scene:
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    derived = s.copy(endpoint)
    s.block_ipc(v, "receive", endpoint)
    return s.scene(
        ipc(s.a, "send", derived, WORDS),
        call(s.b, "cap_revoke", endpoint),
        lambda: {"v": s.got(v), "info": s.agent.call("cap_info", derived)},
    )


@race()
def send_and_end_of_the_endpoint(s: Stage) -> Scene:
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    s.block_ipc(v, "receive", endpoint)
    return s.scene(
        ipc(s.a, "send", endpoint, WORDS),
        call(s.b, "cap_delete", endpoint),
        lambda: {"v": s.got(v)},
    )


@race()
def wait_of_a_sender_and_end_of_the_endpoint(s: Stage) -> Scene:
    endpoint = s.make("endpoint_create")
    return s.scene(ipc(s.a, "send", endpoint, WORDS), call(s.b, "cap_delete", endpoint), dict)


@race()
def send_and_receive(s: Stage) -> Scene:
    endpoint = s.make("endpoint_create")
    return s.scene(
        ipc(s.a, "send", endpoint, WORDS),
        ipc(s.b, "receive", endpoint),
        lambda: {"words": s.got(s.b)},
    )


@race(both=False)
def two_receive_one_message(s: Stage) -> Scene:
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    s.block_ipc(v, "send", endpoint, WORDS)
    return s.scene(
        ipc(s.a, "receive", endpoint), ipc(s.b, "receive", endpoint), lambda: {"v": s.got(v)}
    )


@race(both=False)
def two_send_to_one_receiver(s: Stage) -> Scene:
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    s.block_ipc(v, "receive", endpoint)
    return s.scene(
        ipc(s.a, "send", endpoint, "w=1"),
        ipc(s.b, "send", endpoint, "w=2"),
        lambda: {"v": s.got(v)},
    )


def _served(s: Stage) -> tuple[int, int]:
    """v calls, a has received it and owes the reply."""
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C, 160)
    s.block_ipc(v, "call", endpoint, WORDS)
    assert s.agent.ipc("receive", endpoint, worker=s.a) is not None
    return endpoint, v


@race(BUSY, why=TAKEN)
def reply_and_cancel_of_the_caller(s: Stage) -> Scene:
    _, v = _served(s)
    return s.scene(
        ipc(s.a, "reply", 0, "w=9"),
        call(s.b, "thread_cancel", s.thread(v)),
        lambda: {"v": s.got(v), "priority": s.page.info(s.thread(s.a)).priority},
    )


@race()
def reply_and_end_of_the_caller(s: Stage) -> Scene:
    _, v = _served(s)
    return s.scene(
        ipc(s.a, "reply", 0, "w=9"),
        call(s.b, "thread_end", s.thread(v)),
        lambda: {"v": s.state(s.thread(v)), "priority": s.page.info(s.thread(s.a)).priority},
    )


@race()
def reply_and_priority_of_the_caller(s: Stage) -> Scene:
    _, v = _served(s)
    return s.scene(
        ipc(s.a, "reply", 0, "w=9"),
        call(s.b, "thread_set_priority", s.thread(v), 180),
        lambda: {
            "v": s.got(v),
            "priority": s.page.info(s.thread(s.a)).priority,
            "v's": s.page.info(s.thread(v)).priority,
        },
    )


@race()
def reply_receive_and_call(s: Stage) -> Scene:
    endpoint, v = _served(s)
    return s.scene(
        ipc(s.a, "reply_receive", endpoint, "w=9"),
        ipc(s.b, "call", endpoint, "w=8"),
        lambda: {"v": s.got(v), "a's": s.got(s.a)},
    )


@race()
def saving_a_reply_and_cancel_of_the_caller(s: Stage) -> Scene:
    _, v = _served(s)

    def judge() -> Mapping[str, object]:
        result = s.agent.poll(s.a)
        saved = result.second if result and result.value == 0 else 0
        priority = s.page.info(s.thread(s.a)).priority
        kind = s.agent.call("cap_info", saved) if saved else None
        if saved:
            s.agent.call("cap_delete", saved)
        return {"v": s.got(v), "kind": kind, "priority": priority}

    return s.scene(
        call(s.a, "reply_save", s.agent.quota), call(s.b, "thread_cancel", s.thread(v)), judge
    )


@race(
    But(A_FIRST, {"b": 0}),
    But(B_FIRST, {"a": E["NOREPLY"]}),
    why="each has found the capability: the reply takes the caller, then deletes; or finds nobody",
)
def saved_reply_and_its_deletion(s: Stage) -> Scene:
    _, v = _served(s)
    saved = s.keep(s.agent.make("reply_save", s.agent.quota, worker=s.a))
    return s.scene(
        ipc(s.a, "reply", saved, "w=9"), call(s.b, "cap_delete", saved), lambda: {"v": s.got(v)}
    )


@race()
def bound_receive_and_signal(s: Stage) -> Scene:
    endpoint, bell = s.make("endpoint_create"), s.make("notification_create")
    assert s.agent.call("thread_bind", s.thread(s.a), bell) == 0
    return s.scene(
        ipc(s.a, "receive", endpoint),
        call(s.b, "signal", bell, 4),
        lambda: {"words": s.got(s.a), "bits": s.bits(bell)},
    )


@race()
def unbind_and_signal(s: Stage) -> Scene:
    endpoint, bell, v = s.make("endpoint_create"), s.make("notification_create"), s.worker(CORE_C)
    assert s.agent.call("thread_bind", s.thread(v), bell) == 0
    s.block_ipc(v, "receive", endpoint)
    return s.scene(
        call(s.a, "thread_bind", s.thread(v), 0),
        call(s.b, "signal", bell, 4),
        lambda: {"v": s.got(v), "bits": s.bits(bell)},
    )


# ---- notifications


@race()
def wait_and_signal(s: Stage) -> Scene:
    bell = s.make("notification_create")
    return s.scene(
        call(s.a, "wait", bell, FOREVER),
        call(s.b, "signal", bell, 4),
        lambda: {"bits": s.bits(bell), "second": s.agent.poll(s.a).second},  # type: ignore[union-attr]
    )


@race(BUSY, why=TAKEN)
def signal_and_cancel_of_the_waiter(s: Stage) -> Scene:
    bell, v = s.make("notification_create"), s.worker(CORE_C)
    s.block(v, "wait", bell, FOREVER)
    return s.scene(
        call(s.a, "signal", bell, 4),
        call(s.b, "thread_cancel", s.thread(v)),
        lambda: {"v": s.got(v), "bits": s.bits(bell)},
    )


@race()
def signal_and_migration_of_the_waiter(s: Stage) -> Scene:
    bell, v = s.make("notification_create"), s.worker(CORE_C)
    s.block(v, "wait", bell, FOREVER)
    return s.scene(
        call(s.a, "signal", bell, 4),
        call(s.b, "thread_set_affinity", s.thread(v), CORE_B),
        lambda: {"v": s.got(v), "bits": s.bits(bell)},
    )


@race(
    But(B_FIRST, {"a": 0}),
    why="it has found a notification, whose end has already woken its waiters: a signal for nobody",
)
def signal_and_end_of_the_notification(s: Stage) -> Scene:
    bell, v = s.make("notification_create"), s.worker(CORE_C)
    s.block(v, "wait", bell, FOREVER)
    return s.scene(
        call(s.a, "signal", bell, 4), call(s.b, "cap_delete", bell), lambda: {"v": s.got(v)}
    )


@race(both=False)
def two_signal(s: Stage) -> Scene:
    bell, v = s.make("notification_create"), s.worker(CORE_C)
    s.block(v, "wait", bell, FOREVER)

    def judge() -> Mapping[str, object]:
        first = s.agent.poll(v)
        bits, left = first.second if first else 0, s.bits(bell)[1]
        return {"v": (first is not None, bits, left)}

    return s.scene(call(s.a, "signal", bell, 1), call(s.b, "signal", bell, 2), judge)


# ---- a thread that runs, on a third core

ON_A_RUNNING_ONE = {
    "suspend": ("thread_suspend", ()),
    "resume": ("thread_resume", ()),
    "end": ("thread_end", ()),
    "priority": ("thread_set_priority", (90,)),
    "affinity": ("thread_set_affinity", (CORE_B,)),
    "affinity here": ("thread_set_affinity", (CORE_A,)),
}


def _running(first: str, second: str) -> Callable[[Stage], Scene]:
    def setup(s: Stage) -> Scene:
        victim = s.victim(LOOP, CORE_C)

        def judge() -> Mapping[str, object]:
            info = victim.info()
            runs = info.state == "ready" and not s.agent.settle(victim.thread)
            return {"state": info.state, "core": info.core, "priority": info.priority, "runs": runs}

        (one, ones), (two, twos) = ON_A_RUNNING_ONE[first], ON_A_RUNNING_ONE[second]
        return s.scene(
            call(s.a, one, victim.thread, *ones), call(s.b, two, victim.thread, *twos), judge
        )

    return setup


for _first in ON_A_RUNNING_ONE:
    for _second in ("suspend", "end", "affinity"):
        _setup = _running(_first, _second)
        _setup.__name__ = f"{_first} and {_second} of one that runs".replace(" ", "_")
        race(both=False)(_setup)


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


@race(
    But(A_FIRST, {"b": 0}),
    why="the verdict is on its way to the thread's core, and it is ended once",
)
def verdict_and_end_of_the_faulted(s: Stage) -> Scene:
    endpoint = s.make("endpoint_create")
    victim = s.victim(UD2, CORE_C, start=False)
    assert s.agent.call("space_set_fault", victim.space, endpoint, 0) == 0
    s.block_ipc(s.a, "receive", endpoint)
    assert s.agent.call("thread_start", victim.thread, CODE, DATA + PAGE, DATA) == 0
    assert s.agent.poll(s.a) is not None
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


__all__ = ["EXECUTE", "RACES", "Stage", "give"]
