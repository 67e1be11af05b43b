# SPDX-License-Identifier: MIT
"""Pagers that take pages back, in the running guest: the CPU says whether a page is really gone.

The walk itself, cut short at every step, is compared with a model in tests/unit/test_mapping.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from agent import READY, Agent
from agent_support import (
    ALL,
    INFO_FAULT,
    PAGE,
    READ,
    SPOT,
    WRITE,
    E,
    R,
    comes_about,
    done,
    give,
    has_failed,
    told,
)
from agent_victim import STORE, UD2, Victim, load_number

pytestmark = pytest.mark.machine(append="run=agent", ready=READY, shared=True)

Keep = Callable[[int], int]
Worker = Callable[..., int]
PAGED = SPOT + (1 << 31)
SIZE = 1 << 30


@dataclass
class Pager:
    """An object whose pager the agent is, mapped at PAGED, and a page to copy from and to."""

    agent: Agent
    endpoint: int
    paged: int
    other: int

    def supply(self, page: int, value: int) -> int:
        assert self.agent.poke(SPOT, value)
        return self.agent.call("memory_supply", self.paged, page * PAGE, self.other, 0)

    def reclaim(self, page: int, target: int = 0) -> int:
        return self.agent.call("memory_reclaim", self.paged, page * PAGE, target, 0)

    def missed(self) -> int:
        """The page that somebody misses; the answer is still to be given."""
        fault = done(self.agent.ipc("receive", self.endpoint, "timeout=0"))
        assert fault.value & INFO_FAULT
        return fault.words[0] // PAGE

    def resume(self) -> None:
        assert done(self.agent.ipc("reply", 0)).value == 0


@pytest.fixture
def pager(agent: Agent, endpoint: int, request: pytest.FixtureRequest) -> Iterator[Pager]:
    paged = agent.make("memory_create", agent.quota, SIZE, endpoint)
    other = agent.make("memory_create", agent.quota, PAGE)
    assert agent.call("map", agent.space, other, SPOT | READ | WRITE, PAGE, 0) == 0
    assert agent.call("map", agent.space, paged, PAGED | READ | WRITE, SIZE, 0) == 0
    yield Pager(agent, endpoint, paged, other)
    if not has_failed(request):
        for handle in (paged, other):
            assert agent.call("cap_delete", handle) == 0


def test_content_comes_back_and_the_next_touch_misses(
    agent: Agent, pager: Pager, worker: Worker
) -> None:
    k = worker()
    assert pager.supply(5, 0x1111) == 0
    assert agent.peek(PAGED + 5 * PAGE) == 0x1111
    assert agent.poke(PAGED + 5 * PAGE + 8, 0x2222)
    before = agent.free()
    assert pager.reclaim(5, pager.other) == 0
    assert agent.free() >= before + PAGE, "the frame, and page tables that became empty"
    assert [agent.peek(SPOT), agent.peek(SPOT + 8)] == [0x1111, 0x2222]
    assert agent.start_peek(PAGED + 5 * PAGE + 8, k) is None
    assert pager.missed() == 5
    assert agent.call("memory_supply", pager.paged, 5 * PAGE, pager.other, 0) == 0
    pager.resume()
    assert done(agent.poll(k)).second == 0x2222


def test_from_every_space_and_every_mapping(agent: Agent, pager: Pager, worker: Worker) -> None:
    twin, k = agent.twin(150, 150), worker()
    theirs = give(agent, pager.paged, twin, ALL & ~R["MEMORY_SUPPLY"])
    space = agent.own(twin.number)[0]
    places = [PAGED + (1 << 40), PAGED + (1 << 41) + 3 * PAGE]
    for place in places:
        arguments = (space, theirs, place | READ | WRITE, 4 * PAGE, 2 * PAGE)
        assert agent.call("map", *arguments, worker=twin.number) == 0
    assert pager.supply(3, 7) == 0
    assert pager.supply(4, 8) == 0
    for place in places:
        assert agent.peek(place + PAGE, worker=twin.number) == 7
        assert agent.peek(place + 2 * PAGE, worker=twin.number) == 8
    assert agent.peek(PAGED + 3 * PAGE) == 7
    assert agent.poke(places[0] + PAGE, 9, worker=twin.number)
    assert pager.reclaim(3, pager.other) == 0
    assert agent.peek(SPOT) == 9
    assert agent.peek(places[1] + 2 * PAGE, worker=twin.number) == 8, "its neighbour stays"
    for address, reader in (
        (PAGED + 3 * PAGE, k),
        (places[0] + PAGE, twin.number),
        (places[1] + PAGE, twin.number),
    ):
        assert agent.start_peek(address, reader) is None
        assert pager.missed() == 3
        assert pager.supply(3, 10) in (0, E["BUSY"])
        pager.resume()
        assert done(agent.poll(reader)).second == 10
        assert pager.reclaim(3) == 0
    agent.drop(twin.number)


def test_in_the_middle_of_a_long_copy(agent: Agent, pager: Pager, worker: Worker) -> None:
    """What the copy has passed it has; what it comes to it waits for."""
    sender, receiver = worker(), worker()
    meeting = agent.make("endpoint_create", agent.quota)
    for page in (0, 1, 3):
        assert pager.supply(page, page + 1) == 0
    assert agent.ipc("receive", meeting, f"size={4 * PAGE}", worker=receiver) is None
    options = (f"bytes={4 * PAGE}", f"from={PAGED}")
    assert agent.ipc("send", meeting, *options, worker=sender) is None
    assert pager.missed() == 2
    for page in (0, 3):
        assert pager.reclaim(page) == 0
    assert pager.supply(2, 3) == 0
    pager.resume()
    assert agent.poll(sender) is None
    assert pager.missed() == 3
    assert pager.supply(3, 4) == 0
    pager.resume()
    assert done(agent.poll(sender)).value == 0
    got, expected = done(agent.poll(receiver)), 2166136261
    for page in (1, 2, 3, 4):
        for byte in page.to_bytes(8, "little").ljust(PAGE, b"\0"):
            expected = (expected ^ byte) * 16777619 & 0xFFFFFFFF
    assert (got.value, got.sum) == (4 * PAGE, expected)
    assert agent.call("cap_delete", meeting) == 0


def test_a_pager_with_room_for_four(agent: Agent, pager: Pager, worker: Worker) -> None:
    """It keeps what it evicts in a store of its own, and a reader of all finds all."""
    k, store = worker(), {page: 100 + page for page in range(8)}
    resident: list[int] = []
    for round_number in range(2):
        for page in range(8):
            result = agent.start_peek(PAGED + page * PAGE, k)
            while result is None:
                missed = pager.missed()
                if len(resident) == 4:
                    oldest = resident.pop(0)
                    assert pager.reclaim(oldest, pager.other) == 0
                    store[oldest] = agent.peek(SPOT) or 0
                assert pager.supply(missed, store[missed]) == 0
                resident.append(missed)
                pager.resume()
                result = agent.poll(k)
            assert result.second == 100 + page + 100 * round_number
            assert agent.poke(PAGED + page * PAGE, 200 + page)


def test_who_may(agent: Agent, keep: Keep, pager: Pager) -> None:
    assert pager.supply(0, 1) == 0
    weak = keep(agent.make("cap_copy", pager.paged, ALL & ~R["MEMORY_SUPPLY"], 0, 0))
    assert agent.call("memory_reclaim", weak, 0, 0, 0) == E["RIGHTS"]
    read = keep(agent.make("cap_copy", pager.other, ALL & ~R["MEMORY_WRITE"], 0, 0))
    assert agent.call("memory_reclaim", pager.paged, 0, read, 0) == E["RIGHTS"]
    plain = keep(agent.make("memory_create", agent.quota, PAGE))
    for bad in ((plain, 0, 0, 0), (pager.paged, 1, 0, 0), (pager.paged, SIZE, 0, 0)):
        assert agent.call("memory_reclaim", *bad) == E["INVAL"]
    for bad in ((pager.paged, PAGE, 0, 0), (pager.paged, 0, pager.other, PAGE)):
        assert agent.call("memory_reclaim", *bad) == E["INVAL"]
    assert agent.peek(PAGED) == 1, "nothing is lost"
    assert pager.reclaim(0) == 0
    assert pager.reclaim(0) == E["INVAL"]


def _missed_again(agent: Agent, pager: Pager) -> int:
    """The next one's page, be it of another core and on its way."""
    faults = []

    def comes() -> bool:
        faults.append(done(agent.ipc("receive", pager.endpoint, "timeout=0")))
        return faults[-1].value != E["AGAIN"]

    assert comes_about(agent, comes)
    assert faults[-1].value & INFO_FAULT
    return faults[-1].words[0] // PAGE


@pytest.mark.cores(1, 2)
def test_a_call_whose_page_was_not_answered_is_made_again(
    agent: Agent, pager: Pager, worker: Worker
) -> None:
    k = worker()
    assert agent.start("thread_info", 0, PAGED + 7 * PAGE, worker=k) is None
    assert pager.missed() == 7
    assert _missed_again(agent, pager) == 7  # the receive that finds it has let it down
    assert pager.supply(7, 0) == 0
    pager.resume()
    assert told(agent, k).value == 0


@pytest.mark.cores(1, 2)
def test_an_access_whose_page_was_not_answered_finds_its_registers(
    agent: Agent, pager: Pager
) -> None:
    victim = Victim.build(agent, load_number(0, 0x1234) + STORE + UD2, 1)
    assert agent.call("map", victim.space, pager.paged, PAGED | READ | WRITE, SIZE, 0) == 0
    victim.start(PAGED + 9 * PAGE)
    assert pager.missed() == 9
    assert _missed_again(agent, pager) == 9
    assert victim.registers()["rax"] == 0x1234
    victim.drop()
