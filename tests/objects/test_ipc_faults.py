# SPDX-License-Identifier: MIT
"""Long messages whose buffers are not what they should be, or cease to be so on the way."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from agent import READY, Agent
from agent_support import (
    INFO_FAULT,
    PAGE,
    READ,
    SPOT,
    UNCACHED,
    WRITE,
    E,
    T,
    done,
    find_grant,
    give,
    label,
)

pytestmark = pytest.mark.machine(append="run=agent", ready=READY, shared=True)

Keep = Callable[[int], int]
Worker = Callable[..., int]
KERNEL = 0xFFFFFFFF81000000
DIRECT_MAP = 0xFFFF800000100000
END = 0x00007FFFFFFFF000


def mapped(agent: Agent, keep: Keep, at: int, size: int, flags: int = READ | WRITE) -> int:
    memory = keep(agent.make("memory_create", agent.quota, size))
    assert agent.call("map", agent.space, memory, at | flags, size, 0) == 0
    return memory


BAD = {
    "absent": SPOT + (1 << 30),
    "kernel": KERNEL,
    "direct map": DIRECT_MAP,
    "null": 0,
    "end of user space": END - 50,
    "non-canonical": 1 << 47,
    "wraps": (1 << 64) - 50,
    "half absent": SPOT + PAGE - 50,
}


@pytest.mark.parametrize("where", BAD)
def test_bad_buffers(agent: Agent, keep: Keep, endpoint: int, worker: Worker, where: str) -> None:
    """Both learn of it, whoever's buffer it is and whoever came last."""
    k = worker()
    mapped(agent, keep, SPOT, PAGE)
    for side, first in itertools.product(("from", "to"), ("sender", "receiver")):
        send = ["bytes=100", f"from={BAD[where]}"] if side == "from" else ["bytes=100"]
        receive = ["size=100", f"to={BAD[where]}"] if side == "to" else ["size=100"]
        if where == "null" and side == "from":
            continue  # the agent takes 0 for its own buffer
        if first == "sender":
            assert agent.ipc("send", endpoint, *send, worker=k) is None
            assert done(agent.ipc("receive", endpoint, *receive)).value == E["IPCFAULT"]
        else:
            assert agent.ipc("receive", endpoint, *receive, worker=k) is None
            assert done(agent.ipc("send", endpoint, *send)).value == E["IPCFAULT"]
        assert done(agent.poll(k)).value == E["IPCFAULT"]


def test_read_only_can_be_sent_but_not_received_into(
    agent: Agent, keep: Keep, endpoint: int, worker: Worker
) -> None:
    k = worker()
    mapped(agent, keep, SPOT, PAGE, READ)
    assert agent.ipc("send", endpoint, "bytes=64", f"from={SPOT}", worker=k) is None
    assert done(agent.ipc("receive", endpoint, "size=64")).value == 64
    assert agent.ipc("send", endpoint, "bytes=64", worker=k) is None
    got = done(agent.ipc("receive", endpoint, "size=64", f"to={SPOT}"))
    assert got.value == E["IPCFAULT"]
    assert done(agent.poll(k)).value == E["IPCFAULT"]


def test_a_device_is_no_buffer(agent: Agent, endpoint: int, worker: Worker) -> None:
    """It has no place in the kernel's direct map: an error, and not a fault of the kernel's."""
    hpet = 0xFED00000
    k, device = worker(), find_grant(agent, T["MEMORY"], hpet, PAGE)
    spot = SPOT + (1 << 32)
    assert agent.call("map", agent.space, device, spot | READ | WRITE | UNCACHED, PAGE, hpet) == 0
    for options in (("bytes=8", f"from={spot}"), ("bytes=8",)):
        assert agent.ipc("send", endpoint, *options, worker=k) is None
        to = ["size=8"] if len(options) > 1 else ["size=8", f"to={spot}"]
        assert done(agent.ipc("receive", endpoint, *to)).value == E["IPCFAULT"]
        assert done(agent.poll(k)).value == E["IPCFAULT"]
    assert agent.call("unmap", agent.space, spot, PAGE) == 0


# --- a pager behind a buffer: the copy stops in the middle ---


class Stopped:
    """A message of four pages whose third page the receiver's pager has yet to bring."""

    SIZE = 4 * PAGE

    def __init__(self, agent: Agent, keep: Keep, endpoint: int, worker: Worker) -> None:
        self.agent, self.endpoint = agent, endpoint
        self.pager = keep(agent.make("endpoint_create", agent.quota))
        self.source = mapped(agent, keep, SPOT, self.SIZE)
        for page in range(4):
            assert agent.poke(SPOT + page * PAGE, page + 1)
        self.paged = keep(agent.make("memory_create", agent.quota, self.SIZE, self.pager))
        self.there = SPOT + (1 << 31)
        assert (
            agent.call("map", agent.space, self.paged, self.there | READ | WRITE, self.SIZE, 0) == 0
        )
        for page in (0, 1, 3):
            assert self.supply(page) == 0
        self.sender, self.receiver = worker(), worker()
        to = (f"size={self.SIZE}", f"to={self.there}")
        assert agent.ipc("receive", endpoint, *to, worker=self.receiver) is None
        call = (f"bytes={self.SIZE}", f"from={SPOT}")
        assert agent.ipc("call", endpoint, *call, worker=self.sender) is None
        assert agent.poll(self.receiver) is None
        fault = done(agent.ipc("receive", self.pager, "timeout=0"))
        assert fault.value & INFO_FAULT
        assert (label(fault.value), fault.words[:2]) == (1, (2 * PAGE, 1))

    def supply(self, page: int) -> int:
        return self.agent.call("memory_supply", self.paged, page * PAGE, self.source, page * PAGE)

    def resume(self) -> None:
        assert self.supply(2) == 0
        assert done(self.agent.ipc("reply", 0)).value == 0

    def check_end(self, sender: int, receiver: int) -> None:
        assert done(self.agent.poll(self.receiver)).value == receiver
        assert done(self.agent.poll(self.sender)).value == sender


@pytest.fixture
def stopped(agent: Agent, keep: Keep, endpoint: int, worker: Worker) -> Stopped:
    return Stopped(agent, keep, endpoint, worker)


def test_a_page_brought_in_the_middle(agent: Agent, stopped: Stopped) -> None:
    stopped.resume()
    got = done(agent.poll(stopped.receiver))
    assert got.value == stopped.SIZE
    assert [agent.peek(stopped.there + page * PAGE) for page in range(4)] == [1, 2, 3, 4]
    assert done(agent.ipc("reply", 0, worker=stopped.receiver)).value == 0
    assert done(agent.poll(stopped.sender)).value == 0


def test_the_source_taken_away_in_the_middle(agent: Agent, stopped: Stopped) -> None:
    assert agent.call("unmap", agent.space, SPOT + 3 * PAGE, PAGE) == 0
    stopped.resume()
    stopped.check_end(E["IPCFAULT"], E["IPCFAULT"])


def test_the_target_made_read_only_in_the_middle(agent: Agent, stopped: Stopped) -> None:
    assert agent.call("protect", agent.space, stopped.there + 3 * PAGE, PAGE, READ) == 0
    stopped.resume()
    stopped.check_end(E["IPCFAULT"], E["IPCFAULT"])


def test_the_pager_dies_in_the_middle(agent: Agent, stopped: Stopped) -> None:
    assert agent.call("cap_revoke", stopped.pager) == 0
    assert agent.call("cap_delete", stopped.pager) == 0
    # Its last message is still with the agent, who drops it.
    assert done(agent.ipc("receive", stopped.endpoint, "timeout=0")).value == E["AGAIN"]
    stopped.check_end(E["IPCFAULT"], E["IPCFAULT"])


def test_the_memory_goes_in_the_middle(agent: Agent, stopped: Stopped) -> None:
    assert agent.call("cap_delete", stopped.paged) == 0
    assert done(agent.ipc("reply", 0)).value == 0
    stopped.check_end(E["IPCFAULT"], E["IPCFAULT"])


LEAVING = [f"{who} {how}" for who in ("driver", "other") for how in ("cancel", "end", "space")]


@pytest.mark.parametrize("leaving", LEAVING)
def test_one_side_leaves_in_the_middle(
    agent: Agent, keep: Keep, endpoint: int, worker: Worker, leaving: str
) -> None:
    """The sender drives the copy, for it came last. The survivor is told, and nothing stays."""
    who, how = leaving.split()
    pager = keep(agent.make("endpoint_create", agent.quota))
    paged = keep(agent.make("memory_create", agent.quota, PAGE, pager))
    twin = agent.twin(150, 150)
    k, survivor = twin.number, worker()
    there = give(agent, endpoint, twin)
    theirs = give(agent, paged, twin)
    own_space = agent.own(k)[0]
    spot = SPOT + (1 << 31)
    if who == "driver":  # reads what it sends from the pager
        assert agent.call("map", own_space, theirs, spot | READ, PAGE, 0, worker=k) == 0
        assert agent.ipc("receive", endpoint, "size=99", worker=survivor) is None
        assert agent.ipc("call", there, "bytes=99", f"from={spot}", worker=k) is None
    else:  # receives into the pager's
        assert agent.call("map", own_space, theirs, spot | READ | WRITE, PAGE, 0, worker=k) == 0
        assert agent.ipc("receive", there, "size=99", f"to={spot}", worker=k) is None
        assert agent.ipc("call", endpoint, "bytes=99", worker=survivor) is None
    assert done(agent.ipc("receive", pager, "timeout=0")).value & INFO_FAULT
    if how == "cancel" and who == "driver":
        # It waits for its page, and that wait is not its own to end.
        assert agent.call("thread_cancel", twin.thread) == E["BUSY"]
        assert agent.call("thread_end", twin.thread) == 0
    elif how == "cancel":
        assert agent.call("thread_cancel", twin.thread) == 0
        assert done(agent.poll(k)).value == E["CANCELED"]
    elif how == "end":
        assert agent.call("thread_end", twin.thread) == 0
    else:
        assert agent.call("space_end", twin.space) == 0
    done(agent.ipc("reply", 0))
    assert done(agent.poll(survivor)).value == E["CANCELED"]
    agent.drop(k)
