# SPDX-License-Identifier: MIT
"""What races are made of and how one is declared. They stand in races_*.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from agent import Agent, Result, Twin
from agent_support import ALL, PAGE, Page
from agent_victim import CODE, DATA, Victim
from scene import CORE_A, CORE_B, But, Job, Race, Scene

RACES: dict[str, Race] = {}
FAMILIES: dict[str, list[str]] = {}  # the same by module
WORDS = "w=1,2,3,4,5,6"
A_FIRST, B_FIRST = "a then b", "b then a"
PATIENCE = 40.0  # seconds
CEILING = 180  # of all workers, as of the agent: what a race gives is not refused


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
        self.workers.append(self.agent.worker(priority, CEILING, core))
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

    def receive(self, worker: int, endpoint: int) -> Result:
        """What is sent there, whenever: the sender may still be on its way."""
        return self.agent.ipc("receive", endpoint, worker=worker) or self.come(worker)

    def come(self, worker: int) -> Result:
        """What a call has come to, when it has: how long that takes is the host's affair."""
        deadline = time.monotonic() + PATIENCE
        while (result := self.agent.poll(worker)) is None:
            assert time.monotonic() < deadline, f"worker {worker} is still blocked"
        return result

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

    def scene(
        self, a: Job, b: Job, judge: Callable[[], Mapping[str, object]], c: Job | None = None
    ) -> Scene:
        def judge_and_strike() -> Mapping[str, object]:
            return {**judge(), "given back": self.strike()}

        return Scene(a, b, judge_and_strike, c)

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
    *also: But, why: str = "", both: bool = True, answers: bool = False, timed: str = ""
) -> Callable[[Callable[[Stage], Scene]], Callable[[Stage], Scene]]:
    """Declare a race; with `both` also the one in which b is the frozen one."""

    def declare(setup: Callable[[Stage], Scene]) -> Callable[[Stage], Scene]:
        name = setup.__name__.replace("_", "-")
        RACES[name] = Race(name, lambda agent: setup(Stage(agent)), also, why, answers, timed)
        FAMILIES.setdefault(setup.__module__, []).append(name)
        if both:
            FAMILIES[setup.__module__].append(f"{name}-turned")
            RACES[f"{name}-turned"] = Race(
                f"{name}-turned",
                lambda agent: turned(setup(turned_stage(agent))),
                tuple(turned_exception(one) for one in also),
                why,
                answers,
                {"a": "b", "b": "a"}.get(timed, ""),
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
    return Scene(scene.b, scene.a, scene.judge, scene.c)
