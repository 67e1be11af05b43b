# SPDX-License-Identifier: MIT
"""Races of a time that is over just as the wait ends by itself.

First a waits, with a time so short that it is over as soon as any passes: the core that sees that,
a's own, is frozen anywhere between the call and its end by time, and b ends the wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from abi import ERRORS as E
from agent_support import INFO_FAULT, PAGE
from races_chains import ACROSS, IN_THE_COPY, paged
from scene import CORE_C, But, Job, Scene
from stage import A_FIRST, B_FIRST, WORDS, Stage, call, ipc, race

SHORT = 1000  # nanoseconds
TIMEOUT = f"timeout={SHORT}"
MISSED = INFO_FAULT | 1 << 32  # FAULT_PAGE
LEFT = But(B_FIRST, {"a": E["CANCELED"]})
LET_GO = "its wait is over, and it has not gone on yet: there is nothing to cancel"


@race(timed="a", both=False)
def send_in_time_and_receive(s: Stage) -> Scene:
    end = s.make("endpoint_create")
    return s.scene(
        ipc(s.a, "send", end, WORDS, TIMEOUT), ipc(s.b, "receive", end), lambda: {"b's": s.got(s.b)}
    )


@race(timed="a", both=False)
def send_of_bytes_in_time_and_receive(s: Stage) -> Scene:
    end = s.make("endpoint_create")
    return s.scene(
        ipc(s.a, "send", end, "bytes=64", TIMEOUT), ipc(s.b, "receive", end, "size=64"), dict
    )


@race(timed="a", both=False)
def receive_in_time_and_send(s: Stage) -> Scene:
    end = s.make("endpoint_create")
    return s.scene(
        ipc(s.a, "receive", end, TIMEOUT), ipc(s.b, "send", end, WORDS), lambda: {"a's": s.got(s.a)}
    )


@race(timed="a", both=False)
def receive_in_time_and_signal(s: Stage) -> Scene:
    end, bell = s.make("endpoint_create"), s.make("notification_create")
    assert s.agent.call("thread_bind", s.thread(s.a), bell) == 0
    return s.scene(
        ipc(s.a, "receive", end, TIMEOUT),
        call(s.b, "signal", bell, 4),
        lambda: {"a's": s.got(s.a), "bits": s.bits(bell)},
    )


@race(timed="a", both=False)
def wait_in_time_and_signal(s: Stage) -> Scene:
    bell = s.make("notification_create")
    return s.scene(
        call(s.a, "wait", bell, SHORT),
        call(s.b, "signal", bell, 4),
        lambda: {"bits": s.bits(bell)},
    )


@race(timed="a", both=False)
def wait_in_time_and_end_of_the_notification(s: Stage) -> Scene:
    bell = s.make("notification_create")
    return s.scene(call(s.a, "wait", bell, SHORT), call(s.b, "cap_delete", bell), dict)


@race(timed="a", both=False)
def send_in_time_and_end_of_the_endpoint(s: Stage) -> Scene:
    end = s.make("endpoint_create")
    return s.scene(ipc(s.a, "send", end, WORDS, TIMEOUT), call(s.b, "cap_delete", end), dict)


@race(timed="a", both=False)
def call_in_time_and_its_receive(s: Stage) -> Scene:
    """The server that has it when its time is over owes nothing any more."""
    end = s.make("endpoint_create")
    assert s.agent.call("thread_set_priority", s.thread(s.b), 60) == 0
    return s.scene(
        ipc(s.a, "call", end, WORDS, TIMEOUT),
        ipc(s.b, "receive", end),
        lambda: {"b's": (s.got(s.b), s.page.info(s.thread(s.b)).priority)},
    )


@race(
    But(A_FIRST, {"a": E["CANCELED"]}),
    But(B_FIRST, {"b": 0}),
    why="it has begun to sleep, and its time is not over; or it is, and it waits for a job again",
    timed="a",
    both=False,
)
def sleep_and_cancel_of_the_sleeper(s: Stage) -> Scene:
    return s.scene(
        call(s.a, "sleep", SHORT),
        call(s.b, "thread_cancel", s.thread(s.a)),
        lambda: {"state": s.state(s.thread(s.a))},
    )


@race(timed="a", both=False)
def sleep_and_migration_of_the_sleeper(s: Stage) -> Scene:
    return s.scene(
        call(s.a, "sleep", SHORT),
        call(s.b, "thread_set_affinity", s.thread(s.a), CORE_C),
        lambda: {"core": s.page.info(s.thread(s.a)).core},
    )


# ---- a long copy that is not over in time: it misses a page that nobody brings


@race(timed="a", both=False)
def call_of_bytes_in_time_and_a_copy_without_a_page(s: Stage) -> Scene:
    """a is the one whose time it is, b's core copies."""
    paged(s)
    end = s.make("endpoint_create")
    return s.scene(
        ipc(s.a, "call", end, "bytes=64", ACROSS, TIMEOUT),
        ipc(s.b, "receive", end, "size=64"),
        lambda: {"b's": s.page.info(s.thread(s.b)).priority},
    )


@race(
    But(B_FIRST, {"b": None}),
    But(B_FIRST, {"b": MISSED}),
    why="a copy that has to give way has its time run even before it misses the page",
    timed="a",
    both=False,
)
def copy_without_a_page_in_time_and_its_pager(s: Stage) -> Scene:
    """a drives the copy, and its page is there when b answers, who has long been its pager."""
    memory, pager, source = paged(s)
    end, v = s.make("endpoint_create"), s.worker(CORE_C)
    s.block_ipc(v, "send", end, "bytes=64", ACROSS)
    return s.scene(
        ipc(s.a, "receive", end, "size=64", TIMEOUT),
        ipc(s.b, "receive", pager),
        lambda: {"v": s.got(v), "supplied": s.agent.call("memory_supply", memory, PAGE, source, 0)},
    )


@race(But(A_FIRST, {"b": E["BUSY"]}), LEFT, why=f"{LET_GO}; {IN_THE_COPY}", timed="a", both=False)
def copy_without_a_page_in_time_and_cancel_of_its_partner(s: Stage) -> Scene:
    paged(s)
    end, v = s.make("endpoint_create"), s.worker(CORE_C)
    s.block_ipc(v, "send", end, "bytes=64", ACROSS)
    return s.scene(
        ipc(s.a, "receive", end, "size=64", TIMEOUT),
        call(s.b, "thread_cancel", s.thread(v)),
        lambda: {"v": s.got(v)},
    )


# ---- the other way round: v waits, on a third core, and its time is over while a, who ends the
# wait, is frozen


def _while_a_stands(
    name: str,
    wait: Callable[[Stage, int, int], None],
    end: Callable[[Stage, int, int], Job],
    *also: But,
    why: str = "",
) -> None:
    """`wait` has v wait at an endpoint or a notification, `end` is what a does. b sleeps."""

    def setup(s: Stage) -> Scene:
        v = s.worker(CORE_C, 60)
        assert s.agent.call("thread_set_priority", s.thread(s.a), 40) == 0
        place = s.make("notification_create" if "signal" in name else "endpoint_create")
        job = end(s, v, place)  # which may need somebody to wait there already
        wait(s, v, place)
        if "reply" in name:
            s.receive(s.a, place)

        def judge() -> Mapping[str, object]:
            a = s.agent.poll(s.a)
            saved = a.second if a and a.value == 0 and job.name == "reply_save" else 0
            seen = {"v": s.got(v), "a's": s.page.info(s.thread(s.a)).priority}
            if saved:
                seen["saved"] = s.agent.call("cap_info", saved)
                s.agent.call("cap_delete", saved)
            return seen

        return s.scene(job, call(s.b, "sleep", s.agent.limit), judge)

    setup.__name__ = name.replace(" ", "_").replace("'", "")
    race(*also, why=why, both=False, timed="b")(setup)


def _waits(name: str, *options: str) -> Callable[[Stage, int, int], None]:
    def wait(s: Stage, v: int, place: int) -> None:
        if name == "wait":
            s.block(v, name, place, s.agent.limit)
        elif name == "sleep":
            s.block(v, name, s.agent.limit)
        else:
            s.block_ipc(v, name, place, *options, f"timeout={s.agent.limit}")

    return wait


def _ends(name: str, *options: str) -> Callable[[Stage, int, int], Job]:
    return lambda s, _, place: ipc(s.a, name, 0 if name == "reply" else place, *options)


_while_a_stands("send and the end of the receiver's time", _waits("receive"), _ends("send", WORDS))
_while_a_stands("receive and the end of the sender's time", _waits("send"), _ends("receive"))
_while_a_stands("receive and the end of the caller's time", _waits("call"), _ends("receive"))
_while_a_stands("reply and the end of the caller's time", _waits("call"), _ends("reply", "w=9"))
_while_a_stands(
    "send of bytes and the end of the receiver's time",
    _waits("receive", "size=64"),
    _ends("send", "bytes=64"),
    LEFT,
    why=IN_THE_COPY,
)
_while_a_stands(
    "receive of bytes and the end of the sender's time",
    _waits("send", "bytes=64"),
    _ends("receive", "size=64"),
    LEFT,
    why=IN_THE_COPY,
)
_while_a_stands(
    "reply of bytes and the end of the caller's time",
    _waits("call", "size=64"),
    _ends("reply", "bytes=64"),
    LEFT,
    why=IN_THE_COPY,
)
_while_a_stands(
    "signal and the end of the waiter's time",
    _waits("wait"),
    lambda s, _, place: call(s.a, "signal", place, 4),
)
_while_a_stands(
    "cancel and the end of the sleeper's time",
    _waits("sleep"),
    lambda s, v, _: call(s.a, "thread_cancel", s.thread(v)),
    But(B_FIRST, {"a": E["BUSY"]}),
    why=LET_GO,
)
_while_a_stands(
    "cancel and the end of the caller's time",
    _waits("call"),
    lambda s, v, _: call(s.a, "thread_cancel", s.thread(v)),
    But(B_FIRST, {"a": E["BUSY"]}),
    why=LET_GO,
)
_while_a_stands(
    "suspension and the end of the caller's time",
    _waits("call"),
    lambda s, v, _: call(s.a, "thread_suspend", s.thread(v)),
)
_while_a_stands(
    "saving a reply and the end of the caller's time",
    _waits("call"),
    lambda s, _, __: call(s.a, "reply_save", s.agent.quota),
)
