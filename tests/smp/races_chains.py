# SPDX-License-Identifier: MIT
"""Races along who waits for whom: chains of priorities, saved replies, copies that miss a page.

Each table has the operations of one side and those of the other; a race is a pair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from abi import ERRORS as E
from agent_support import PAGE, READ, SPOT, WRITE
from scene import CORE_A, CORE_B, CORE_C, But, Job, Scene
from stage import A_FIRST, B_FIRST, WORDS, Stage, call, ipc, race

THERE = SPOT + (1 << 31)
HIGH, LOW = 140, 20

Operation = tuple[str, str, tuple[int, ...]]  # a call, on whom, what else


def declare(name: str, setup: Callable[[Stage], Scene], *also: But, why: str = "") -> None:
    """A race that a table has made."""
    setup.__name__ = name.replace(" ", "_").replace("'", "")
    race(*also, why=why)(setup)


# ---- a chain over three cores: t1 calls t2, t2 calls t3, which owes the answer


@dataclass(frozen=True)
class Chain:
    """Workers, first the one whom the others work for."""

    t1: int
    t2: int
    t3: int
    asked: int  # the endpoint that t3 was called at


def chain(s: Stage, cores: tuple[int, int, int], first: int = 50, last: int | None = None) -> Chain:
    """Their own priorities fall along it. `last`: a worker that is to be t3."""
    ends = s.make("endpoint_create"), s.make("endpoint_create")
    t1, t2 = s.worker(cores[0], first), s.worker(cores[1], 40)
    t3 = s.worker(cores[2], 30) if last is None else last
    assert s.agent.call("thread_set_priority", s.thread(t3), 30) == 0
    for caller, server, end in ((t1, t2, ends[0]), (t2, t3, ends[1])):
        s.block_ipc(caller, "call", end, WORDS)
        s.receive(server, end)
    return Chain(t1, t2, t3, ends[1])


def seen_along(s: Stage, *workers: int) -> Mapping[str, object]:
    """From the first on: who is asked for a priority has what the one before it has to say."""
    infos = [s.page.info(s.thread(one)) for one in workers]
    priorities = tuple("dead" if one.state == "dead" else one.priority for one in infos)
    return {"priorities": priorities, "got": tuple(s.got(one) for one in workers[:-1])}


ALONG: dict[str, Operation] = {
    "raising": ("thread_set_priority", "t1", (HIGH,)),
    "lowering": ("thread_set_priority", "t1", (LOW,)),
    "cancel of the first": ("thread_cancel", "t1", ()),
    "end of the first": ("thread_end", "t1", ()),
    "raising the middle": ("thread_set_priority", "t2", (HIGH + 5,)),
    "cancel of the middle": ("thread_cancel", "t2", ()),
    "end of the middle": ("thread_end", "t2", ()),
    "end of the last": ("thread_end", "t3", ()),
}


def _along(
    first: str, second: str, cores: tuple[int, int, int], top: int, *also: But, why: str = ""
) -> None:
    def setup(s: Stage) -> Scene:
        c = chain(s, cores, top)

        def job(worker: int, operation: Operation) -> Job:
            name, on, rest = operation
            return call(worker, name, s.thread(getattr(c, on)), *rest)

        return s.scene(
            job(s.a, ALONG[first]),
            job(s.b, ALONG[second]),
            lambda: seen_along(s, c.t1, c.t2, c.t3),
        )

    declare(f"{first} and {second} of a chain", setup, *also, why=why)


OUT, IN = (CORE_A, CORE_C, CORE_B), (CORE_C, CORE_B, CORE_A)
for _second in list(ALONG)[1:]:
    _along("raising", _second, IN, 50)
for _second in list(ALONG)[2:]:
    _along("lowering", _second, OUT, 120)
_along("cancel of the first", "cancel of the middle", IN, 120)
_along(
    "cancel of the first",
    "end of the middle",
    OUT,
    120,
    But(B_FIRST, {"a": E["BUSY"]}),
    why="its call has failed, and it has not gone on yet: there is nothing to cancel",
)


@race()
def raising_of_a_chain_and_its_answer(s: Stage) -> Scene:
    c = chain(s, (CORE_A, CORE_C, CORE_B), last=s.b)
    return s.scene(
        call(s.a, "thread_set_priority", s.thread(c.t1), HIGH),
        ipc(s.b, "reply", 0, "w=9"),
        lambda: seen_along(s, c.t1, c.t2, c.t3),
    )


@race()
def raising_of_a_chain_and_saving_its_answer(s: Stage) -> Scene:
    c = chain(s, (CORE_A, CORE_C, CORE_B), last=s.b)

    def judge() -> Mapping[str, object]:
        seen, saved = seen_along(s, c.t1, c.t2, c.t3), s.agent.poll(s.b)
        assert saved is not None
        return {**seen, "deleted": s.agent.call("cap_delete", saved.second)}

    return s.scene(
        call(s.a, "thread_set_priority", s.thread(c.t1), HIGH),
        call(s.b, "reply_save", s.agent.quota),
        judge,
    )


@race()
def raising_of_a_chain_that_is_being_made_longer(s: Stage) -> Scene:
    """b is its last so far, and calls a fourth."""
    c, last = chain(s, (CORE_A, CORE_C, CORE_B), last=s.b), s.worker(CORE_C, 25)
    end = s.make("endpoint_create")
    s.block_ipc(last, "receive", end)
    return s.scene(
        call(s.a, "thread_set_priority", s.thread(c.t1), HIGH),
        ipc(s.b, "call", end, WORDS),
        lambda: seen_along(s, c.t1, c.t2, c.t3, last),
    )


# ---- a reply that is saved: its server may go, and so may its caller

SAVED: dict[str, Operation] = {
    "reply": ("reply", "saved", ()),
    "deletion of the reply": ("cap_delete", "saved", ()),
    "cancel of the caller": ("thread_cancel", "v", ()),
    "end of the caller": ("thread_end", "v", ()),
    "raising the caller": ("thread_set_priority", "v", (HIGH,)),
}
SAVER: dict[str, Operation] = {
    "end of the saver": ("thread_end", "server", ()),
    "suspension of the saver": ("thread_suspend", "server", ()),
    "migration of the saver": ("thread_set_affinity", "server", (CORE_A,)),
    "new priority of the saver": ("thread_set_priority", "server", (45,)),
}


def _saved(first: str, second: str) -> None:
    def setup(s: Stage) -> Scene:
        end, server, v = s.make("endpoint_create"), s.worker(CORE_C, 40), s.worker(CORE_B, 60)
        other = s.worker(CORE_B, 50)  # its reply is saved too, and stays so
        handles = []
        for caller in (other, v):
            s.block_ipc(caller, "call", end, WORDS)
            s.receive(server, end)
            handles.append(s.keep(s.agent.make("reply_save", s.agent.quota, worker=server)))
        on = {"saved": handles[1], "v": s.thread(v), "server": s.thread(server)}

        def job(worker: int, operation: Operation) -> Job:
            name, whom, rest = operation
            return (ipc if name == "reply" else call)(worker, name, on[whom], *rest)

        def judge() -> Mapping[str, object]:
            info = s.page.info(s.thread(server))
            seen = {"v": s.got(v), "v's": s.page.info(s.thread(v)).priority}
            s.agent.call("thread_resume", s.thread(server))
            s.agent.ipc("reply", handles[0], "w=7")
            return {
                **seen,
                "server": "dead" if info.state == "dead" else (info.priority, info.core),
                "other": s.got(other),
                "kind": s.agent.call("cap_info", handles[1]),
            }

        return s.scene(job(s.a, SAVED[first]), job(s.b, SAVER[second]), judge)

    declare(f"saved {first} and {second}", setup)


for _first in SAVED:
    for _second in SAVER:
        _saved(_first, _second)


def _saving(second: str, whom: str, *rest: int, also: tuple[But, ...] = (), why: str = "") -> None:
    def setup(s: Stage) -> Scene:
        end, v = s.make("endpoint_create"), s.worker(CORE_C, 60)
        assert s.agent.call("thread_set_priority", s.thread(s.a), 40) == 0
        s.block_ipc(v, "call", end, WORDS)
        s.receive(s.a, end)

        def judge() -> Mapping[str, object]:
            for one in (v, s.a):
                s.agent.call("thread_resume", s.thread(one))
            made, info = s.agent.poll(s.a), s.page.info(s.thread(s.a))
            if made is not None and made.value == 0:
                s.agent.call("cap_delete", made.second)
            return {"v": s.got(v), "a's": (info.priority, info.core)}

        other = {"a": s.a, "v": v}[whom]
        return s.scene(
            call(s.a, "reply_save", s.agent.quota),
            call(s.b, f"thread_{second}", s.thread(other), *rest),
            judge,
        )

    declare(f"saving a reply and {second} of {whom}", setup, *also, why=why)


_saving("end", "v")
_saving("suspend", "v")
_saving("set_priority", "v", HIGH)
_saving("set_priority", "v", LOW)
_saving("suspend", "a")
_saving("set_affinity", "a", CORE_B)
_saving("set_priority", "a", 45)

# ---- a long copy: its driver misses a page, and the pager is a third

COPY: dict[str, Operation] = {
    "cancel": ("thread_cancel", "", ()),
    "end": ("thread_end", "", ()),
    "suspension": ("thread_suspend", "", ()),
    "migration": ("thread_set_affinity", "", (CORE_B,)),
    "raising": ("thread_set_priority", "", (HIGH,)),
}


def paged(s: Stage) -> tuple[int, int, int]:
    """Mapped memory of which the second page is missing: it, its pager's endpoint, other memory."""
    end = s.make("endpoint_create")
    memory = s.make("memory_create", s.agent.quota, 2 * PAGE, end)
    source = s.make("memory_create", s.agent.quota, PAGE)
    assert s.agent.call("map", s.agent.space, memory, THERE | READ | WRITE, 2 * PAGE, 0) == 0
    assert s.agent.call("memory_supply", memory, 0, source, 0) == 0
    return memory, end, source


STOPPED = (
    "the page was brought in time, and the copy was stopped before it went on; or it was over, and "
    "the call waited for its answer, when a had come to the partner's core"
)
ACROSS = f"from={THERE + PAGE - 32}"


def _over(first: str, whom: str, name: str, core: int) -> dict[str, object]:
    """What both see if the copy is over before a comes to the one that it ends or cancels."""
    copied, canceled, dead = (64, (0, 0)), (E["CANCELED"], (0, 0)), (E["DEAD"], (0, 0))
    seen: dict[str, object] = {}
    if whom == "driver" and first == "end":
        both: tuple[object, object] = (dead if name == "call" else (0, (0, 0)), None)
    elif whom == "driver":
        both = (None if name == "call" else (0, (0, 0)), copied)
        seen = {"a": E["BUSY"], "infos": ((60, CORE_C), (60 if name == "call" else 40, core))}
    else:
        both = (canceled if (first, name) == ("cancel", "call") else None, copied)
    return {"before": both, "after": both, **seen}


def _copying(first: str, whom: str, core: int, name: str) -> None:
    """b is the pager, and has the page; a meddles with the driver or with its partner."""

    def setup(s: Stage) -> Scene:
        memory, pager, source = paged(s)
        end, v, d = s.make("endpoint_create"), s.worker(CORE_C, 60), s.worker(core, 40)
        s.block_ipc(v, name, end, "bytes=64", ACROSS)
        s.block_ipc(d, "receive", end, "size=64")
        s.receive(s.b, pager)
        assert s.agent.call("memory_supply", memory, PAGE, source, 0) == 0
        call_name, _, rest = COPY[first]
        thread = s.thread({"partner": v, "driver": d}[whom])

        def judge() -> Mapping[str, object]:
            before = s.got(v), s.got(d)
            for one in (v, d):
                s.agent.call("thread_resume", s.thread(one))
            return {
                "before": before,
                "after": (s.got(v), s.got(d)),
                "infos": tuple(
                    "dead" if one.state == "dead" else (one.priority, one.core)
                    for one in (s.page.info(s.thread(v)), s.page.info(s.thread(d)))
                ),
                "b's": s.page.info(s.thread(s.b)).priority,
            }

        return s.scene(call(s.a, call_name, thread, *rest), ipc(s.b, "reply", 0), judge)

    place = "" if core == CORE_A else " of one core"
    title = f"{first} of the {whom} in a long {name}{place} and the page"
    also = [But(A_FIRST, {"b": 0})] if first in ("cancel", "end") else []
    also += [But(B_FIRST, _over(first, whom, name, core))] if also else []
    declare(title, setup, *also, why=STOPPED)


for _first in COPY:
    for _whom in ("partner", "driver"):
        _copying(_first, _whom, CORE_A, "call")
for _first in ("cancel", "end"):
    for _whom in ("partner", "driver"):
        _copying(_first, _whom, CORE_C, "call")
        _copying(_first, _whom, CORE_A, "send")

LEFT = But(B_FIRST, {"a": E["CANCELED"]})


def _beginning(second: str, *rest: int, also: tuple[But, ...] = (), why: str = "") -> None:
    """a begins to receive, and drives a copy that waits for a page which does not come."""

    def setup(s: Stage) -> Scene:
        paged(s)
        end, v = s.make("endpoint_create"), s.worker(CORE_C, 40)  # nothing to inherit at first
        assert s.agent.call("thread_set_priority", s.thread(s.a), 60) == 0
        s.block_ipc(v, "call", end, "bytes=64", ACROSS)

        def judge() -> Mapping[str, object]:
            seen = s.page.info(s.thread(v)).priority, s.page.info(s.thread(s.a)).priority
            return {"priorities": seen, "v": s.got(v)}

        return s.scene(
            ipc(s.a, "receive", end, "size=64"),
            call(s.b, f"thread_{second}", s.thread(v), *rest),
            judge,
        )

    declare(f"a copy without a page and {second} of the caller", setup, *also, why=why)


IN_THE_COPY = "who leaves in the middle of a long copy leaves its partner with E_CANCELED"
_beginning("set_priority", HIGH)
_beginning("cancel", also=(LEFT,), why=IN_THE_COPY)
_beginning("end", also=(LEFT,), why=IN_THE_COPY)
_beginning("suspend")
