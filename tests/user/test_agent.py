# SPDX-License-Identifier: MIT
"""The agent itself: what it says of messages, workers, memory; what it refuses."""

from __future__ import annotations

import pytest
from agent import (
    E_CANCELED,
    E_TIMEOUT,
    FOR_EVER,
    READY,
    RIGHT_ALL,
    Agent,
    AgentError,
    Result,
    fnv,
)

from onestack.machine import Machine

pytestmark = pytest.mark.machine(append="run=agent", ready=READY, shared=True)
CAP_NOTIFICATION = 4


@pytest.fixture
def agent(machine: Machine) -> Agent:
    return Agent(machine)


def came(result: Result | None) -> Result:
    assert result is not None
    return result


def test_a_call_between_spaces(agent: Agent) -> None:
    endpoint = agent.make("endpoint_create", agent.quota)
    server, client = agent.twin(150, 150), agent.twin(150, 150)
    here = agent.make("cap_copy", endpoint, RIGHT_ALL, 0, server.space)
    there = agent.make("cap_copy", endpoint, RIGHT_ALL, 77, client.space)
    assert agent.ipc("receive", here, "size=4096", worker=server.number) is None
    asked = ("w=1,2,3", "label=5", "bytes=100", "fill=3", "size=64")
    assert agent.ipc("call", there, *asked, worker=client.number) is None
    got = came(agent.poll(server.number))
    assert (got.label, got.bytes, got.second, got.words[:3]) == (5, 100, 77, (1, 2, 3))
    assert got.sum == fnv(bytes(range(3, 103)))
    reply = ("w=9", "bytes=50", "fill=1")
    assert came(agent.ipc("reply", 0, *reply, worker=server.number)).value == 0
    answer = came(agent.poll(client.number))
    assert (answer.bytes, answer.words[0], answer.sum) == (50, 9, fnv(bytes(range(1, 51))))
    agent.drop(server.number)
    agent.drop(client.number)


def test_capabilities_travel(agent: Agent) -> None:
    endpoint = agent.make("endpoint_create", agent.quota)
    parcel = agent.make("notification_create", agent.quota)
    other = agent.twin(150, 150)
    there = agent.make("cap_copy", endpoint, RIGHT_ALL, 0, other.space)
    assert agent.ipc("receive", there, "size=16", worker=other.number) is None
    assert came(agent.ipc("send", endpoint, f"caps={parcel}")).value == 0
    handle = came(agent.poll(other.number)).caps[0]
    assert agent.call("cap_info", handle, worker=other.number) == CAP_NOTIFICATION
    agent.drop(other.number)


def test_a_wait_ends_by_timeout_and_by_cancel(agent: Agent) -> None:
    bell = agent.make("notification_create", agent.quota)
    waiter = agent.worker(150, 150)
    thread = agent.threads[waiter]
    assert agent.start("wait", bell, FOR_EVER, worker=waiter) is None
    assert agent.call("thread_cancel", thread) == 0
    assert came(agent.poll(waiter)).value == E_CANCELED
    assert agent.start("wait", bell, 2_000_000_000, worker=waiter) is None
    with pytest.raises(AgentError, match="it is blocked"):
        agent.sys("null", worker=waiter)
    while (ended := agent.poll(waiter)) is None:
        pass
    assert ended.value == E_TIMEOUT
    agent.drop(waiter)


def test_memory_of_another_space(agent: Agent) -> None:
    memory = agent.make("memory_create", agent.quota, 8192, 0)
    twin = agent.twin(150, 150)
    address = 0x2000_0000_0000
    assert agent.peek(address, worker=twin.number) is None
    assert agent.call("map", twin.space, memory, address | 3, 8192, 0) == 0
    assert agent.call("map", agent.space, memory, address | 1, 8192, 0) == 0
    assert agent.poke(address + 4096, 42, worker=twin.number)
    assert agent.peek(address + 4096) == 42
    assert not agent.poke(address, 1)
    assert agent.call("cap_delete", memory) == 0
    assert agent.peek(address, worker=twin.number) is None
    agent.drop(twin.number)


def test_workers_leave_nothing_behind(agent: Agent) -> None:
    def come_and_go() -> None:
        agent.drop(agent.twin(150, 150).number)
        agent.drop(agent.worker(150, 150))

    come_and_go()
    before = agent.free()
    for _ in range(20):
        come_and_go()
    assert agent.free() == before


NONSENSE = [
    *("", "sys", "sys 0", "sys 0 nonsense", "sys 9 null", "sys 0 null x", "sys 0 call 1"),
    *("ipc 0 null", "ipc 0 call", "ipc 0 call 1 nonsense=2", "ipc 0 call 1 bytes=65537"),
    *("drop 0", "peek 0", "poke 0 1", "worker", "nonsense 0", "ipc 0 send 1 w=1,2,3,4,5,6,7"),
]


@pytest.mark.parametrize("line", NONSENSE)
def test_nonsense_is_refused(agent: Agent, line: str) -> None:
    with pytest.raises(AgentError):
        agent.ask(line)
