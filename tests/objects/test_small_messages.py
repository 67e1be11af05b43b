# SPDX-License-Identifier: MIT
"""Messages of a few words beyond the six: the fast ways' own copy, and where it hands over.

The kernel reads and writes these at the users' addresses (kernel/fastbytes.c). Every size has to
come out as by the general way, which takes over above 120 bytes and where a page or a length is not
right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from agent import READY, Agent, fnv
from agent_support import INFO_FAULT, PAGE, READ, SPOT, WRITE, E, done, give

pytestmark = pytest.mark.machine(append="run=agent", ready=READY, shared=True)

Keep = Callable[[int], int]
Worker = Callable[..., int]
SIZES = (0, 1, 7, 8, 9, 16, 32, 63, 64, 72, 112, 119, 120, 121, 127, 128, 136, 200)
THERE = SPOT + (1 << 31)
BAD = {
    "absent": SPOT + (1 << 30),
    "kernel": 0xFFFFFFFF81000000,
    "end of user space": 0x00007FFFFFFFF000 - 8,
    "non-canonical": 1 << 47,
    "far from canonical": 1 << 62,
    "wraps": (1 << 64) - 8,
    "half absent": SPOT + PAGE - 8,
}


def pattern(size: int, fill: int) -> int:
    """The hash that the agent reports of `size` bytes."""
    return fnv(bytes((fill + i) % 256 for i in range(size))) if size else 0


class Pair:
    """A server that waits with room for `size` bytes, and a client."""

    def __init__(self, agent: Agent, endpoint: int, server: int, client: int, ours: int) -> None:
        self.agent, self.endpoint, self.server, self.client = agent, endpoint, server, client
        self.ours = ours  # the server's handle of the endpoint

    def receive(self, *options: str) -> None:
        assert self.agent.ipc("receive", self.ours, *options, worker=self.server) is None

    def call(self, *options: str) -> None:
        assert self.agent.ipc("call", self.endpoint, *options, worker=self.client) is None

    def reply(self, *options: str) -> None:
        assert self.agent.ipc("reply_receive", self.ours, *options, worker=self.server) is None


@pytest.fixture(params=["one space", "two spaces"])
def pair(
    request: pytest.FixtureRequest, agent: Agent, endpoint: int, worker: Worker
) -> Iterator[Pair]:
    client = worker()
    if request.param == "one space":
        yield Pair(agent, endpoint, worker(), client, endpoint)
        return
    twin = agent.twin(150, 150)
    yield Pair(agent, endpoint, twin.number, client, give(agent, endpoint, twin))
    agent.drop(twin.number)


def test_every_size_both_ways(agent: Agent, pair: Pair) -> None:
    pair.receive("size=256")
    for size in SIZES:
        back = SIZES[-1] - size
        pair.call(f"bytes={size}", f"fill={size}", "size=256", "label=3", "w=1,2,3,4,5,6")
        got = done(agent.poll(pair.server))
        assert (got.bytes, got.label, got.words) == (size, 3, (1, 2, 3, 4, 5, 6))
        assert got.sum == pattern(size, size)
        pair.reply(f"bytes={back}", f"fill={back}", "size=256", "label=5", "w=6,5,4,3,2,1")
        got = done(agent.poll(pair.client))
        assert (got.bytes, got.label, got.words) == (back, 5, (6, 5, 4, 3, 2, 1))
        assert got.sum == pattern(back, back)


def test_room_for_just_so_many(agent: Agent, pair: Pair) -> None:
    """One byte less is an error for both; and a server goes on."""
    for size, room in ((64, 64), (64, 63), (8, 7), (120, 119), (32, 0)):
        pair.receive(f"size={room}") if room else pair.receive()
        options = [f"bytes={size}", f"fill={size}"]
        fits = room >= size
        assert agent.ipc("call", pair.endpoint, *options, worker=pair.client) is None or not fits
        got, sent = done(agent.poll(pair.server)), agent.poll(pair.client)
        if not fits:
            assert (got.value, done(sent).value) == (E["IPCFAULT"], E["IPCFAULT"])
            continue
        assert (got.bytes, got.sum, sent) == (size, pattern(size, size), None)
        # The client gave no room at all.
        pair.reply("bytes=8")
        assert done(agent.poll(pair.client)).value == E["IPCFAULT"]
        pair.call("w=9")
        assert done(agent.poll(pair.server)).words[0] == 9
        assert done(agent.ipc("reply", 0, worker=pair.server)).value == 0
        assert done(agent.poll(pair.client)).value == 0


@pytest.mark.parametrize("where", BAD)
@pytest.mark.parametrize("side", ["from", "to"])
@pytest.mark.parametrize("way", ["call", "reply"])
def test_bad_addresses(
    *, agent: Agent, keep: Keep, pair: Pair, way: str, side: str, where: str
) -> None:
    """Both learn of a call's; a reply's is the client's alone, and the server receives again."""
    memory = keep(agent.make("memory_create", agent.quota, PAGE))
    assert agent.call("map", agent.space, memory, SPOT | READ | WRITE, PAGE, 0) == 0
    bad = {side: f"{side}={BAD[where]}"}
    send = ["bytes=64", *([bad["from"]] if side == "from" else [])]
    take = ["size=64", *([bad["to"]] if side == "to" else [])]
    if way == "call":
        pair.receive(*take)
        assert (
            done(agent.ipc("call", pair.endpoint, *send, worker=pair.client)).value
            == (E["IPCFAULT"])
        )
        assert done(agent.poll(pair.server)).value == E["IPCFAULT"]
        return
    pair.receive("size=64")
    pair.call("bytes=64", *take)
    assert done(agent.poll(pair.server)).bytes == 64
    pair.reply(*send, "size=64")
    assert done(agent.poll(pair.client)).value == E["IPCFAULT"]
    pair.call("bytes=8", "fill=7")  # it is there, as before
    assert done(agent.poll(pair.server)).sum == pattern(8, 7)


@pytest.mark.parametrize("side", ["from", "to"])
@pytest.mark.parametrize("way", ["call", "reply"])
def test_a_page_that_a_pager_brings(
    *, agent: Agent, keep: Keep, endpoint: int, worker: Worker, way: str, side: str
) -> None:
    pair = Pair(agent, endpoint, worker(), worker(), endpoint)
    pager = keep(agent.make("endpoint_create", agent.quota))
    source = keep(agent.make("memory_create", agent.quota, PAGE))
    paged = keep(agent.make("memory_create", agent.quota, PAGE, pager))
    assert agent.call("map", agent.space, source, SPOT | READ | WRITE, PAGE, 0) == 0
    assert agent.call("map", agent.space, paged, THERE | READ | WRITE, PAGE, 0) == 0
    assert agent.poke(SPOT + 8, 0x1234)
    send = ["bytes=24", *([f"from={THERE}"] if side == "from" else [])]
    take = ["size=24", *([f"to={THERE}"] if side == "to" else [])]
    pair.receive(*(take if way == "call" else ["size=24"]))
    pair.call(*(send if way == "call" else ["bytes=24", *take]))
    if way == "reply":
        assert done(agent.poll(pair.server)).bytes == 24
        pair.reply(*send, "size=24")
    fault = done(agent.ipc("receive", pager, "timeout=0"))
    assert fault.value & INFO_FAULT
    assert fault.words[:2] == (0, 1 if side == "to" else 0)
    assert agent.poll(pair.server if way == "call" else pair.client) is None
    assert agent.call("memory_supply", paged, 0, source, 0) == 0
    assert done(agent.ipc("reply", 0)).value == 0
    got = done(agent.poll(pair.server if way == "call" else pair.client))
    assert got.bytes == 24
    if side == "to":
        assert agent.peek(THERE) == 0x0706050403020100
    else:
        expected = bytes(8) + (0x1234).to_bytes(8, "little") + bytes(8)
        assert got.sum == fnv(expected)


def test_a_page_that_may_not_be_written(agent: Agent, keep: Keep, pair: Pair) -> None:
    memory = keep(agent.make("memory_create", agent.quota, PAGE))
    assert agent.call("map", agent.space, memory, SPOT | READ, PAGE, 0) == 0
    pair.receive("size=64")
    pair.call("bytes=64", "size=64", f"from={SPOT}", f"to={SPOT}")
    assert done(agent.poll(pair.server)).sum == fnv(bytes(64))
    pair.reply("bytes=64", "size=64")
    assert done(agent.poll(pair.client)).value == E["IPCFAULT"]
