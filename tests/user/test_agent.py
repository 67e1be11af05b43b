# SPDX-License-Identifier: MIT
"""The agent itself: what it says of messages, workers, memory; what it refuses."""

from __future__ import annotations

import pytest
from agent_client import FOR_EVER, RIGHT_ALL, Agent, AgentError, Error, fnv

from onestack.machine import Machine


@pytest.fixture(scope="module")
def agents() -> dict[Machine, Agent]:
    return {}


@pytest.fixture
def agent(machine: Machine, agents: dict[Machine, Agent]) -> Agent:
    if machine not in agents:
        agents[machine] = Agent(machine.console)
    return agents[machine]


pytestmark = pytest.mark.machine(append="run=agent", shared=True)


def test_a_call_between_spaces(agent: Agent) -> None:
    endpoint = agent.create("endpoint_create", agent.quota)
    server, client = agent.twin(), agent.twin()
    here = agent.give(server, endpoint)
    there = agent.give(client, endpoint, RIGHT_ALL, 77)
    assert agent.ipc(server, "receive", here, size=4096) is None
    assert (
        agent.ipc(client, "call", there, words=[1, 2, 3], label=5, data=100, fill=3, size=64)
        is None
    )
    got = agent.poll(server)
    assert got is not None
    assert (got.label, got.bytes, got.second, got.words[:3]) == (5, 100, 77, (1, 2, 3))
    assert got.sum == fnv(bytes(range(3, 103)))
    done = agent.ipc(server, "reply", 0, words=[9], data=50, fill=1)
    assert done is not None
    assert done.value == 0
    answer = agent.poll(client)
    assert answer is not None
    assert (answer.bytes, answer.words[0], answer.sum) == (50, 9, fnv(bytes(range(1, 51))))
    agent.drop(server)
    agent.drop(client)


def test_capabilities_travel(agent: Agent) -> None:
    endpoint = agent.create("endpoint_create", agent.quota)
    parcel = agent.create("notification_create", agent.quota)
    other = agent.twin()
    there = agent.give(other, endpoint)
    assert agent.ipc(other, "receive", there, size=16) is None
    sent = agent.ipc(agent.me, "send", endpoint, caps=[parcel])
    assert sent is not None
    assert sent.value == 0
    got = agent.poll(other)
    assert got is not None
    info = agent.sys(other, "cap_info", got.caps[0])
    assert info is not None
    assert info.value == 4  # OBJ_NOTIFICATION
    agent.drop(other)


def test_a_wait_ends_by_timeout_and_by_cancel(agent: Agent) -> None:
    bell = agent.create("notification_create", agent.quota)
    waiter = agent.worker()
    assert agent.sys(waiter, "wait", bell, FOR_EVER) is None
    assert agent.call("thread_cancel", waiter.thread).value == 0
    cancelled = agent.poll(waiter)
    assert cancelled is not None
    assert cancelled.value == Error.CANCELED
    assert agent.sys(waiter, "wait", bell, 2_000_000_000) is None
    with pytest.raises(AgentError, match="it is blocked"):
        agent.sys(waiter, "null")
    while (ended := agent.poll(waiter)) is None:
        pass
    assert ended.value == Error.TIMEOUT
    agent.drop(waiter)


def test_memory_of_another_space(agent: Agent) -> None:
    memory = agent.create("memory_create", agent.quota, 8192, 0)
    twin = agent.twin()
    address = 0x2000_0000_0000
    assert agent.peek(twin, address) is None
    assert agent.call("map", twin.space, memory, address | 3, 8192, 0).value == 0
    assert agent.call("map", agent.space, memory, address | 1, 8192, 0).value == 0
    assert agent.poke(twin, address + 4096, 42)
    assert agent.peek(agent.me, address + 4096) == 42
    assert not agent.poke(agent.me, address, 1)
    assert agent.call("cap_delete", memory).value == 0
    assert agent.peek(twin, address) is None
    agent.drop(twin)


def test_workers_leave_nothing_behind(agent: Agent) -> None:
    agent.drop(agent.twin())
    agent.drop(agent.worker())
    before = agent.quota_free(agent.quota)
    for _ in range(20):
        agent.drop(agent.twin())
        agent.drop(agent.worker())
    assert agent.quota_free(agent.quota) == before


@pytest.mark.parametrize(
    "line",
    [
        "",
        "sys",
        "sys 0",
        "sys 0 nonsense",
        "sys 9 null",
        "sys 0 null x",
        "sys 0 call 1",
        "ipc 0 null",
        "ipc 0 call",
        "ipc 0 call 1 nonsense=2",
        "ipc 0 call 1 bytes=65537",
        "drop 0",
        "peek 0",
        "poke 0 1",
        "worker",
        "nonsense 0",
        "ipc 0 send 1 w=1,2,3,4,5,6,7",
    ],
)
def test_nonsense_is_refused(agent: Agent, line: str) -> None:
    with pytest.raises(AgentError):
        agent.ask(line)
