# SPDX-License-Identifier: MIT
"""Threads and spaces: begin, stop, go on, end; who may do what to whom."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from agent import READY, Agent
from agent_support import (
    ALL,
    FOREVER,
    MS,
    PAGE,
    READ,
    SOON,
    SPOT,
    E,
    Page,
    R,
    comes_about,
    done,
    give,
    has_failed,
    spawn,
    wait_done,
)
from agent_victim import CODE, LOOP, Victim

pytestmark = [
    pytest.mark.machine(append="run=agent", ready=READY, shared=True),
    pytest.mark.cores(1, 2, 4),
]

ONE_CORE = pytest.mark.cores(1)  # time that threads got, which a busy host gives as it likes

Keep = Callable[[int], int]
Worker = Callable[..., int]


@pytest.fixture
def page(agent: Agent, request: pytest.FixtureRequest) -> Iterator[Page]:
    page = Page(agent)
    yield page
    if not has_failed(request):
        agent.call("cap_delete", page.memory)


@pytest.fixture
def looper(agent: Agent, request: pytest.FixtureRequest) -> Iterator[Victim]:
    """A thread below the agent that would run for ever."""
    victim = Victim.build(agent, LOOP, slot=1, priority=50)
    yield victim
    if not has_failed(request):
        victim.drop()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_its_capabilities_outlive_it(agent: Agent, order: tuple[int, ...]) -> None:
    """Two without a parent, one of them with a child: they are deleted when it has ended."""
    free = agent.free()
    first = agent.make("thread_create", agent.quota, agent.space, 50 << 8 | 50)
    one, other = (agent.make("cap_copy", first, ALL, 0, 0) for _ in range(2))
    left = [one, other, agent.make("cap_copy", one, ALL, 0, 0)]
    assert agent.call("cap_delete", first) == 0
    assert agent.call("thread_end", other) == 0
    for index in order:
        assert agent.call("thread_end", left[index]) == E["DEAD"]
        assert agent.call("cap_delete", left[index]) == 0
    assert agent.has_back(free)


def test_life(agent: Agent, looper: Victim) -> None:
    assert looper.info().state == "inactive"
    assert agent.call("thread_start", looper.thread, CODE, 0, 0) == 0
    assert agent.call("thread_start", looper.thread, CODE, 0, 0) == E["BUSY"]
    assert looper.info().state == "ready"
    assert agent.call("thread_end", looper.thread) == 0
    assert looper.info().state == "dead"
    for name in ("start", "end", "suspend", "resume", "cancel", "set_priority", "bind"):
        assert agent.call(f"thread_{name}", looper.thread, CODE, 0, 0) == E["DEAD"], name


@ONE_CORE
def test_suspended_it_takes_no_time(agent: Agent, looper: Victim) -> None:
    looper.start()
    before = looper.info().cpu_time
    agent.start("sleep", 20 * MS)
    ran = looper.info().cpu_time - before
    assert ran > 5 * MS, "it runs while the agent sleeps"
    assert agent.call("thread_suspend", looper.thread) == 0
    before = looper.info().cpu_time
    agent.start("sleep", 20 * MS)
    assert looper.info().cpu_time == before
    assert agent.call("thread_resume", looper.thread) == 0
    agent.start("sleep", 20 * MS)
    assert looper.info().cpu_time > before


def test_suspended_before_it_starts(agent: Agent, looper: Victim) -> None:
    assert agent.call("thread_suspend", looper.thread) == 0
    looper.start()
    agent.start("sleep", 10 * MS)
    assert looper.info().cpu_time == 0
    assert agent.call("thread_resume", looper.thread) == 0
    assert comes_about(agent, lambda: looper.info().cpu_time > 0)


def test_suspended_while_it_waits(agent: Agent, notification: int) -> None:
    k, thread = spawn(agent, 150)
    assert agent.start("wait", notification, FOREVER, worker=k) is None
    assert agent.call("thread_suspend", thread) == 0
    assert agent.call("signal", notification, 1) == 0
    assert agent.poll(k) is None, "woken, but it does not run"
    assert agent.call("poll", notification) == E["AGAIN"], "the bits are its"
    assert agent.call("thread_resume", thread) == 0
    agent.call("yield")
    assert done(agent.poll(k)).second == 1
    agent.drop(k)


def test_one_suspends_itself(agent: Agent) -> None:
    k, thread = spawn(agent, 150)
    assert agent.start("thread_suspend", 0, worker=k) is None
    assert agent.call("thread_resume", thread) == 0
    agent.call("yield")
    assert done(agent.poll(k)).value == 0
    agent.drop(k)


def test_one_ends_itself(agent: Agent, page: Page) -> None:
    k, thread = spawn(agent, 150)
    assert agent.start("thread_end", 0, worker=k) is None
    assert page.info(thread).state == "dead"
    agent.drop(k)


def test_where_a_thread_may_begin(agent: Agent, looper: Victim) -> None:
    for rip in (0, 0xFFF, 0x00007FFFFFFFF000, 1 << 47, 0xFFFFFFFF81000000, FOREVER):
        assert agent.call("thread_start", looper.thread, rip, 0, 0) == E["INVAL"]
        assert agent.call("thread_set_handler", rip, 0) == (0 if rip == 0 else E["INVAL"])
    assert looper.info().state == "inactive"


def test_affinity(agent: Agent, looper: Victim) -> None:
    assert agent.call("thread_set_affinity", looper.thread, 0) == 0
    for core in (agent.cores, 63, 64, 254, 256, FOREVER):
        assert agent.call("thread_set_affinity", looper.thread, core) == E["INVAL"]


@ONE_CORE
@pytest.mark.machine(icount=0)  # a host that stalls charges it to who has the turn
def test_equals_take_turns(agent: Agent) -> None:
    victims = [Victim.build(agent, LOOP, slot, priority=50) for slot in (1, 2, 3)]
    for victim in victims:
        victim.start()
    agent.start("sleep", 150 * MS)
    times = [victim.info().cpu_time for victim in victims]
    assert min(times) > 20 * MS
    assert max(times) < 3 * min(times)
    for victim in victims:
        victim.drop()


@ONE_CORE
def test_the_higher_one_runs(agent: Agent) -> None:
    low, high = (Victim.build(agent, LOOP, slot, priority=40 + slot) for slot in (1, 2))
    low.start()
    high.start()
    before = low.info().cpu_time
    agent.start("sleep", 30 * MS)
    assert low.info().cpu_time - before < MS
    assert agent.call("thread_set_priority", low.thread, 60) == 0
    before = high.info().cpu_time
    agent.start("sleep", 30 * MS)
    assert high.info().cpu_time - before < MS
    low.drop()
    high.drop()


def test_sleep_and_clock(agent: Agent, worker: Worker) -> None:
    k = worker()
    for nanoseconds in (1, 1000, MS, 20 * MS):
        before = agent.make("clock")
        if agent.start("sleep", nanoseconds, worker=k) is None:
            wait_done(agent, k)
        assert agent.make("clock") - before >= nanoseconds
    assert agent.call("sleep", 0) == 0


@ONE_CORE
def test_sleepers_wake_in_time_s_order(agent: Agent) -> None:
    """Who still sleeps when another one is seen awake was not due before it."""
    due: dict[int, tuple[int, int]] = {}  # not before, not after: starting one takes a while
    for delay in (90 * MS, 30 * MS, 60 * MS):
        k, before = spawn(agent, 150)[0], agent.make("clock")
        agent.start("sleep", delay, worker=k)
        due[k] = before + delay, agent.make("clock") + delay
    asleep = set(due)
    while asleep:
        awake = {k for k in asleep if agent.poll(k) is not None}
        if awake:
            asleep = {k for k in asleep - awake if agent.poll(k) is None}
            assert all(due[k][0] <= due[other][1] for k in awake for other in asleep)
    for k in due:
        agent.drop(k)


def test_cancelled_sleep(agent: Agent) -> None:
    k, thread = spawn(agent, 150)
    assert agent.start("sleep", FOREVER, worker=k) is None
    assert agent.call("thread_cancel", thread) == 0
    agent.call("yield")
    assert done(agent.poll(k)).value == E["CANCELED"]
    agent.drop(k)


def test_rights_over_threads(agent: Agent, keep: Keep, looper: Victim, page: Page) -> None:
    weak = keep(agent.make("cap_copy", looper.thread, R["THREAD_INFO"], 0, 0))
    page.info(weak)
    for name in ("start", "suspend", "resume", "end", "set_priority", "set_affinity", "cancel"):
        assert agent.call(f"thread_{name}", weak, CODE, 0, 0) == E["RIGHTS"], name
    blind = keep(agent.make("cap_copy", looper.thread, ALL & ~R["THREAD_INFO"], 0, 0))
    assert agent.call("thread_info", blind, page.at) == E["RIGHTS"]


# --- spaces ---


def test_a_space_ends_with_its_last_thread(agent: Agent, notification: int) -> None:
    victim = Victim.build(agent, LOOP, slot=1, priority=50)
    assert agent.call("space_watch", victim.space, notification, 0) == 0
    assert agent.call("space_watch", victim.space, notification, 4) == 0
    second = agent.make("thread_create", agent.quota, victim.space, 50 << 8 | 50)
    assert agent.call("thread_end", victim.thread) == 0
    assert agent.call("poll", notification) == E["AGAIN"]
    assert agent.call("thread_end", second) == 0
    assert agent.sys("poll", notification).second == 4
    assert agent.call("thread_create", agent.quota, victim.space, 50 << 8 | 50) == E["DEAD"]
    assert agent.call("space_watch", victim.space, notification, 4) == E["DEAD"]
    assert agent.call("cap_delete", second) == 0
    victim.drop()


def test_a_space_s_end_takes_all_with_it(
    agent: Agent, endpoint: int, notification: int, worker: Worker
) -> None:
    """Its own endpoint's callers are told, its callers' server is free, its memory is gone."""
    twin = agent.twin(150, 150)
    k, client = twin.number, worker()
    _, _, quota = agent.own(k)
    theirs = agent.make("endpoint_create", quota, worker=k)
    assert agent.call("space_watch", twin.space, notification, 1) == 0
    # The client is given a way to call the twin's own endpoint.
    there = give(agent, endpoint, twin)
    weak = agent.make("cap_copy", theirs, R["ENDPOINT_CALL"] | R["GRANT"], 0, 0, worker=k)
    assert agent.ipc("send", there, f"caps={weak}", worker=k) is None
    mine = done(agent.ipc("receive", endpoint, "size=0")).caps[0]
    assert agent.ipc("call", mine, worker=client) is None
    assert agent.ipc("call", there, worker=k) is None
    assert agent.call("space_end", twin.space) == 0
    assert agent.sys("poll", notification).second == 1
    assert done(agent.poll(client)).value == E["DEAD"]
    assert done(agent.ipc("receive", endpoint, "timeout=0")).value == E["AGAIN"]
    assert done(agent.ipc("call", mine)).value == E["DEAD"]
    assert agent.call("cap_delete", mine) == 0
    agent.drop(k)


def test_deleting_the_last_capability_ends_it(agent: Agent, notification: int) -> None:
    victim = Victim.build(agent, LOOP, slot=1, priority=50)
    victim.start()
    assert agent.call("space_watch", victim.space, notification, 2) == 0
    assert agent.call("cap_delete", victim.space) == 0
    assert agent.sys("poll", notification).second == 2
    assert victim.info().state == "dead"
    victim.drop()


def test_one_ends_its_own_space(agent: Agent, notification: int, page: Page) -> None:
    twin = agent.twin(150, 150)
    assert agent.call("space_watch", twin.space, notification, 2) == 0
    assert agent.start("space_end", 0, worker=twin.number) is None
    assert agent.sys("wait", notification, SOON).second == 2
    assert page.info(twin.thread).state == "dead"
    agent.drop(twin.number)


def test_one_revokes_what_it_stands_on(agent: Agent, notification: int) -> None:
    """The twin deletes the last capability for its own space, from within."""
    twin = agent.twin(150, 150)
    own_space, own_thread, _ = agent.own(twin.number)
    assert agent.call("space_watch", twin.space, notification, 2) == 0
    assert agent.call("cap_delete", twin.space) == 0
    assert agent.call("poll", notification) == E["AGAIN"], "it has its own"
    assert agent.call("cap_revoke", own_thread, worker=twin.number) == 0
    assert agent.start("cap_delete", own_space, worker=twin.number) is None
    assert agent.sys("wait", notification, SOON).second == 2
    agent.drop(twin.number)


def test_a_space_can_be_ended_with_many_threads(agent: Agent, notification: int) -> None:
    space = agent.make("space_create", agent.quota, 0)
    threads = [agent.make("thread_create", agent.quota, space, 50 << 8 | 50) for _ in range(40)]
    assert agent.call("space_watch", space, notification, 2) == 0
    assert agent.call("space_end", space) == 0
    assert agent.sys("poll", notification).second == 2
    for handle in [space, *threads]:
        assert agent.call("cap_delete", handle) == 0


def test_rights_over_spaces(agent: Agent, keep: Keep) -> None:
    space = keep(agent.make("space_create", agent.quota, 0))
    memory = keep(agent.make("memory_create", agent.quota, PAGE))
    calls: dict[str, tuple[str, tuple[int, ...]]] = {
        "SPACE_MAP": ("map", (memory, SPOT | READ, PAGE, 0)),
        "SPACE_CONTROL": ("space_end", ()),
    }
    for right, (name, arguments) in calls.items():
        weak = keep(agent.make("cap_copy", space, ALL & ~R[right], 0, 0))
        assert agent.call(name, weak, *arguments) == E["RIGHTS"]
    no_caps = keep(agent.make("cap_copy", space, ALL & ~R["SPACE_CAPS"], 0, 0))
    assert agent.call("cap_copy", memory, ALL, 0, no_caps) == E["RIGHTS"]
    assert agent.call("cap_move", memory, no_caps) == E["RIGHTS"]
    no_threads = keep(agent.make("cap_copy", space, ALL & ~R["SPACE_THREAD"], 0, 0))
    assert agent.call("thread_create", agent.quota, no_threads, 0) == E["RIGHTS"]
