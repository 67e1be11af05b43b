# SPDX-License-Identifier: MIT
"""What each core counts of its dealings with others, as kernel_info and the shell tell it."""

from __future__ import annotations

import pytest
from agent import READY, Agent
from agent_support import PAGE, READ, SPOT, WRITE

pytestmark = pytest.mark.machine(append="run=agent", ready=READY, cores=4)
MAIL, ARRIVED, FLUSHES, IDLE = 12, 13, 14, 15  # enum kernel_info_kind
LIVES, BYSTANDER = 1, 2


def figures(agent: Agent, core: int) -> tuple[int, ...]:
    return tuple(agent.make("kernel_info", kind, core) for kind in (MAIL, ARRIVED, FLUSHES, IDLE))


def test_a_core_counts_what_others_ask_of_it(agent: Agent) -> None:
    """A thread that comes, and a page that it has used and that goes."""
    before = {core: figures(agent, core) for core in (LIVES, BYSTANDER)}
    worker = agent.worker(150, 150, LIVES)
    memory = agent.make("memory_create", agent.quota, PAGE)
    assert agent.call("map", agent.space, memory, SPOT | READ | WRITE, PAGE, 0) == 0
    assert agent.poke(SPOT, 1, worker=worker)
    assert agent.call("unmap", agent.space, SPOT, PAGE) == 0
    after = {core: figures(agent, core) for core in (LIVES, BYSTANDER)}
    mail, arrived, flushes, idle = (
        new - old for new, old in zip(after[LIVES], before[LIVES], strict=True)
    )
    assert mail >= arrived >= 1
    assert flushes >= 1
    assert idle > 0
    assert after[BYSTANDER][1] == before[BYSTANDER][1]
    agent.call("cap_delete", memory)
    agent.drop(worker)
