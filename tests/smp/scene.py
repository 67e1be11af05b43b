# SPDX-License-Identifier: MIT
"""What the interleaving sweep plays, and what came of it (interleaving.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent import Agent
from boundaries import Boundary

from onestack.elf import Images

AGENT_CORE, CORE_A, CORE_B, CORE_C = range(4)

Observed = Mapping[str, object]
Outcome = tuple[tuple[str, object], ...]
Judge = Callable[[], Observed]


@dataclass(frozen=True)
class Job:
    """One side: a worker and what it is to do; `ipc` has options, else the call has arguments."""

    worker: int
    name: str
    arguments: tuple[int | str, ...] = ()
    ipc: bool = False


@dataclass(frozen=True)
class Scene:
    """What a race's setup has made: the two jobs, and a look at the outcome, through the agent.

    `c`, if there is one, begins on core C when B can go no further, and after both in each order.
    """

    a: Job
    b: Job
    judge: Judge
    c: Job | None = None

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All that there are."""
        return (self.a, self.b) if self.c is None else (self.a, self.b, self.c)


@dataclass(frozen=True)
class But:
    """An outcome that is right: that of an order, but for some of it."""

    order: str
    changes: Mapping[str, object]

    def of(self, orders: Mapping[str, Outcome]) -> Outcome:
        """All of it."""
        return tuple(sorted({**dict(orders[self.order]), **self.changes}.items()))


@dataclass(frozen=True)
class Race:
    """Two operations. `also` names outcomes that neither order gives and that are right, and why.

    Keys of an outcome: `a` and `b`, each its result or None if it is blocked, and what the judge
    adds. `answers`: when nobody can go on without the frozen core it takes its interrupts where it
    stands, so that who has pages forgotten everywhere gets to its end meanwhile. `timed`: the call
    of this side, `a` or `b`, waits for something that takes time, and comes to its end by that.
    """

    name: str
    setup: Callable[[Agent], Scene]
    also: tuple[But, ...] = ()
    why: str = ""
    answers: bool = False
    timed: str = ""


@dataclass(frozen=True)
class Wrong:
    """What no order gives, and what came of the same round each time it was played again.

    A mistake of the kernel's shows again where the core is frozen again; what does not is chance's.
    """

    at: Boundary
    seen: str
    again: tuple[str, ...] = ()  # what was wrong then; "" if nothing


@dataclass
class Report:
    """What a sweep of a race came to. `late`: how many boundaries needed more than one round."""

    race: str
    orders: dict[str, Outcome]
    boundaries: int = 0
    outcomes: dict[Boundary, Outcome] = field(default_factory=dict)
    failures: list[Wrong] = field(default_factory=list)
    late: int = 0
    missed: list[Boundary] = field(default_factory=list)

    def told(self, images: Images) -> str:
        """The failures, for a person."""
        lines = [f"{self.race}: {self.boundaries} boundaries, {len(self.failures)} failures"]
        lines += [f"  {name}: {dict(outcome)}" for name, outcome in self.orders.items()]
        for one in self.failures:
            place = f"{images.name(one.at.address)} (visit {one.at.visit})"
            wrong = sum(map(bool, one.again))
            lines.append(f"  {place}: {one.seen}; again {wrong} of {len(one.again)} times")
        return "\n".join(lines)
