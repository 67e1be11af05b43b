# SPDX-License-Identifier: MIT
"""Long messages whose buffers are not what they should be, or cease to be so on the way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from agent import READY, Agent, Twin
from agent_support import (
    FOREVER,
    INFO_FAULT,
    MS,
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
    in_time,
    label,
    told,
    wait_done,
)

pytestmark = [
    pytest.mark.machine(append="run=agent", ready=READY, shared=True),
    pytest.mark.cores(1, 2, 4),
]

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
        assert told(self.agent, self.receiver).value == receiver
        assert told(self.agent, self.sender).value == sender


@pytest.fixture
def stopped(agent: Agent, keep: Keep, endpoint: int, worker: Worker) -> Stopped:
    return Stopped(agent, keep, endpoint, worker)


def test_a_page_brought_in_the_middle(agent: Agent, stopped: Stopped) -> None:
    stopped.resume()
    got = told(agent, stopped.receiver)
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


SIDES = ("sender", "receiver")
SPOT_PAGED = SPOT + (1 << 31)


class Waiting:
    """A message of one page that waits for the page of one side. The second to come drives."""

    def __init__(
        self,
        agent: Agent,
        endpoint: int,
        players: dict[str, int],
        *,
        driver: str,
        whose: str,
        twin: Twin | None = None,
        how: str = "call",
    ) -> None:
        """`players`: the workers by side; `whose` page it is; `how` the sender sends."""
        self.agent, self.players, self.twin, self.how = agent, players, twin, how
        self.pager = agent.make("endpoint_create", agent.quota)
        self.paged = agent.make("memory_create", agent.quota, PAGE, self.pager)
        self.order = (SIDES[1 - SIDES.index(driver)], driver)
        self.whose = whose
        owner = self._twin_of(whose)
        space = owner.space if owner else agent.space
        assert agent.call("map", space, self.paged, SPOT_PAGED | READ | WRITE, PAGE, 0) == 0
        self.there = {}
        for side in SIDES:
            owner = self._twin_of(side)
            self.there[side] = give(agent, endpoint, owner) if owner else endpoint

    def _twin_of(self, side: str) -> Twin | None:
        return self.twin if self.twin and self.twin.number == self.players[side] else None

    def begin(self, late: Sequence[str] = (), limit: int = FOREVER) -> bool:
        """Have both come; `late` are the sides whose calls have a timeout, `limit`.

        False: it was over before the page was asked for. Nobody waits any more then.
        """
        for side in self.order:
            options = [f"timeout={limit}"] if side in late else []
            options += ["bytes=99"] if side == "sender" else ["size=99"]
            if side == self.whose:
                options.append(f"{'from' if side == 'sender' else 'to'}={SPOT_PAGED}")
            name = self.how if side == "sender" else "receive"
            result = self.agent.ipc(name, self.there[side], *options, worker=self.players[side])
            if result is not None and side not in late:  # the other's time was over in the copy
                assert late
                assert result.value == E["CANCELED"]
        fault = done(self.agent.ipc("receive", self.pager, "timeout=0"))
        if fault.value >= 0:
            assert fault.value & INFO_FAULT
            return True
        assert late, "nothing else ends it"
        self._give_up()
        return False

    def _give_up(self) -> None:
        for side, k in self.players.items():
            twin = self._twin_of(side)
            if self.agent.poll(k) is None:
                self.agent.call("thread_cancel", twin.thread if twin else self.agent.threads[k])
            wait_done(self.agent, k)

    def finish(self) -> None:
        for handle in (self.paged, self.pager):
            assert self.agent.call("cap_delete", handle) == 0


LEAVING = list(
    itertools.product(
        SIDES, ("driver", "other"), ("cancel", "timeout", "end", "space"), SIDES, ("send", "call")
    )
)


@pytest.mark.parametrize(("driver", "leaves", "why", "whose", "how"), LEAVING)
def test_one_side_leaves_in_the_middle(
    *,
    agent: Agent,
    endpoint: int,
    worker: Worker,
    driver: str,
    leaves: str,
    why: str,
    whose: str,
    how: str,
) -> None:
    """The survivor is told at once, whatever page was waited for, and nothing stays."""
    leaver = driver if leaves == "driver" else SIDES[1 - SIDES.index(driver)]
    stays = SIDES[1 - SIDES.index(leaver)]
    twin, survivor = agent.twin(150, 150), worker()
    players = {leaver: twin.number, stays: survivor}
    waiting = Waiting(agent, endpoint, players, driver=driver, whose=whose, twin=twin, how=how)
    if why == "timeout":
        in_time(lambda limit: waiting.begin([leaver], limit) or None)
    else:
        waiting.begin()
    if why == "cancel":
        assert agent.call("thread_cancel", twin.thread) == 0
        assert told(agent, twin.number).value == E["CANCELED"]
    elif why == "timeout":
        assert wait_done(agent, twin.number).value == E["TIMEOUT"]
    elif why == "end":
        assert agent.call("thread_end", twin.thread) == 0
    else:
        assert agent.call("space_end", twin.space) == 0
    assert told(agent, survivor).value == E["CANCELED"]
    assert done(agent.ipc("reply", 0)).value == E["NOREPLY"], "nobody wants the page any more"
    # What it does next is a call of its own.
    assert agent.ipc("send", endpoint, "w=7", worker=survivor) is None
    assert done(agent.ipc("receive", endpoint)).words[0] == 7
    assert done(agent.poll(survivor)).value == 0
    assert done(agent.ipc("reply", 0)).value == E["NOREPLY"]
    waiting.finish()
    agent.drop(twin.number)


@pytest.mark.parametrize("driver", SIDES)
def test_a_page_in_time(agent: Agent, endpoint: int, worker: Worker, driver: str) -> None:
    """The page comes before the timeouts, which then end no later call."""
    players = {side: worker() for side in SIDES}

    def met(whose: str, limit: int) -> int | None:
        """The limit, if both have met within it."""
        waiting = Waiting(agent, endpoint, players, driver=driver, whose=whose, how="send")
        source = agent.make("memory_create", agent.quota, PAGE)
        results = [E["TIMEOUT"]]
        if waiting.begin(SIDES, limit):
            assert agent.call("memory_supply", waiting.paged, 0, source, 0) == 0
            agent.ipc("reply", 0)
            results = [wait_done(agent, players[side]).value for side in SIDES]
        assert agent.call("cap_delete", source) == 0
        waiting.finish()
        if E["TIMEOUT"] in results:
            return None
        assert results == [0, 99]
        return limit

    for whose in SIDES:
        limit = in_time(partial(met, whose), 100 * MS)
        for k in players.values():
            assert agent.ipc("receive", endpoint, worker=k) is None
        agent.start("sleep", limit + 20 * MS)
        for k in players.values():
            assert agent.poll(k) is None, "the timeout was the other call's"
            assert done(agent.ipc("send", endpoint)).value == 0
            assert done(agent.poll(k)).value == 0


def test_a_timeout_ends_with_a_failed_copy(agent: Agent, endpoint: int, worker: Worker) -> None:
    """The pager brings nothing: the call has ended, and its timeout with it."""
    players = {side: worker() for side in SIDES}

    def failed(limit: int) -> int | None:
        """The limit, if the pager has failed both within it."""
        waiting = Waiting(agent, endpoint, players, driver="sender", whose="receiver")
        begun = waiting.begin(["sender"], limit)
        assert agent.call("cap_delete", waiting.paged) == 0
        if begun:
            agent.ipc("reply", 0)
        results = [wait_done(agent, k).value for k in players.values()]
        assert agent.call("cap_delete", waiting.pager) == 0
        if not begun or E["TIMEOUT"] in results:
            return None
        assert results == [E["IPCFAULT"]] * 2
        return limit

    limit = in_time(failed, 100 * MS)
    assert agent.ipc("receive", endpoint, worker=players["sender"]) is None
    agent.start("sleep", limit + 20 * MS)
    assert agent.poll(players["sender"]) is None


@pytest.mark.parametrize("name", ["reply", "reply_receive"])
@pytest.mark.parametrize("timeout", [0, 20 * MS])
def test_a_server_need_not_wait_for_a_client_s_pager(
    agent: Agent, endpoint: int, worker: Worker, name: str, timeout: int
) -> None:
    client, server = worker(), worker()
    pager = agent.make("endpoint_create", agent.quota)
    paged = agent.make("memory_create", agent.quota, PAGE, pager)
    assert agent.call("map", agent.space, paged, SPOT_PAGED | READ | WRITE, PAGE, 0) == 0
    assert agent.ipc("receive", endpoint, worker=server) is None
    options = ("size=99", f"to={SPOT_PAGED}")
    assert agent.ipc("call", endpoint, *options, worker=client) is None
    assert done(agent.poll(server)).value >= 0
    to = 0 if name == "reply" else endpoint
    agent.ipc(name, to, "bytes=99", f"timeout={timeout}", worker=server)
    assert wait_done(agent, server).value == E["TIMEOUT"]
    assert done(agent.poll(client)).value == E["CANCELED"]
    for handle in (paged, pager):
        assert agent.call("cap_delete", handle) == 0


@pytest.mark.parametrize("driver", SIDES)
def test_a_stopped_driver_can_be_cancelled(
    agent: Agent, endpoint: int, worker: Worker, driver: str
) -> None:
    """Its page has come, but it has not had its turn: it waits for nothing, in a long copy."""
    twin, survivor = agent.twin(150, 150), worker()
    players = {driver: twin.number, SIDES[1 - SIDES.index(driver)]: survivor}
    waiting = Waiting(agent, endpoint, players, driver=driver, whose=driver, twin=twin)
    waiting.begin()
    assert agent.call("thread_suspend", twin.thread) == 0
    source = agent.make("memory_create", agent.quota, PAGE)
    assert agent.call("memory_supply", waiting.paged, 0, source, 0) == 0
    assert done(agent.ipc("reply", 0)).value == 0
    assert agent.poll(survivor) is None
    assert agent.call("thread_cancel", twin.thread) == 0
    assert done(agent.poll(survivor)).value == E["CANCELED"]
    assert agent.call("thread_cancel", twin.thread) == E["BUSY"], "once"
    assert agent.poll(twin.number) is None, "it is still suspended"
    assert agent.call("thread_resume", twin.thread) == 0
    assert done(agent.poll(twin.number)).value == E["CANCELED"]
    assert agent.call("cap_delete", source) == 0
    waiting.finish()
    agent.drop(twin.number)
