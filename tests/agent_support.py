# SPDX-License-Identifier: MIT
"""What the tests of objects share: numbers of the ABI and small helpers around the agent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import pytest
from abi import ERRORS, RIGHTS, SLOT, TYPES
from agent import PATIENCE, Agent, Result, Twin

from onestack.deadline import Deadline

E = ERRORS
R = RIGHTS
T = TYPES
ALL = RIGHTS["ALL"]

INFO_FAULT, INFO_NOTIFIED = 1 << 24, 1 << 25
WORKER = 150  # priority of workers: above the agent
FOREVER = (1 << 64) - 1
MS = 1_000_000
SOON = 20_000 * MS  # for what must come: who needs so long has lost it
PAGE = 0x1000

# enum thread_state, kernel/obj/thread.h
STATES = ["inactive", "ready", "sending", "receiving", "reply", "waiting", "sleeping", "copying"]
STATES += ["faulted", "faulting", "moving", "dead"]


FAILED = pytest.StashKey[bool]()


def has_failed(request: pytest.FixtureRequest) -> bool:
    """Whether the test of this fixture has: its guest is not asked for anything more."""
    return bool(request.node.stash.get(FAILED, False))


def label(info: int) -> int:
    """The label of a received descriptor."""
    return info >> 32 & 0x7FFFFFFF


def done(result: Result | None) -> Result:
    """What a call came to that must not be blocked any more."""
    assert result is not None, "still blocked"
    return result


def comes_about(agent: Agent, condition: Callable[[], bool]) -> bool:
    """Whether something does, be it on another core and when the host gives that one time."""
    deadline = Deadline(PATIENCE)
    while not condition():
        if deadline.expired:
            return False
        agent.start("sleep", MS)
    return True


def wait_done(agent: Agent, worker: int) -> Result:
    """The same, for one that other things than the agent's calls end, such as time."""
    assert comes_about(agent, lambda: agent.poll(worker) is not None), f"{worker} is still blocked"
    return done(agent.poll(worker))


Attempt = TypeVar("Attempt")


def in_time(attempt: Callable[[int], Attempt | None], limit: int = 20 * MS) -> Attempt:
    """What an attempt comes to before its limit has passed; None: too late, and twice as much next.

    The guest's time is the host's, and nobody knows how much of it passes between two lines.
    """
    while (result := attempt(limit)) is None:
        limit *= 2
        assert limit < SOON, "it is not the time"
    return result


def told(agent: Agent, worker: int) -> Result:
    """What a call has come to by now; on several cores, when their mail has been read."""
    return wait_done(agent, worker) if agent.cores > 1 else done(agent.poll(worker))


def give(agent: Agent, handle: int, twin: Twin, rights: int = ALL, badge: int = 0) -> int:
    """A copy of one of the agent's capabilities in a twin's table: its handle there."""
    return agent.make("cap_copy", handle, rights, badge, twin.space)


SPOT = 0x600000000000  # addresses that no program of ours uses
READ, WRITE, EXECUTE, UNCACHED = 1, 2, 4, 8


@dataclass(frozen=True)
class Info:
    """struct thread_info."""

    state: str
    priority: int
    base: int
    ceiling: int
    core: int
    cpu_time: int


class Page:
    """A page mapped in the agent's space, for structures that system calls read and write."""

    def __init__(self, agent: Agent, at: int = SPOT) -> None:
        self.agent, self.at = agent, at
        self.memory = agent.make("memory_create", agent.quota, PAGE)
        assert agent.call("map", agent.space, self.memory, at | READ | WRITE, PAGE, 0) == 0

    def read(self, count: int, offset: int = 0) -> list[int]:
        """Return so many words."""
        words = [self.agent.peek(self.at + offset + 8 * i) for i in range(count)]
        return [word for word in words if word is not None]

    def write(self, words: Iterable[int], offset: int = 0) -> None:
        """Write words."""
        for i, word in enumerate(words):
            assert self.agent.poke(self.at + offset + 8 * i, word)

    def info(self, thread: int) -> Info:
        """What thread_info says of a thread (0: the agent's)."""
        assert self.agent.call("thread_info", thread, self.at) == 0
        first, cpu_time = self.read(2)
        rest = first.to_bytes(8, "little")
        return Info(STATES[rest[0]], rest[4], rest[5], rest[6], rest[7], cpu_time)


def spawn(agent: Agent, priority: int, ceiling: int | None = None) -> tuple[int, int]:
    """A worker of the agent's space: its number, and a capability for its thread."""
    number = agent.worker(priority, priority if ceiling is None else ceiling)
    return number, agent.threads[number]


def find_grant(agent: Agent, kind: int, first: int, count: int) -> int:
    """What init gave the agent: a capability of a type that names a whole range."""
    for index in range(1, 40):
        handle = 1 << 32 | index * SLOT
        if agent.sys("cap_info", handle).value == kind:
            part = agent.sys("range_slice", handle, first, count)
            if part.value == 0:
                assert agent.call("cap_delete", part.second) == 0
                return handle
    raise AssertionError("the agent has none")
