# SPDX-License-Identifier: MIT
"""Every operation on a thread of another core, in each state that it can be in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from agent import READY, Agent
from agent_support import FOREVER, MS, PAGE, E, Page, comes_about, done, has_failed
from agent_victim import CODE, DATA, LOOP, UD2, Victim

pytestmark = [
    pytest.mark.machine(append="run=agent", ready=READY, shared=True),
    pytest.mark.cores(1, 2, 4, icount=(4,)),
]
KINFO_CORE_HERE = 6
BLOCKED = {
    "sending": ("send", E["CANCELED"]),
    "receiving": ("receive", E["CANCELED"]),
    "reply": ("call", E["CANCELED"]),
    "waiting": ("wait", E["CANCELED"]),
    "sleeping": ("sleep", E["CANCELED"]),
}


class Subject:
    """A thread in a state, and how it is brought out of it."""

    def __init__(self, agent: Agent, state: str) -> None:
        self.agent, self.state = agent, state
        self.page = Page(agent)
        self.endpoint = agent.make("endpoint_create", agent.quota)
        self.bell = agent.make("notification_create", agent.quota)
        self.worker = self.helper = 0
        self.victim: Victim | None = None
        if state in BLOCKED:
            self.worker = agent.worker(150, 150)
            self.thread = agent.threads[self.worker]
            self._block()
        else:
            self.victim = Victim.build(agent, UD2 if "fault" in state else LOOP, 1, priority=50)
            self.thread = self.victim.thread
            self._drive()

    def _block(self) -> None:
        name = BLOCKED[self.state][0]
        if name == "wait":
            assert self.agent.start("wait", self.bell, FOREVER, worker=self.worker) is None
        elif name == "sleep":
            assert self.agent.start("sleep", FOREVER, worker=self.worker) is None
        else:
            assert self.agent.ipc(name, self.endpoint, "w=5", worker=self.worker) is None
        if name == "call":
            assert done(self.agent.ipc("receive", self.endpoint, "timeout=0")).value >= 0

    def _drive(self) -> None:
        agent = self.agent
        if self.state == "inactive":
            return
        if "fault" in self.state:
            assert self.victim is not None
            assert agent.call("space_set_fault", self.victim.space, self.endpoint, 0) == 0
        assert agent.call("thread_start", self.thread, CODE, DATA + PAGE, DATA) == 0
        if "fault" in self.state:
            agent.start("sleep", 1000)  # it is below the agent
            assert comes_about(agent, lambda: self.info() == "faulting")
        if self.state == "faulted":
            assert done(agent.ipc("receive", self.endpoint, "timeout=0")).value >= 0
        elif self.state == "suspended":
            assert agent.call("thread_suspend", self.thread) == 0
        elif self.state == "dead":
            assert agent.call("thread_end", self.thread) == 0

    def info(self) -> str:
        return self.page.info(self.thread).state

    def wake(self) -> int | None:
        """End the wait as it is meant to end; the worker's result, or None."""
        agent, worker = self.agent, self.worker
        if self.state == "sending":
            assert done(agent.ipc("receive", self.endpoint, "timeout=0")).value >= 0
        elif self.state == "receiving":
            assert done(agent.ipc("send", self.endpoint, "timeout=0", "w=7")).value == 0
        elif self.state == "reply":
            assert done(agent.ipc("reply", 0, "w=7")).value == 0
        elif self.state == "waiting":
            assert agent.call("signal", self.bell, 1) == 0
        elif self.state == "sleeping":  # no other end
            assert agent.call("thread_cancel", self.thread) == 0
        agent.call("yield")
        result = agent.poll(worker)
        return None if result is None else result.value

    def drop(self) -> None:
        if self.worker:
            self.agent.drop(self.worker)
        if self.victim:
            self.victim.drop()
        for handle in (self.endpoint, self.bell, self.page.memory):
            self.agent.call("cap_delete", handle)


States = Callable[[str], Subject]
UNBLOCKED = ("inactive", "ready", "suspended", "faulting", "faulted", "dead")
ALL_STATES = (*BLOCKED, *UNBLOCKED)
SEEN = {"suspended": "ready"}  # thread_info's name for it


@pytest.fixture
def subject(agent: Agent, request: pytest.FixtureRequest) -> Iterator[States]:
    made: list[Subject] = []

    def make(state: str) -> Subject:
        made.append(Subject(agent, state))
        assert made[-1].info() == SEEN.get(state, state)
        return made[-1]

    yield make
    if not has_failed(request):
        for one in made:
            one.drop()


def normal(subject: Subject) -> int:
    return E["CANCELED"] if subject.state == "sleeping" else 0


@pytest.mark.parametrize("state", ALL_STATES)
def test_end(agent: Agent, subject: States, state: str) -> None:
    one = subject(state)
    assert agent.call("thread_end", one.thread) == (E["DEAD"] if state == "dead" else 0)
    assert one.info() == "dead"
    assert agent.call("thread_end", one.thread) == E["DEAD"]
    if state in ("sending", "faulting"):
        assert done(agent.ipc("receive", one.endpoint, "timeout=0")).value == E["AGAIN"]
    if state in ("reply", "faulted"):
        assert done(agent.ipc("reply", 0)).value == E["NOREPLY"]
    if state == "receiving":
        assert done(agent.ipc("send", one.endpoint, "timeout=0")).value == E["AGAIN"]


@pytest.mark.parametrize("state", ALL_STATES)
def test_cancel(agent: Agent, subject: States, state: str) -> None:
    one = subject(state)
    wanted = {"dead": E["DEAD"]}.get(state, 0 if state in BLOCKED else E["BUSY"])
    assert agent.call("thread_cancel", one.thread) == wanted
    if state in BLOCKED:
        agent.call("yield")
        assert done(agent.poll(one.worker)).value == E["CANCELED"]
    else:
        assert one.info() == SEEN.get(state, state)


@pytest.mark.parametrize("state", BLOCKED)
def test_suspend_and_resume(agent: Agent, subject: States, state: str) -> None:
    """It takes its message, and does not run with it before it may."""
    one = subject(state)
    assert agent.call("thread_suspend", one.thread) == 0
    assert one.wake() is None
    assert agent.call("thread_resume", one.thread) == 0
    agent.call("yield")
    assert done(agent.poll(one.worker)).value == normal(one)


@pytest.mark.parametrize("state", UNBLOCKED)
def test_suspend_and_resume_of_one_that_is_not_blocked(
    agent: Agent, subject: States, state: str
) -> None:
    one = subject(state)
    wanted = E["DEAD"] if state == "dead" else 0
    for _ in range(2):
        assert agent.call("thread_suspend", one.thread) == wanted
        assert one.info() == SEEN.get(state, state)
        assert agent.call("thread_resume", one.thread) == wanted
        assert one.info() == SEEN.get(state, state)


@pytest.mark.parametrize("state", ALL_STATES)
def test_priority(agent: Agent, subject: States, state: str) -> None:
    one = subject(state)
    before = one.page.info(one.thread).priority
    for priority in (30, before + 20, before):
        wanted = E["DEAD"] if state == "dead" else 0
        assert agent.call("thread_set_priority", one.thread, priority) == wanted
        if state != "dead":
            assert one.page.info(one.thread).priority == priority
    if state in BLOCKED:
        assert one.wake() == normal(one)


@pytest.mark.parametrize("state", ALL_STATES)
def test_migration(agent: Agent, subject: States, state: str) -> None:
    """A blocked one is where it shall be when it comes back; the agent's own core counts too."""
    one = subject(state)
    for core in range(agent.cores):
        wanted = E["DEAD"] if state == "dead" else 0
        assert agent.call("thread_set_affinity", one.thread, core) == wanted
        if state != "dead":
            assert one.page.info(one.thread).core == core
            assert one.info() == SEEN.get(state, state)
    if state in BLOCKED:
        assert one.wake() == normal(one)
        here = agent.make("kernel_info", KINFO_CORE_HERE, 0, worker=one.worker)
        assert here == agent.cores - 1


@pytest.mark.parametrize("state", ALL_STATES)
def test_bind_and_signal(agent: Agent, subject: States, state: str) -> None:
    """A bound notification's bits end a receive, and nothing else."""
    one = subject(state)
    bell = agent.make("notification_create", agent.quota)
    assert agent.call("thread_bind", one.thread, bell) == (E["DEAD"] if state == "dead" else 0)
    assert agent.call("signal", bell, 4) == 0
    agent.call("yield")
    if state == "receiving":
        assert done(agent.poll(one.worker)).words[0] == 4
        assert agent.call("poll", bell) == E["AGAIN"]
    else:
        assert one.info() == SEEN.get(state, state)
        assert agent.sys("poll", bell).second == 4
    assert agent.call("cap_delete", bell) == 0


@pytest.mark.parametrize("state", ALL_STATES)
def test_registers(agent: Agent, subject: States, state: str) -> None:
    """Nobody reads them from a thread that runs; from one that does not, they are what it has."""
    one = subject(state)
    if one.victim is None:
        return
    result = agent.call("thread_get_registers", one.thread, one.page.at)
    if state in ("faulting", "faulted"):
        assert result == 0
        assert one.victim.registers()["rip"] == CODE
    assert result in (0, E["BUSY"], E["DEAD"])


@pytest.mark.parametrize("how", ["cap_delete", "space_end"])
@pytest.mark.parametrize("state", UNBLOCKED)
def test_end_of_its_space(agent: Agent, subject: States, state: str, how: str) -> None:
    one = subject(state)
    assert one.victim is not None
    assert agent.call(how, one.victim.space) == 0
    assert one.info() == "dead"


def test_idle_cores_take_work(agent: Agent) -> None:
    """Threads of any core, all begun on the agent's, do not wait in a row for it."""
    if agent.cores == 1:
        return
    victims = [Victim.build(agent, LOOP, slot, priority=50) for slot in range(1, agent.cores + 1)]
    for victim in victims:
        assert agent.call("thread_set_affinity", victim.thread, 255) == 0
    for victim in victims:
        assert agent.call("thread_start", victim.thread, CODE, DATA + PAGE, DATA) == 0
    for _ in range(100):
        agent.start("sleep", 20_000_000)
        if all(victim.info().cpu_time > 0 for victim in victims):
            break
    before = [victim.info().cpu_time for victim in victims]
    start = agent.make("clock")
    for _ in range(100):  # together they get more time than one core has
        agent.start("sleep", 20_000_000)
        ran = sum(v.info().cpu_time for v in victims) - sum(before)
        if ran > (agent.make("clock") - start) * 5 // 4:
            break
    else:
        pytest.fail("all of them run on one core")
    for victim in victims:
        victim.drop()


@pytest.mark.cores(2, 4, icount=(4,))
def test_a_suspended_one_is_told_from_one_that_runs(agent: Agent, subject: States) -> None:
    """Also by a core that was asked before, while it had no time, and answers that now.

    An agent that takes the late answer for the next one is always one behind where the cores run
    in turns; with a host thread for each core it may catch up.
    """
    one = subject("ready")
    for _ in range(2):
        assert not agent.settle(one.thread), "it runs, and its core has no time for lower threads"
        assert agent.call("thread_suspend", one.thread) == 0
        agent.start("sleep", 20 * MS)  # the late answer comes before the next question
        assert agent.settle(one.thread), "its core has time for all"
        assert agent.call("thread_resume", one.thread) == 0
