# SPDX-License-Identifier: MIT
"""Priority inheritance along chains of calls, and that it is undone in every way a call can end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from agent import READY, Agent, Twin
from agent_support import (
    FOREVER,
    MS,
    PAGE,
    READ,
    SPOT,
    WRITE,
    E,
    Page,
    done,
    give,
    has_failed,
    in_time,
    spawn,
    told,
    wait_done,
)

from onestack.machine import Machine

pytestmark = [
    pytest.mark.machine(append="run=agent", ready=READY, shared=True),
    pytest.mark.cores(1, 2, 4),
]

Keep = Callable[[int], int]


@dataclass
class Player:
    number: int
    thread: int


@dataclass
class Stage:
    """Clients and servers at their priorities, and how to look at these."""

    agent: Agent
    page: Page
    players: list[Player]
    saved: list[int] = field(default_factory=list)

    def save(self, server: Player) -> int:
        """The server's caller, as a reply capability."""
        self.saved.append(self.agent.make("reply_save", self.agent.quota, worker=server.number))
        return self.saved[-1]

    def add(self, priority: int) -> Player:
        self.players.append(Player(*spawn(self.agent, priority)))
        return self.players[-1]

    def priority(self, player: Player) -> int:
        return self.page.info(player.thread).priority

    def serve(self, server: Player, endpoint: int, client: Player, *options: str) -> None:
        """The client's call is with the server."""
        assert self.agent.ipc("call", endpoint, *options, worker=client.number) is None
        assert done(self.agent.ipc("receive", endpoint, worker=server.number)).value >= 0


@pytest.fixture
def stage(agent: Agent, request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage = Stage(agent, Page(agent), [])
    yield stage
    if not has_failed(request):
        for player in stage.players:
            agent.drop(player.number)
        for handle in [*stage.saved, stage.page.memory]:
            agent.call("cap_delete", handle)


def test_a_server_works_at_its_client_s_priority(stage: Stage, endpoint: int) -> None:
    client, server = stage.add(170), stage.add(140)
    stage.serve(server, endpoint, client)
    assert stage.priority(server) == 170
    assert stage.page.info(server.thread).base == 140
    assert done(stage.agent.ipc("reply", 0, worker=server.number)).value == 0
    assert stage.priority(server) == 140
    assert done(stage.agent.poll(client.number)).value == 0


def test_not_below_its_own(stage: Stage, endpoint: int) -> None:
    client, server = stage.add(140), stage.add(170)
    stage.serve(server, endpoint, client)
    assert stage.priority(server) == 170


def chain(stage: Stage, endpoints: list[int], priorities: list[int]) -> list[Player]:
    """The first one calls the second, which calls the third ..."""
    players = [stage.add(priority) for priority in priorities]
    for client, server, endpoint in zip(players, players[1:], endpoints, strict=False):
        stage.serve(server, endpoint, client)
    return players


@pytest.fixture
def endpoints(agent: Agent, keep: Keep) -> list[int]:
    return [keep(agent.make("endpoint_create", agent.quota)) for _ in range(4)]


def test_through_nested_servers(stage: Stage, endpoints: list[int]) -> None:
    players = chain(stage, endpoints, [170, 150, 160, 140])
    assert [stage.priority(each) for each in players] == [170] * 4
    for server, left in ((3, [170, 170, 170, 140]), (2, [170, 170, 160, 140])):
        assert done(stage.agent.ipc("reply", 0, worker=players[server].number)).value == 0
        assert [stage.priority(each) for each in players] == left


def test_a_chain_that_grows_at_its_head(stage: Stage, endpoints: list[int]) -> None:
    """The high one comes when the rest of the chain is waiting already."""
    middle, last, high = stage.add(150), stage.add(140), stage.add(170)
    stage.serve(middle, endpoints[0], stage.add(145))
    stage.save(middle)
    stage.serve(last, endpoints[1], middle)
    assert stage.priority(last) == 150
    assert stage.agent.call("thread_set_priority", middle.thread, 165) == 0
    assert stage.priority(last) == 165
    assert stage.agent.call("thread_set_priority", middle.thread, 130) == 0
    assert [stage.priority(each) for each in (middle, last)] == [145, 145]
    assert stage.agent.call("thread_set_priority", stage.players[3].thread, 169) == 0
    assert [stage.priority(each) for each in (middle, last, high)] == [169, 169, 170]


def inherited(
    stage: Stage, endpoints: list[int], *options: str
) -> tuple[Twin, Player, Player] | None:
    """A client's priority goes through its server to that one's; None: its time was up before."""
    agent = stage.agent
    server, last = stage.add(140), stage.add(130)
    twin = agent.twin(170, 170)
    there = give(agent, endpoints[0], twin)
    called = agent.ipc("call", there, *options, worker=twin.number)
    received = agent.ipc("receive", endpoints[0], "timeout=0", worker=server.number)
    if called is None and done(received).value >= 0:
        stage.serve(last, endpoints[1], server)
        priorities = [stage.priority(each) for each in (server, last)]
        if agent.poll(twin.number) is None:
            assert priorities == [170, 170]
            return twin, server, last
    assert options, "it has no timeout"
    for number in (twin.number, server.number, last.number):
        agent.drop(number)
    del stage.players[-2:]
    return None


@pytest.mark.parametrize("end", ["reply", "cancel", "timeout", "death", "drop"])
def test_undone(stage: Stage, endpoints: list[int], end: str) -> None:
    agent, timeout = stage.agent, 50 * MS
    if end == "timeout":  # time goes on while all is prepared, and who knows how much of it
        while (players := inherited(stage, endpoints, f"timeout={timeout}")) is None:
            timeout *= 2
    else:
        players = inherited(stage, endpoints)
    assert players
    twin, server, last = players
    if end == "reply":
        assert done(agent.ipc("reply", 0, worker=last.number)).value == 0
        assert done(agent.ipc("reply", 0, worker=server.number)).value == 0
    elif end == "cancel":
        assert agent.call("thread_cancel", twin.thread) == 0
    elif end == "timeout":
        agent.start("sleep", timeout)
        assert wait_done(agent, twin.number).value == E["TIMEOUT"]
    elif end == "death":
        assert agent.call("thread_end", twin.thread) == 0
    else:
        assert agent.call("space_end", twin.space) == 0
    lasts = 130 if end == "reply" else 140
    assert [stage.priority(each) for each in (server, last)] == [140, lasts]
    agent.drop(twin.number)


def test_the_server_s_death_in_the_middle(stage: Stage, endpoints: list[int]) -> None:
    agent = stage.agent
    client, last = stage.add(170), stage.add(130)
    twin = agent.twin(140, 140)
    mine, next_one = (give(agent, endpoint, twin) for endpoint in endpoints[:2])
    assert agent.ipc("call", endpoints[0], worker=client.number) is None
    assert done(agent.ipc("receive", mine, worker=twin.number)).value >= 0
    assert agent.ipc("call", next_one, worker=twin.number) is None
    assert done(agent.ipc("receive", endpoints[1], worker=last.number)).value >= 0
    assert stage.priority(last) == 170
    assert agent.call("thread_end", twin.thread) == 0
    assert done(agent.poll(client.number)).value == E["DEAD"]
    assert stage.priority(last) == 130
    agent.drop(twin.number)


def test_saved_callers_count_all(stage: Stage, endpoint: int) -> None:
    agent = stage.agent
    server = stage.add(130)
    clients = [stage.add(priority) for priority in (150, 170, 160)]
    saved = []
    for client in clients:
        stage.serve(server, endpoint, client)
        saved.append(stage.save(server))
    assert stage.priority(server) == 170
    # Whoever gives the answer, it is the saver that inherited.
    for number, left in ((1, 160), (0, 160), (2, 130)):
        assert done(agent.ipc("reply", saved[number])).value == 0
        assert stage.priority(server) == left


def test_a_saved_caller_s_new_priority(stage: Stage, endpoint: int) -> None:
    agent = stage.agent
    server, low, high = stage.add(130), stage.add(140), stage.add(150)
    for client in (low, high):
        stage.serve(server, endpoint, client)
        stage.save(server)
    assert agent.call("thread_set_priority", low.thread, 175) == 0
    assert stage.priority(server) == 175
    assert agent.call("thread_set_priority", low.thread, 131) == 0
    assert stage.priority(server) == 150
    assert agent.call("thread_cancel", high.thread) == 0
    assert stage.priority(server) == 131


def test_a_waiting_sender_s_new_priority(stage: Stage, endpoint: int) -> None:
    agent = stage.agent
    first, second = stage.add(150), stage.add(140)
    for word, player in enumerate((first, second)):
        assert agent.ipc("send", endpoint, f"w={word}", worker=player.number) is None
    assert agent.call("thread_set_priority", second.thread, 160) == 0
    assert done(agent.ipc("receive", endpoint)).words[0] == 1
    assert done(agent.ipc("receive", endpoint)).words[0] == 0


def test_ceilings(stage: Stage) -> None:
    agent = stage.agent
    player = stage.add(150)
    own = stage.page.info(0)
    assert agent.call("thread_set_priority", player.thread, own.ceiling) == 0
    assert agent.call("thread_set_priority", player.thread, own.ceiling + 1) == E["PRIO"]
    assert agent.call("thread_set_priority", player.thread, 256) == E["INVAL"]
    for value, expected in (
        (own.ceiling + 1 << 8, E["PRIO"]),
        (140 << 8 | 141, E["INVAL"]),
        (1 << 16, E["INVAL"]),
    ):
        assert agent.call("thread_create", agent.quota, agent.space, value) == expected
    # A worker's own ceiling is what it was given, whatever its priority.
    assert agent.call("thread_set_priority", player.thread, 151, worker=player.number) == E["PRIO"]
    assert agent.call("thread_set_priority", player.thread, 100, worker=player.number) == 0


@pytest.fixture
def roomy(machine: Machine) -> None:
    """The agent's table of capabilities has its size before the account is looked at (ADR 120)."""
    agent = Agent(machine)
    for number in [agent.worker(150, 150) for _ in range(14)]:
        agent.drop(number)


def test_a_long_chain_inherits_in_steps(
    roomy: None,  # first
    agent: Agent,
    stage: Stage,
    keep: Keep,
) -> None:
    """Longer than what one step goes (INHERIT_STEPS of inherit.c)."""
    del roomy
    length = 12
    endpoints = [keep(agent.make("endpoint_create", agent.quota)) for _ in range(length - 1)]
    players = [stage.add(145) for _ in range(length)]
    for endpoint, client, server in zip(endpoints, players, players[1:], strict=False):
        stage.serve(server, endpoint, client)
    for wanted in (170, 150, 168):
        assert agent.call("thread_set_priority", players[0].thread, wanted) == 0
        assert [stage.priority(each) for each in players] == [wanted] * length
    for player in players:
        agent.drop(player.number)
    stage.players.clear()


@pytest.mark.parametrize("end", ["page", "cancel", "timeout", "no page"])
@pytest.mark.parametrize("driver", ["sender", "receiver"])
def test_who_drives_a_long_copy_inherits_from_the_other(
    *, agent: Agent, stage: Stage, keep: Keep, endpoint: int, driver: str, end: str
) -> None:
    """Else a thread in the middle could keep the high one waiting for ever; the pager too."""
    pager_endpoint = keep(agent.make("endpoint_create", agent.quota))
    paged = agent.make("memory_create", agent.quota, PAGE, pager_endpoint)
    source = keep(agent.make("memory_create", agent.quota, PAGE))
    spot = SPOT + (1 << 31)
    assert agent.call("map", agent.space, paged, spot | READ | WRITE, PAGE, 0) == 0
    low, pager = stage.add(140), stage.add(145)
    twin = agent.twin(170, 170)
    there = give(agent, endpoint, twin)
    assert agent.ipc("receive", pager_endpoint, worker=pager.number) is None
    drive, wait = ("send", "receive") if driver == "sender" else ("receive", "send")
    size = {"send": "bytes=99", "receive": "size=99"}
    options = (size[drive], f"{'from' if drive == 'send' else 'to'}={spot}")

    def begun(limit: int) -> bool | None:
        """Whether the page is asked for, or the high one's time was up before they met."""
        agent.ipc(wait, there, size[wait], f"timeout={limit}", worker=twin.number)
        assert agent.ipc(drive, endpoint, *options, worker=low.number) is None
        if (asked := agent.poll(pager.number)) is not None:
            return asked.value >= 0
        assert wait_done(agent, twin.number).value == E["TIMEOUT"]
        agent.call("thread_cancel", low.thread)
        wait_done(agent, low.number)
        return None

    assert in_time(begun) if end == "timeout" else begun(FOREVER)
    if end != "timeout":
        assert [stage.priority(each) for each in (low, pager)] == [170, 170]
    if end == "page":
        assert agent.call("memory_supply", paged, 0, source, 0) == 0
    elif end == "cancel":
        assert agent.call("thread_set_priority", twin.thread, 160) == 0
        assert [stage.priority(each) for each in (low, pager)] == [160, 160]
        assert agent.call("thread_cancel", twin.thread) == 0
    elif end == "timeout":
        assert wait_done(agent, twin.number).value == E["TIMEOUT"]
    else:
        assert agent.call("cap_delete", paged) == 0
    done(agent.ipc("reply", 0, worker=pager.number))
    told(agent, low.number)
    assert [stage.priority(each) for each in (low, pager)] == [140, 145]
    if end != "no page":
        assert agent.call("cap_delete", paged) == 0
    agent.drop(twin.number)
