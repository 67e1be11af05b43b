# SPDX-License-Identifier: MIT
"""Memory objects, mappings and accounts in the running guest, where the CPU is the judge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from abi import SLOT
from agent import (
    E_BADCAP,
    E_BUSY,
    E_DEAD,
    E_INVAL,
    E_NOMEM,
    E_OVERLAP,
    E_RIGHTS,
    READY,
    Agent,
)

from onestack.machine import Machine

pytestmark = pytest.mark.machine(append="run=agent", ready=READY, shared=True)

PAGE, LARGE = 0x1000, 0x200000
READ, WRITE, EXECUTE, UNCACHED, BIG = 1, 2, 4, 8, 16
ANY = 0x1FFFFFF
CAP_MEMORY = 6
RIGHT_READ, RIGHT_WRITE = 0x20000, 0x40000
BASE = 0x600000000000  # nobody else maps there


@pytest.fixture
def agent(machine: Machine) -> Agent:
    return Agent(machine)


@pytest.fixture
def balanced(agent: Agent) -> Iterator[Agent]:
    """What the test takes it gives back, to the byte."""
    before = agent.free()
    yield agent
    assert agent.free() == before


def mapped(agent: Agent, size: int, flags: int = READ | WRITE, at: int = BASE) -> int:
    memory = agent.make("memory_create", agent.quota, size)
    assert agent.call("map", agent.space, memory, at | flags, size, 0) == 0
    return memory


def test_memory_comes_zeroed_and_goes(balanced: Agent) -> None:
    agent = balanced
    memory = mapped(agent, 3 * PAGE)
    for page in range(3):
        assert agent.peek(BASE + page * PAGE + 8) == 0
        assert agent.poke(BASE + page * PAGE + 8, 0x1234 + page)
        assert agent.peek(BASE + page * PAGE + 8) == 0x1234 + page
    assert agent.peek(BASE - PAGE) is None
    assert agent.peek(BASE + 3 * PAGE) is None
    assert agent.call("unmap", agent.space, BASE + PAGE, PAGE) == 0
    assert agent.peek(BASE) == 0
    assert agent.peek(BASE + PAGE) is None
    assert agent.peek(BASE + 2 * PAGE + 8) == 0x1236
    # The object still has the page.
    assert agent.call("map", agent.space, memory, BASE + PAGE | READ, PAGE, PAGE) == 0
    assert agent.peek(BASE + PAGE + 8) == 0x1235
    assert not agent.poke(BASE + PAGE + 8, 1)
    assert agent.call("cap_delete", memory) == 0
    assert [agent.peek(BASE + page * PAGE) for page in range(3)] == [None] * 3


def test_used_memory_is_zeroed_before_it_is_used_again(balanced: Agent) -> None:
    agent = balanced
    for _ in range(3):
        memory = mapped(agent, 16 * PAGE)
        for page in range(16):
            assert agent.peek(BASE + page * PAGE + 0xFF8) == 0
            assert agent.poke(BASE + page * PAGE + 0xFF8, 0xDEADBEEF)
        assert agent.call("cap_delete", memory) == 0


def test_protection(balanced: Agent) -> None:
    agent = balanced
    memory = mapped(agent, 2 * PAGE)
    assert agent.poke(BASE, 0xC3)
    assert agent.call("protect", agent.space, BASE, PAGE, READ) == 0
    assert not agent.poke(BASE, 1)
    assert agent.peek(BASE) == 0xC3
    assert agent.poke(BASE + PAGE, 1)
    assert agent.call("protect", agent.space, BASE, PAGE, READ | WRITE) == 0
    assert agent.poke(BASE, 2)
    assert agent.call("protect", agent.space, BASE, PAGE, READ | WRITE | EXECUTE) == E_INVAL
    assert agent.call("protect", agent.space, BASE, PAGE, WRITE) == E_INVAL
    assert agent.call("protect", agent.space, BASE + 1, PAGE, READ) == E_INVAL
    assert agent.call("unmap", agent.space, BASE, 2 * PAGE) == 0
    # Through a capability that cannot write, nothing becomes writable.
    weak = agent.make("cap_copy", memory, RIGHT_READ, 0, 0)
    assert agent.call("map", agent.space, weak, BASE | READ | WRITE, PAGE, 0) == E_RIGHTS
    assert agent.call("map", agent.space, weak, BASE | READ, PAGE, 0) == 0
    assert agent.call("protect", agent.space, BASE, PAGE, READ | WRITE) == E_RIGHTS
    assert not agent.poke(BASE, 3)
    assert agent.call("map", agent.space, memory, BASE | READ, PAGE, 0) == E_OVERLAP
    for handle in (weak, memory):
        assert agent.call("cap_delete", handle) == 0


def test_large_pages(balanced: Agent) -> None:
    agent = balanced
    memory = mapped(agent, 3 * LARGE, READ | WRITE | BIG)
    small = agent.free()
    for spot in (0, LARGE - 8, LARGE, 2 * LARGE + 0x1F8, 3 * LARGE - 8):
        assert agent.peek(BASE + spot) == 0
        assert agent.poke(BASE + spot, spot + 1)
    assert agent.call("protect", agent.space, BASE + LARGE, PAGE, READ) == 0
    assert agent.free() == small - PAGE, "one of them is in small pages now"
    assert not agent.poke(BASE + LARGE, 0)
    assert agent.poke(BASE + LARGE + PAGE, 7)
    assert agent.call("unmap", agent.space, BASE + PAGE, LARGE - PAGE) == 0
    assert agent.peek(BASE) == 1
    assert agent.peek(BASE + LARGE - 8) is None
    assert agent.peek(BASE + LARGE) == LARGE + 1
    assert agent.peek(BASE + 3 * LARGE - 8) == 3 * LARGE - 7
    assert agent.call("unmap", agent.space, BASE, 3 * LARGE) == 0
    assert agent.peek(BASE + 2 * LARGE + 0x1F8) is None
    assert agent.call("cap_delete", memory) == 0


def test_revoke_unmaps_everywhere(agent: Agent) -> None:
    twin = agent.twin(150, 150)
    memory = mapped(agent, 2 * PAGE)
    theirs = agent.make("cap_copy", memory, ANY, 0, twin.space)
    own_space, _, _ = agent.own(twin.number)
    assert (
        agent.call("map", own_space, theirs, BASE | READ | WRITE, 2 * PAGE, 0, worker=twin.number)
        == 0
    )
    again = agent.make("cap_copy", theirs, RIGHT_READ, 0, 0, worker=twin.number)
    assert (
        agent.call("map", own_space, again, BASE + LARGE | READ, PAGE, PAGE, worker=twin.number)
        == 0
    )
    assert agent.poke(BASE + PAGE, 0x77)
    assert agent.peek(BASE + PAGE, twin.number) == 0x77
    assert agent.peek(BASE + LARGE, twin.number) == 0x77
    assert agent.call("cap_revoke", memory) == 0
    assert agent.peek(BASE + PAGE, twin.number) is None
    assert agent.peek(BASE + LARGE, twin.number) is None
    assert agent.peek(BASE + PAGE) == 0x77, "its own is not derived from it"
    assert agent.call("cap_info", theirs, worker=twin.number) == E_BADCAP
    assert agent.call("map", own_space, theirs, BASE | READ, PAGE, 0, worker=twin.number) < 0
    assert agent.call("cap_delete", memory) == 0
    agent.drop(twin.number)


def test_parts(balanced: Agent) -> None:
    agent = balanced
    memory = mapped(agent, 8 * PAGE)
    for page in range(8):
        assert agent.poke(BASE + page * PAGE, page)
    part = agent.make("range_slice", memory, 2 * PAGE, 3 * PAGE)
    assert agent.call("map", agent.space, part, BASE + LARGE | READ, 3 * PAGE, 0) == 0
    assert [agent.peek(BASE + LARGE + page * PAGE) for page in range(4)] == [2, 3, 4, None]
    assert agent.call("map", agent.space, part, BASE + 2 * LARGE | READ, PAGE, 3 * PAGE) == E_INVAL
    assert agent.call("range_slice", part, PAGE, 3 * PAGE) == E_INVAL
    inner = agent.make("range_slice", part, 2 * PAGE, PAGE)
    assert agent.call("map", agent.space, inner, BASE + 2 * LARGE | READ, PAGE, 0) == 0
    assert agent.peek(BASE + 2 * LARGE) == 4
    assert agent.call("cap_revoke", memory) == 0
    assert agent.peek(BASE + LARGE) is None
    assert agent.peek(BASE + 2 * LARGE) is None
    assert agent.peek(BASE + 7 * PAGE) == 7
    assert agent.call("cap_delete", memory) == 0


def device_memory(agent: Agent) -> int:
    """The agent's capability for it: found by what it can name."""
    for index in range(1, 32):
        handle = 1 << 32 | index * SLOT
        result = agent.sys("cap_info", handle)
        part = (
            agent.sys("range_slice", handle, 0xFEC00000, PAGE)
            if result.value == CAP_MEMORY
            else None
        )
        if part is not None and part.value == 0:
            assert agent.call("cap_delete", part.second) == 0
            return handle
    pytest.fail("the agent has no device memory")


def test_device_memory_is_not_ram_nor_the_kernels(agent: Agent) -> None:
    device = device_memory(agent)
    spot = BASE | READ | WRITE | UNCACHED
    for forbidden in (0x1000, 0x100000, 0x1000000, 0x8000000, 0xFEC00000, 0xFEE00000, 0xFEE01000):
        assert agent.call("map", agent.space, device, spot, PAGE, forbidden) == E_INVAL
    # The HPET: its capabilities register says 64 bits wide, and who made it.
    assert agent.call("map", agent.space, device, spot, PAGE, 0xFED00000) == 0
    value = agent.peek(BASE)
    assert value is not None
    assert value & 0xFFFF0000 == 0x80860000
    assert agent.call("unmap", agent.space, BASE, PAGE) == 0
    assert agent.call("map", agent.space, device, spot, 1 << 40, 0) == E_INVAL
    assert agent.call("memory_supply", device, 0, device, 0) < 0


def test_pager(balanced: Agent) -> None:
    agent = balanced
    endpoint = agent.make("endpoint_create", agent.quota)
    badged = agent.make("cap_copy", endpoint, ANY, 0x99, 0)
    paged = agent.make("memory_create", agent.quota, 1 << 30, badged)
    source = mapped(agent, PAGE, at=BASE + (1 << 31))
    assert agent.poke(BASE + (1 << 31) + 24, 0xFEED)
    assert agent.call("map", agent.space, paged, BASE | READ, 1 << 30, 0) == 0
    worker = agent.worker(150, 150)
    assert agent.start_peek(BASE + 5 * PAGE + 24, worker) is None, "waits for its page"
    message = agent.ipc("receive", endpoint, "timeout=0")
    assert message is not None
    assert message.second == 0x99
    assert agent.call("memory_supply", paged, 5 * PAGE, source, 0) == 0
    assert agent.ipc("reply", 0) is not None
    done = agent.poll(worker)
    assert done is not None
    assert done.second == 0xFEED
    assert agent.call("memory_supply", paged, 5 * PAGE, source, 0) == E_BUSY
    assert agent.call("memory_supply", source, 0, source, 0) == E_INVAL
    agent.drop(worker)
    for handle in (paged, badged, endpoint, source):
        assert agent.call("cap_delete", handle) == 0


def test_an_account_s_end_is_its_own(balanced: Agent) -> None:
    agent = balanced
    before = agent.free()
    child = agent.make("quota_split", agent.quota, 64 * PAGE)
    assert before - agent.free() >= 64 * PAGE
    assert agent.free(child) == 64 * PAGE
    assert agent.call("memory_create", child, 64 * PAGE) == E_NOMEM, "the object itself takes some"
    assert agent.free(child) == 64 * PAGE, "nothing half-made stays"
    made = agent.make("memory_create", child, 60 * PAGE)
    assert agent.call("memory_create", child, 4 * PAGE) == E_NOMEM
    endpoint = agent.make("endpoint_create", child)
    others = agent.make("memory_create", agent.quota, 64 * PAGE)
    assert agent.call("quota_split", child, 1 << 60) == E_NOMEM
    assert agent.call("quota_split", child, (1 << 64) - 1) == E_NOMEM
    # The account outlives its capability until what it paid for has gone.
    assert agent.call("cap_delete", child) == 0
    for handle in (others, made):
        assert agent.call("cap_delete", handle) == 0
    assert before - agent.free() >= 64 * PAGE
    assert agent.call("cap_delete", endpoint) == 0


def test_accounts_are_split_only_so_deep(balanced: Agent) -> None:
    """Each may end with the one below it, and a chain of all of them must not take long."""
    agent = balanced
    chain = [agent.quota]
    room = 60 * PAGE
    while (result := agent.sys("quota_split", chain[-1], room)).value == 0:
        chain.append(result.second)
        room -= PAGE * 3 // 2
    assert result.value == E_INVAL
    assert len(chain) >= 30
    for handle in chain[1:]:
        assert agent.call("cap_delete", handle) == 0


def test_use_of_what_has_gone(balanced: Agent) -> None:
    agent = balanced
    space = agent.make("space_create", agent.quota, 0)
    memory = agent.make("memory_create", agent.quota, PAGE)
    assert agent.call("map", space, memory, BASE | READ, PAGE, 0) == 0
    assert agent.call("space_end", space) == 0
    assert agent.call("map", space, memory, BASE | READ, PAGE, 0) == E_DEAD
    assert agent.call("unmap", space, BASE, PAGE) == E_DEAD
    assert agent.call("map", memory, memory, BASE | READ, PAGE, 0) == E_BADCAP
    assert agent.call("map", agent.space, space, BASE | READ, PAGE, 0) == E_BADCAP
    assert agent.call("map", agent.space, 0, BASE | READ, PAGE, 0) == E_BADCAP
    for handle in (space, memory):
        assert agent.call("cap_delete", handle) == 0


def test_many_rounds_leave_nothing(balanced: Agent) -> None:
    agent = balanced
    for size in (PAGE, 3 * PAGE, LARGE, LARGE + PAGE) * 15:
        memory = mapped(agent, size, READ | WRITE | BIG)
        assert agent.poke(BASE + size - 8, 1)
        space = agent.make("space_create", agent.quota, 0)
        assert agent.call("map", space, memory, BASE | READ, size, 0) == 0
        assert agent.call("cap_delete", memory) == 0
        assert agent.call("cap_delete", space) == 0
