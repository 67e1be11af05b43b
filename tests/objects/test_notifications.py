# SPDX-License-Identifier: MIT
"""Notifications: bits are lost nowhere, and each goes to one thread."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from agent import READY, Agent
from agent_support import ALL, INFO_NOTIFIED, MS, E, R, done, give, spawn, wait_done

pytestmark = [
    pytest.mark.machine(append="run=agent", ready=READY, shared=True),
    pytest.mark.cores(1, 2, 4),
]

Keep = Callable[[int], int]
Worker = Callable[..., int]


def test_bits_add_up_and_are_taken_at_once(agent: Agent, notification: int) -> None:
    assert agent.call("poll", notification) == E["AGAIN"]
    for bits in (1, 4, 1 << 63, 4):
        assert agent.call("signal", notification, bits) == 0
    assert agent.sys("poll", notification).second == 1 << 63 | 5
    assert agent.call("poll", notification) == E["AGAIN"]
    assert agent.call("signal", notification, 2) == 0
    assert agent.sys("wait", notification, 0).second == 2


def test_the_badge_is_what_an_empty_signal_sets(
    agent: Agent, keep: Keep, notification: int
) -> None:
    badged = keep(agent.make("cap_copy", notification, ALL, 0xF0, 0))
    assert agent.call("signal", badged, 0) == 0
    assert agent.sys("poll", notification).second == 0xF0
    assert agent.call("signal", badged, 1) == 0
    assert agent.sys("poll", notification).second == 1
    assert agent.call("signal", notification, 0) == 0, "no badge: nothing"
    assert agent.call("poll", notification) == E["AGAIN"]


def test_an_empty_signal_wakes_nobody(agent: Agent, notification: int, worker: Worker) -> None:
    k = worker()
    assert agent.start("wait", notification, (1 << 64) - 1, worker=k) is None
    assert agent.call("signal", notification, 0) == 0
    assert agent.poll(k) is None
    assert agent.call("signal", notification, 8) == 0
    assert done(agent.poll(k)).second == 8


def test_waiters_by_priority(agent: Agent, notification: int, worker: Worker) -> None:
    waiting = {worker(priority): priority for priority in (150, 170, 150, 160)}
    for k in waiting:
        assert agent.start("wait", notification, (1 << 64) - 1, worker=k) is None
    woken: list[int] = []
    for bits in (1, 2, 3, 4):
        assert agent.call("signal", notification, bits) == 0
        for k in waiting.keys() - set(woken):
            result = agent.poll(k)
            if result is not None:
                assert (result.value, result.second) == (0, bits)
                woken.append(k)
    assert woken == sorted(waiting, key=lambda k: -waiting[k])


def test_timeouts(agent: Agent, notification: int, worker: Worker) -> None:
    k = worker()
    assert done(agent.start("wait", notification, 0, worker=k)).value == E["AGAIN"]
    before = agent.make("clock")
    result = agent.start("wait", notification, 20 * MS, worker=k)
    assert (result or wait_done(agent, k)).value == E["TIMEOUT"]
    assert agent.make("clock") - before >= 20 * MS
    assert agent.call("signal", notification, 5) == 0
    assert agent.sys("poll", notification).second == 5, "it has left"


def test_cancel(agent: Agent, notification: int) -> None:
    twin = agent.twin(150, 150)
    there = give(agent, notification, twin)
    assert agent.start("wait", there, (1 << 64) - 1, worker=twin.number) is None
    assert agent.call("thread_cancel", twin.thread) == 0
    assert done(agent.poll(twin.number)).value == E["CANCELED"]
    assert agent.call("signal", notification, 5) == 0
    assert agent.sys("poll", notification).second == 5
    agent.drop(twin.number)


def test_death_of_a_waiter(agent: Agent, notification: int) -> None:
    twin = agent.twin(150, 150)
    there = give(agent, notification, twin)
    assert agent.start("wait", there, (1 << 64) - 1, worker=twin.number) is None
    agent.drop(twin.number)
    assert agent.call("signal", notification, 5) == 0
    assert agent.sys("poll", notification).second == 5


def test_its_end_is_told(agent: Agent, worker: Worker) -> None:
    notification = agent.make("notification_create", agent.quota)
    waiting = [worker() for _ in range(3)]
    for k in waiting:
        assert agent.start("wait", notification, (1 << 64) - 1, worker=k) is None
    assert agent.call("cap_delete", notification) == 0
    assert [done(agent.poll(k)).value for k in waiting] == [E["DEAD"]] * 3


def test_rights(agent: Agent, keep: Keep, notification: int) -> None:
    signal = keep(agent.make("cap_copy", notification, R["NOTIFY_SIGNAL"], 0, 0))
    wait = keep(agent.make("cap_copy", notification, R["NOTIFY_WAIT"], 0, 0))
    assert agent.call("poll", signal) == E["RIGHTS"]
    assert agent.call("wait", signal, 0) == E["RIGHTS"]
    assert agent.call("signal", wait, 1) == E["RIGHTS"]


# --- bound to a thread ---


@pytest.mark.parametrize("before", [False, True])
def test_a_bound_receiver_sees_the_bits(
    agent: Agent, endpoint: int, notification: int, before: bool
) -> None:
    k, thread = spawn(agent, 150)
    assert agent.call("thread_bind", thread, notification) == 0
    if before:
        assert agent.call("signal", notification, 6) == 0
        got = done(agent.ipc("receive", endpoint, worker=k))
    else:
        assert agent.ipc("receive", endpoint, worker=k) is None
        assert agent.call("signal", notification, 6) == 0
        got = done(agent.poll(k))
    assert (got.value, got.words[0], got.second) == (INFO_NOTIFIED, 6, 0)
    assert agent.call("poll", notification) == E["AGAIN"], "they are taken"
    assert agent.ipc("receive", endpoint, worker=k) is None
    assert done(agent.ipc("send", endpoint, "w=9")).value == 0
    assert done(agent.poll(k)).words[0] == 9, "messages come as ever"
    agent.drop(k)


def test_bits_that_were_there_before_the_binding(
    agent: Agent, endpoint: int, notification: int
) -> None:
    k, thread = spawn(agent, 150)
    assert agent.ipc("receive", endpoint, worker=k) is None
    assert agent.call("signal", notification, 3) == 0
    assert agent.call("thread_bind", thread, notification) == 0
    assert done(agent.poll(k)).words[0] == 3
    agent.drop(k)


def test_a_server_gets_bits_between_calls(agent: Agent, endpoint: int, notification: int) -> None:
    k, thread = spawn(agent, 150)
    client, _ = spawn(agent, 150)
    assert agent.call("thread_bind", thread, notification) == 0
    assert agent.ipc("call", endpoint, worker=client) is None
    assert done(agent.ipc("receive", endpoint, worker=k)).value >= 0
    assert agent.call("signal", notification, 1) == 0
    got = done(agent.ipc("reply_receive", endpoint, "w=4", worker=k))
    assert (got.value, got.words[0]) == (INFO_NOTIFIED, 1)
    assert done(agent.poll(client)).words[0] == 4
    agent.drop(k)
    agent.drop(client)


def test_binding_is_one_to_one(agent: Agent, keep: Keep, notification: int) -> None:
    other = keep(agent.make("notification_create", agent.quota))
    first, first_thread = spawn(agent, 150)
    second, second_thread = spawn(agent, 150)
    assert agent.call("thread_bind", first_thread, notification) == 0
    assert agent.call("thread_bind", first_thread, other) == E["BUSY"]
    assert agent.call("thread_bind", second_thread, notification) == E["BUSY"]
    assert agent.call("thread_bind", first_thread, 0) == 0
    assert agent.call("thread_bind", second_thread, notification) == 0
    agent.drop(second)  # its end unbinds, too
    assert agent.call("thread_bind", first_thread, notification) == 0
    agent.drop(first)


def test_a_bound_notification_s_end(agent: Agent, endpoint: int) -> None:
    notification = agent.make("notification_create", agent.quota)
    k, thread = spawn(agent, 150)
    assert agent.call("thread_bind", thread, notification) == 0
    assert agent.ipc("receive", endpoint, worker=k) is None
    assert agent.call("cap_delete", notification) == 0
    assert agent.poll(k) is None, "it waits for messages"
    assert done(agent.ipc("send", endpoint)).value == 0
    assert done(agent.poll(k)).value == 0
    agent.drop(k)


def test_one_who_waits_elsewhere_keeps_waiting(
    agent: Agent, keep: Keep, endpoint: int, notification: int
) -> None:
    other = keep(agent.make("notification_create", agent.quota))
    k, thread = spawn(agent, 150)
    assert agent.call("thread_bind", thread, notification) == 0
    assert agent.start("wait", other, (1 << 64) - 1, worker=k) is None
    assert agent.call("signal", notification, 2) == 0
    assert agent.poll(k) is None
    assert agent.call("signal", other, 1) == 0
    assert done(agent.poll(k)).second == 1
    assert done(agent.ipc("receive", endpoint, worker=k)).value == INFO_NOTIFIED, "kept for it"
    agent.drop(k)


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
def test_a_notified_receiver_s_words(
    agent: Agent, endpoint: int, notification: int, worker: Worker, fast: bool
) -> None:
    """Bits and nothing else, whatever it had in its registers when it came to wait."""
    server, client = worker(), worker()
    assert agent.ipc("receive", endpoint, worker=server) is None
    assert agent.ipc("call", endpoint, "w=1,2,3,4,5,6", worker=client) is None
    assert done(agent.poll(server)).words == (1, 2, 3, 4, 5, 6)
    options = ["w=6,5,4,3,2,1", *([] if fast else [f"timeout={60_000 * MS}"])]
    assert agent.ipc("reply_receive", endpoint, *options, worker=server) is None
    assert agent.call("thread_bind", agent.threads[server], notification) == 0
    assert agent.call("signal", notification, 3) == 0
    assert done(agent.poll(server)).words == (3, 0, 0, 0, 0, 0)
