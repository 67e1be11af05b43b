# SPDX-License-Identifier: MIT
"""Endpoints: who meets whom, what arrives, and that nobody is left waiting."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from agent import READY, Agent
from agent_support import (
    ALL,
    FOREVER,
    MS,
    PAGE,
    STATES,
    E,
    R,
    done,
    give,
    in_time,
    label,
    wait_done,
)

pytestmark = [
    pytest.mark.machine(append="run=agent", ready=READY, shared=True),
    pytest.mark.cores(1, 2, 4),
]

Keep = Callable[[int], int]
Worker = Callable[..., int]
WORDS = (11, 22, 33, 44, 55, 66)
W = "w=" + ",".join(map(str, WORDS))


def fnv(first: int, count: int) -> int:
    """The hash of the agent's pattern."""
    value = 2166136261
    for i in range(count):
        value = (value ^ (first + i & 0xFF)) * 16777619 & 0xFFFFFFFF
    return value


def test_send_to_a_waiting_receiver(agent: Agent, endpoint: int, worker: Worker) -> None:
    k = worker()
    assert agent.ipc("receive", endpoint, worker=k) is None
    assert done(agent.ipc("send", endpoint, W, "label=77")).value == 0
    got = done(agent.poll(k))
    assert (label(got.value), got.second, got.words) == (77, 0, WORDS)


def test_receive_from_a_waiting_sender(agent: Agent, endpoint: int, worker: Worker) -> None:
    k = worker()
    assert agent.ipc("send", endpoint, W, "label=5", worker=k) is None
    got = done(agent.ipc("receive", endpoint))
    assert (label(got.value), got.words) == (5, WORDS)
    assert done(agent.poll(k)).value == 0
    assert done(agent.ipc("reply", 0)).value == E["NOREPLY"], "a send makes no caller"


@pytest.mark.parametrize("receiver_first", [False, True])
def test_call_and_reply(agent: Agent, endpoint: int, worker: Worker, receiver_first: bool) -> None:
    client, server = worker(), worker()
    if receiver_first:
        assert agent.ipc("receive", endpoint, worker=server) is None
        assert agent.ipc("call", endpoint, W, worker=client) is None
        got = done(agent.poll(server))
    else:
        assert agent.ipc("call", endpoint, W, worker=client) is None
        got = done(agent.ipc("receive", endpoint, worker=server))
    assert got.words == WORDS
    assert done(agent.ipc("reply", 0, "label=9", "w=6,5,4,3,2,1", worker=server)).value == 0
    answer = done(agent.poll(client))
    assert (label(answer.value), answer.words) == (9, (6, 5, 4, 3, 2, 1))
    assert done(agent.ipc("reply", 0, worker=server)).value == E["NOREPLY"], "only once"


def test_reply_receive(agent: Agent, endpoint: int, worker: Worker) -> None:
    server, first, second = worker(), worker(), worker()
    assert done(agent.ipc("reply_receive", endpoint, worker=server)).value == E["NOREPLY"]
    assert agent.ipc("receive", endpoint, worker=server) is None
    assert agent.ipc("call", endpoint, "w=1", worker=first) is None
    assert agent.ipc("call", endpoint, "w=2", worker=second) is None
    assert done(agent.poll(server)).words[0] == 1
    got = done(agent.ipc("reply_receive", endpoint, "w=100", worker=server))
    assert got.words[0] == 2, "the second one was waiting"
    assert done(agent.poll(first)).words[0] == 100
    assert agent.ipc("reply_receive", endpoint, "w=200", worker=server) is None
    assert done(agent.poll(second)).words[0] == 200


def test_queues_by_priority_and_first_come(agent: Agent, endpoint: int, worker: Worker) -> None:
    order = [(150, 1), (160, 2), (150, 3), (170, 4), (160, 5), (140, 6)]
    for priority, word in order:
        assert agent.ipc("send", endpoint, f"w={word}", worker=worker(priority)) is None
    got = [done(agent.ipc("receive", endpoint)).words[0] for _ in order]
    assert got == [4, 2, 5, 1, 3, 6]
    receivers = {worker(priority): priority for priority in (150, 170, 160, 170, 140)}
    for k in receivers:
        assert agent.ipc("receive", endpoint, worker=k) is None
    woken: list[int] = []
    for word in range(len(receivers)):
        assert done(agent.ipc("send", endpoint, f"w={word}")).value == 0
        woken += [k for k in receivers if k not in woken and agent.poll(k) is not None]
    by_rank = sorted(receivers, key=lambda k: -receivers[k])  # stable: first come, first served
    assert woken == by_rank


def test_badges(agent: Agent, keep: Keep, endpoint: int, worker: Worker) -> None:
    k = worker()
    for badge in (1, 0xABCDEF, (1 << 64) - 1):
        badged = keep(agent.make("cap_copy", endpoint, ALL, badge, 0))
        assert agent.ipc("send", badged, worker=k) is None
        assert done(agent.ipc("receive", endpoint)).second == badge
        assert agent.call("cap_copy", badged, ALL, badge ^ 8, 0) == E["INVAL"], "not again"
        keep(agent.make("cap_copy", badged, ALL, badge, 0))
        same = keep(agent.make("cap_copy", badged, ALL, 0, 0))
        assert agent.ipc("send", same, worker=k) is None
        assert done(agent.ipc("receive", endpoint)).second == badge


@pytest.mark.parametrize("name", ["send", "call", "receive"])
def test_timeouts(agent: Agent, endpoint: int, worker: Worker, name: str) -> None:
    k = worker()
    assert done(agent.ipc(name, endpoint, "timeout=0", worker=k)).value == E["AGAIN"]
    before = agent.make("clock")
    result = agent.ipc(name, endpoint, f"timeout={20 * MS}", worker=k)
    assert (result or wait_done(agent, k)).value == E["TIMEOUT"]
    assert agent.make("clock") - before >= 20 * MS, "never early"
    assert done(agent.ipc("receive", endpoint, "timeout=0")).value == E["AGAIN"], "it has left"


def test_a_call_s_timeout_covers_the_reply(agent: Agent, endpoint: int, worker: Worker) -> None:
    client = worker()

    def received(limit: int) -> bool | None:
        agent.ipc("call", endpoint, f"timeout={limit}", worker=client)
        if done(agent.ipc("receive", endpoint, "timeout=0")).value >= 0:
            return True
        assert wait_done(agent, client).value == E["TIMEOUT"]
        return None

    assert in_time(received)
    assert wait_done(agent, client).value == E["TIMEOUT"]
    assert done(agent.ipc("reply", 0)).value == E["NOREPLY"]


@pytest.mark.parametrize("name", ["send", "call", "receive"])
def test_cancel(agent: Agent, endpoint: int, name: str) -> None:
    twin = agent.twin(150, 150)
    there = give(agent, endpoint, twin)
    assert agent.ipc(name, there, worker=twin.number) is None
    assert agent.call("thread_cancel", twin.thread) == 0
    assert done(agent.poll(twin.number)).value == E["CANCELED"]
    assert done(agent.ipc("receive", endpoint, "timeout=0")).value == E["AGAIN"], "it has left"
    agent.drop(twin.number)


def test_cancel_of_a_call_under_way(agent: Agent, endpoint: int) -> None:
    twin = agent.twin(150, 150)
    there = give(agent, endpoint, twin)
    assert agent.ipc("call", there, worker=twin.number) is None
    assert done(agent.ipc("receive", endpoint)).value >= 0
    assert agent.call("thread_cancel", twin.thread) == 0
    assert done(agent.poll(twin.number)).value == E["CANCELED"]
    assert done(agent.ipc("reply", 0)).value == E["NOREPLY"]
    agent.drop(twin.number)


@pytest.mark.parametrize("size", [1, 7, 80, 4096, 5000, 65536])
def test_long_messages(agent: Agent, endpoint: int, worker: Worker, size: int) -> None:
    k, expected = worker(), fnv(size & 0xFF, size)
    options = (f"bytes={size}", f"fill={size & 0xFF}")
    assert agent.ipc("receive", endpoint, f"size={size}", worker=k) is None
    assert done(agent.ipc("send", endpoint, *options)).value == 0
    assert done(agent.poll(k)).sum == expected
    assert agent.ipc("send", endpoint, *options, worker=k) is None
    got = done(agent.ipc("receive", endpoint, "size=65536"))
    assert (got.sum, got.value & 0x1FFFF) == (expected, size)
    assert done(agent.poll(k)).value == 0
    assert agent.ipc("call", endpoint, *options, f"size={size}", worker=k) is None
    assert done(agent.ipc("receive", endpoint, "size=65536")).sum == expected
    assert done(agent.ipc("reply", 0, *options)).value == 0
    assert done(agent.poll(k)).sum == expected


@pytest.mark.parametrize("receiver_first", [False, True])
def test_too_long_fails_for_both(
    agent: Agent, endpoint: int, worker: Worker, receiver_first: bool
) -> None:
    k = worker()
    if receiver_first:
        assert agent.ipc("receive", endpoint, "size=99", worker=k) is None
        assert done(agent.ipc("send", endpoint, "bytes=100")).value == E["IPCFAULT"]
    else:
        assert agent.ipc("send", endpoint, "bytes=100", worker=k) is None
        assert done(agent.ipc("receive", endpoint, "size=99")).value == E["IPCFAULT"]
    assert done(agent.poll(k)).value == E["IPCFAULT"]


def test_a_bad_reply_is_the_caller_s_too(agent: Agent, endpoint: int, worker: Worker) -> None:
    client, server = worker(), worker()
    assert agent.ipc("receive", endpoint, worker=server) is None
    assert agent.ipc("call", endpoint, worker=client) is None
    assert agent.ipc("reply_receive", endpoint, "bytes=10", worker=server) is None, "it serves on"
    assert done(agent.poll(client)).value == E["IPCFAULT"]
    assert agent.ipc("call", endpoint, "w=3", worker=client) is None
    assert done(agent.poll(server)).words[0] == 3


@pytest.mark.parametrize("name", ["send", "call"])
def test_descriptors(agent: Agent, endpoint: int, name: str) -> None:
    too_long, five_caps = 0x10001, 5 << 20
    for info in (too_long, five_caps, 1 << 18, 1 << 24, 1 << 25, 1 << 26, 1 << 29, 1 << 63):
        got = agent.ipc(name, endpoint, f"info={info}", "timeout=0")
        assert done(got).value == E["INVAL"], hex(info)


def test_capabilities_travel(agent: Agent, keep: Keep, endpoint: int, notification: int) -> None:
    twin = agent.twin(150, 150)
    there = give(agent, endpoint, twin)
    weak = keep(agent.make("cap_copy", notification, R["NOTIFY_SIGNAL"] | R["GRANT"], 42, 0))
    assert agent.ipc("receive", there, "size=0", worker=twin.number) is None
    assert done(agent.ipc("send", endpoint, f"caps={notification},{weak}")).value == 0
    got = done(agent.poll(twin.number))
    assert got.value >> 20 & 7 == 2
    strong_there, weak_there = got.caps[:2]
    assert agent.call("poll", weak_there, worker=twin.number) == E["RIGHTS"]
    assert agent.call("signal", weak_there, 0, worker=twin.number) == 0
    assert agent.sys("poll", notification).second == 42
    assert agent.call("signal", strong_there, 3, worker=twin.number) == 0
    assert agent.sys("poll", notification).second == 3
    # What was sent was derived from what was named.
    assert agent.call("cap_revoke", notification) == 0
    for handle in (strong_there, weak_there):
        assert agent.call("cap_info", handle, worker=twin.number) == E["BADCAP"]
    agent.drop(twin.number)


def test_capabilities_that_may_not_travel(
    agent: Agent, keep: Keep, endpoint: int, notification: int, worker: Worker
) -> None:
    k = worker()
    mine = keep(agent.make("cap_copy", notification, ALL & ~R["GRANT"], 0, 0))
    for bad in (mine, 0, 12345, notification + (1 << 32)):
        assert agent.ipc("receive", endpoint, "size=0", worker=k) is None
        caps = f"caps={notification},{bad}"
        assert done(agent.ipc("send", endpoint, caps)).value == E["IPCFAULT"]
        assert done(agent.poll(k)).value == E["IPCFAULT"]
    # One that has no struct message has no place for them.
    assert agent.ipc("receive", endpoint, worker=k) is None
    assert done(agent.ipc("send", endpoint, f"caps={notification}")).value == E["IPCFAULT"]
    assert done(agent.poll(k)).value == E["IPCFAULT"]


def test_revoked_while_the_message_waits(
    agent: Agent, keep: Keep, endpoint: int, notification: int, worker: Worker
) -> None:
    k = worker()
    copy = keep(agent.make("cap_copy", notification, ALL, 0, 0))
    assert agent.ipc("send", endpoint, f"caps={copy}", worker=k) is None
    assert agent.call("cap_revoke", notification) == 0
    assert done(agent.ipc("receive", endpoint, "size=0")).value == E["IPCFAULT"]
    assert done(agent.poll(k)).value == E["IPCFAULT"]


def test_a_reply_capability_is_good_once(agent: Agent, endpoint: int, worker: Worker) -> None:
    clients = [worker() for _ in range(3)]
    saved = []
    for number, client in enumerate(clients):
        assert agent.ipc("call", endpoint, f"w={number}", worker=client) is None
        assert done(agent.ipc("receive", endpoint)).words[0] == number
        saved.append(agent.make("reply_save", agent.quota))
        assert agent.call("reply_save", agent.quota) == E["NOREPLY"], "it is saved"
    for number in (1, 2, 0):  # in any order
        assert done(agent.ipc("reply", saved[number], f"w={number + 10}")).value == 0
        assert done(agent.poll(clients[number])).words[0] == number + 10
        assert done(agent.ipc("reply", saved[number])).value == E["BADCAP"], "used up"


def test_copies_of_a_reply_capability(agent: Agent, endpoint: int, worker: Worker) -> None:
    client = worker()
    assert agent.ipc("call", endpoint, worker=client) is None
    assert done(agent.ipc("receive", endpoint)).value >= 0
    saved = agent.make("reply_save", agent.quota)
    copies = [agent.make("cap_copy", saved, ALL, 0, 0) for _ in range(2)]
    assert done(agent.ipc("reply", copies[0], "w=1")).value == 0
    assert done(agent.poll(client)).words[0] == 1
    for handle in (saved, copies[1]):
        assert done(agent.ipc("reply", handle)).value == E["NOREPLY"]
        assert agent.call("cap_info", handle) == E["BADCAP"], "gone, whatever came of it"


def test_a_lost_reply_capability(agent: Agent, endpoint: int, worker: Worker) -> None:
    client = worker()
    assert agent.ipc("call", endpoint, worker=client) is None
    assert done(agent.ipc("receive", endpoint)).value >= 0
    saved = agent.make("reply_save", agent.quota)
    assert agent.call("cap_delete", saved) == 0
    assert done(agent.poll(client)).value == E["DEAD"]


def test_reply_to_one_that_gave_up(agent: Agent, endpoint: int, worker: Worker) -> None:
    client = worker()

    def save(limit: int) -> int | None:
        agent.ipc("call", endpoint, f"timeout={limit}", worker=client)
        if done(agent.ipc("receive", endpoint, "timeout=0")).value >= 0:
            result = agent.sys("reply_save", agent.quota)
            if result.value == 0:
                return result.second
        assert wait_done(agent, client).value == E["TIMEOUT"]
        return None

    saved = in_time(save)
    assert wait_done(agent, client).value == E["TIMEOUT"]
    assert done(agent.ipc("reply", saved)).value == E["NOREPLY"]
    assert agent.call("cap_info", saved) == E["BADCAP"]


def test_who_receives_again_lets_the_caller_down(
    agent: Agent, endpoint: int, worker: Worker
) -> None:
    client = worker()
    assert agent.ipc("call", endpoint, worker=client) is None
    assert done(agent.ipc("receive", endpoint)).value >= 0
    assert done(agent.ipc("receive", endpoint, "timeout=0")).value == E["AGAIN"]
    assert done(agent.poll(client)).value == E["NOREPLY"]


@pytest.mark.parametrize("name", ["send", "call", "receive"])
def test_the_endpoint_s_end_is_told(agent: Agent, worker: Worker, name: str) -> None:
    endpoint = agent.make("endpoint_create", agent.quota)
    waiting = [worker() for _ in range(3)]
    for k in waiting:
        assert agent.ipc(name, endpoint, worker=k) is None
    assert agent.call("cap_delete", endpoint) == 0
    assert [done(agent.poll(k)).value for k in waiting] == [E["DEAD"]] * 3


def test_it_ends_with_the_last_that_can_receive(agent: Agent, keep: Keep, worker: Worker) -> None:
    endpoint = agent.make("endpoint_create", agent.quota)
    to_send = keep(agent.make("cap_copy", endpoint, R["ENDPOINT_CALL"], 0, 0))
    receive = agent.make("cap_copy", endpoint, R["ENDPOINT_RECEIVE"], 0, 0)
    client = worker()
    assert agent.ipc("call", to_send, worker=client) is None
    assert agent.call("cap_delete", endpoint) == 0
    assert agent.poll(client) is None, "somebody can still receive"
    assert agent.call("cap_delete", receive) == 0
    assert done(agent.poll(client)).value == E["DEAD"]
    assert done(agent.ipc("call", to_send)).value == E["DEAD"]
    assert agent.call("cap_copy", to_send, ALL, 0, 0) == E["DEAD"]


@pytest.mark.parametrize("state", ["sending", "receiving", "reply", "serving", "saved"])
def test_death_of_either_side(agent: Agent, endpoint: int, worker: Worker, state: str) -> None:
    other = worker()
    twin = agent.twin(150, 150)
    k, there = twin.number, give(agent, endpoint, twin)
    if state == "sending":
        assert agent.ipc("call", there, worker=k) is None
    elif state == "receiving":
        assert agent.ipc("receive", there, worker=k) is None
    elif state == "reply":
        assert agent.ipc("call", there, worker=k) is None
        assert done(agent.ipc("receive", endpoint)).value >= 0
    else:
        assert agent.ipc("call", endpoint, worker=other) is None
        assert done(agent.ipc("receive", there, worker=k)).value >= 0
        if state == "saved":
            _, _, quota = agent.own(k)
            agent.make("reply_save", quota, worker=k)
    assert agent.call("thread_end", twin.thread) == 0
    assert agent.call("thread_cancel", twin.thread) == E["DEAD"]
    if state == "reply":
        assert done(agent.ipc("reply", 0)).value == E["NOREPLY"]
    if state in ("serving", "saved"):
        assert done(agent.poll(other)).value == E["DEAD"]
    assert done(agent.ipc("receive", endpoint, "timeout=0")).value == E["AGAIN"], "it has left"
    assert done(agent.ipc("send", endpoint, "timeout=0")).value == E["AGAIN"]
    agent.drop(k)


def test_to_oneself(agent: Agent, endpoint: int) -> None:
    """Nobody else can end it but time."""
    for name in ("send", "call"):
        options = ("timeout=0", f"timeout={5 * MS}")
        results = [done(agent.ipc(name, endpoint, option)).value for option in options]
        assert results == [E["AGAIN"], E["TIMEOUT"]]


def test_a_cycle_of_calls(agent: Agent, keep: Keep, worker: Worker) -> None:
    """Each serves an endpoint and calls the next one's: all wait until one gives up."""
    endpoints = [keep(agent.make("endpoint_create", agent.quota)) for _ in range(3)]
    ring = [worker() for _ in range(3)]
    for i in (1, 2):
        assert agent.ipc("call", endpoints[(i + 1) % 3], worker=ring[i]) is None
    result = agent.ipc("call", endpoints[1], f"timeout={20 * MS}", worker=ring[0])
    assert (result or wait_done(agent, ring[0])).value == E["TIMEOUT"]
    assert done(agent.ipc("receive", endpoints[0], worker=ring[0])).value >= 0  # from ring[2]
    assert done(agent.ipc("reply", 0, worker=ring[0])).value == 0
    assert done(agent.poll(ring[2])).value >= 0
    assert done(agent.ipc("receive", endpoints[2], worker=ring[2])).value >= 0  # from ring[1]
    assert done(agent.ipc("reply", 0, worker=ring[2])).value == 0
    assert done(agent.poll(ring[1])).value >= 0


def test_states_as_others_see_them(agent: Agent, keep: Keep, endpoint: int) -> None:
    twin = agent.twin(150, 150)
    k, there = twin.number, give(agent, endpoint, twin)
    memory = keep(agent.make("memory_create", agent.quota, PAGE))
    spot = 0x600000000000
    assert agent.call("map", agent.space, memory, spot | 3, PAGE, 0) == 0

    def state() -> str:
        assert agent.call("thread_info", twin.thread, spot) == 0
        return STATES[(agent.peek(spot) or 0) & 0xFFFFFFFF]

    assert state() == "waiting"  # for its next job
    agent.ipc("receive", there, worker=k)
    assert state() == "receiving"
    assert done(agent.ipc("send", endpoint)).value == 0
    agent.ipc("call", there, worker=k)
    assert state() == "sending"
    assert done(agent.ipc("receive", endpoint)).value >= 0
    assert state() == "reply"
    assert done(agent.ipc("reply", 0)).value == 0
    agent.start("sleep", FOREVER, worker=k)
    assert state() == "sleeping"
    assert agent.call("thread_end", twin.thread) == 0
    assert state() == "dead"
    assert agent.call("unmap", agent.space, spot, PAGE) == 0
    agent.drop(k)
