# SPDX-License-Identifier: MIT
"""Races of messages, notifications, and operations on a thread that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent_support import FOREVER, E
from agent_victim import LOOP
from scene import CORE_A, CORE_B, CORE_C, But, Scene
from stage import A_FIRST, B_FIRST, WORDS, Stage, call, ipc, race

BUSY = But(A_FIRST, {"b": E["BUSY"]})
TAKEN = "it has its message and has not gone on yet: it waits for nothing that could be cancelled"


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


def _calling(s: Stage, *options: str) -> tuple[int, int]:
    """v calls, and nobody receives; the server that it had before, on its own core, has ended."""
    endpoint, v, server = s.make("endpoint_create"), s.worker(CORE_C), s.worker(CORE_C)
    s.block_ipc(server, "receive", endpoint)
    s.block_ipc(v, "call", endpoint)
    s.block_ipc(server, "reply_receive", endpoint)
    s.come(v)
    s.agent.drop(server)
    s.workers.remove(server)
    s.block_ipc(v, "call", endpoint, *options)
    return endpoint, v


@race()
def receive_and_cancel_of_the_caller(s: Stage) -> Scene:
    """Out of one wait and into the next: it waits all the time, so it can be cancelled."""
    endpoint, v = _calling(s, WORDS)
    return s.scene(
        ipc(s.a, "receive", endpoint),
        call(s.b, "thread_cancel", s.thread(v)),
        lambda: {"v": s.got(v)},
    )


LEFT = But(B_FIRST, {"a": E["CANCELED"]})
IN_THE_COPY = "who leaves in the middle of a long copy leaves its partner with E_CANCELED"


@race(LEFT, why=IN_THE_COPY)
def receive_of_bytes_and_cancel_of_the_caller(s: Stage) -> Scene:
    endpoint, v = _calling(s, "bytes=64")
    return s.scene(
        ipc(s.a, "receive", endpoint, "size=64"),
        call(s.b, "thread_cancel", s.thread(v)),
        lambda: {"v": s.got(v)},
    )


@race(BUSY, LEFT, why=f"{TAKEN}; {IN_THE_COPY}")
def receive_of_bytes_and_cancel_of_the_sender(s: Stage) -> Scene:
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C)
    s.block_ipc(v, "send", endpoint, "bytes=64")
    return s.scene(
        ipc(s.a, "receive", endpoint, "size=64"),
        call(s.b, "thread_cancel", s.thread(v)),
        lambda: {"v": s.got(v)},
    )


@race(LEFT, why=IN_THE_COPY)
def receive_of_bytes_and_end_of_the_caller(s: Stage) -> Scene:
    endpoint, v = _calling(s, "bytes=64")
    return s.scene(
        ipc(s.a, "receive", endpoint, "size=64"),
        call(s.b, "thread_end", s.thread(v)),
        lambda: {"v": s.state(s.thread(v)), "priority": s.page.info(s.thread(s.a)).priority},
    )


@race()
def receive_and_priority_of_the_caller(s: Stage) -> Scene:
    """What it inherits to its server, whichever of its queues it is in."""
    endpoint, v = _calling(s, WORDS)
    return s.scene(
        ipc(s.a, "receive", endpoint),
        call(s.b, "thread_set_priority", s.thread(v), 120),
        lambda: {
            "v": s.page.info(s.thread(v)).priority,
            "a's": s.page.info(s.thread(s.a)).priority,
        },
    )


def _served(s: Stage, options: str = WORDS) -> tuple[int, int]:
    """v calls, a has received it and owes the reply."""
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_C, 160)
    s.block_ipc(v, "call", endpoint, options)
    s.receive(s.a, endpoint)
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


def _reply_and_priority(s: Stage, asks: str, answer: str) -> Scene:
    _, v = _served(s, asks)
    return s.scene(
        ipc(s.a, "reply", 0, answer),
        call(s.b, "thread_set_priority", s.thread(v), 180),
        lambda: {
            "v": s.got(v),
            "priority": s.page.info(s.thread(s.a)).priority,
            "v's": s.page.info(s.thread(v)).priority,
        },
    )


@race()
def reply_and_priority_of_the_caller(s: Stage) -> Scene:
    return _reply_and_priority(s, WORDS, "w=9")


@race()
def reply_with_bytes_and_priority_of_the_caller(s: Stage) -> Scene:
    """Its server is from then on the driver of its copy: that has no queue for it to stand in."""
    return _reply_and_priority(s, "size=64", "bytes=64")


@race()
def reply_receive_and_call(s: Stage) -> Scene:
    endpoint, v = _served(s)
    return s.scene(
        ipc(s.a, "reply_receive", endpoint, "w=9"),
        ipc(s.b, "call", endpoint, "w=8"),
        lambda: {"v": s.got(v), "a's": s.got(s.a)},
    )


@race()
def reply_receive_here_and_end_of_the_endpoint(s: Stage) -> Scene:
    """The caller lives on a's core, so the answer goes the fast way: a waits where nobody comes."""
    endpoint, v = s.make("endpoint_create"), s.worker(CORE_A, 160)
    s.block_ipc(v, "call", endpoint, WORDS)
    s.receive(s.a, endpoint)
    return s.scene(
        ipc(s.a, "reply_receive", endpoint, "w=9"),
        call(s.b, "cap_delete", endpoint),
        lambda: {"v": s.got(v)},
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


@race(
    But(A_FIRST, {"b": None}),
    why="the suspension waits on a's core for the resumption to be over",
    both=False,
)
def suspension_on_the_way_and_resumption(s: Stage) -> Scene:
    """b's operation and the resumption of b both come to a's core while a suspends b there."""
    v, b = s.worker(CORE_C), s.thread(s.b)

    def judge() -> Mapping[str, object]:
        resumed = s.agent.call("thread_resume", b)
        return {"resumed": resumed, "b's": s.got(s.b), "a's": s.state(s.thread(s.a))}

    return s.scene(
        call(s.a, "thread_suspend", b),
        call(s.b, "thread_info", s.thread(s.a), s.page.at),
        judge,
        call(v, "thread_resume", b),
    )
