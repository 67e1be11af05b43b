# SPDX-License-Identifier: MIT
"""Exceptions of user threads: who is asked, what he can do, and what happens if nobody is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from abi import SYSCALLS
from agent import READY, Agent
from agent_support import (
    ALL,
    INFO_FAULT,
    PAGE,
    READ,
    SOON,
    UNCACHED,
    WRITE,
    E,
    R,
    T,
    done,
    find_grant,
    has_failed,
    label,
)
from agent_victim import CODE, DATA, LOAD, LOOP, STORE, SYSCALL, UD2, Victim, load_number

pytestmark = [
    pytest.mark.machine(append="run=agent", ready=READY, shared=True),
    pytest.mark.cores(1, 2, 4),
]

Keep = Callable[[int], int]
Build = Callable[..., Victim]
BADGE = 0x5EED
EXCEPTION, PAGE_FAULT = 0, 1  # labels, kernel/abi/fault.h
RESUME, END = "label=0", "label=1"


@pytest.fixture
def build(agent: Agent, endpoint: int, request: pytest.FixtureRequest) -> Iterator[Build]:
    """Victims whose faults come to `endpoint`."""
    victims: list[Victim] = []

    def make(code: bytes, *, watched: bool = True) -> Victim:
        victims.append(Victim.build(agent, code, len(victims)))
        if watched:
            fault = agent.call("space_set_fault", victims[-1].space, endpoint, BADGE)
            assert fault == 0
        return victims[-1]

    yield make
    if not has_failed(request):
        for victim in victims:
            victim.drop()


def test_the_message(agent: Agent, endpoint: int, build: Build) -> None:
    victim = build(UD2)
    victim.start()
    assert victim.info().state == "faulting"
    fault = done(agent.ipc("receive", endpoint, "timeout=0"))
    assert fault.value == INFO_FAULT | EXCEPTION << 32
    assert fault.second == BADGE
    vector, error, address, rip, rsp, _ = fault.words
    assert (vector, error, address, rip, rsp) == (6, 0, 0, CODE, DATA + PAGE)
    assert victim.info().state == "faulted"


def test_a_receiver_that_waits_already(agent: Agent, endpoint: int, build: Build) -> None:
    k = agent.worker(150, 150)
    assert agent.ipc("receive", endpoint, worker=k) is None
    victim = build(STORE)
    victim.start(argument=0x30000)
    fault = done(agent.poll(k))
    assert fault.words[:4] == (14, 6, 0x30000, CODE)
    assert done(agent.ipc("reply", 0, END, worker=k)).value == 0
    agent.drop(k)
    assert victim.info().state == "dead"


def test_registers_are_read_set_and_gone_on_with(agent: Agent, endpoint: int, build: Build) -> None:
    load = b"".join(load_number(i, 0x1111 * (i + 1)) for i in (0, 1, 2, 3, 5, 7))
    victim = build(load + UD2 + STORE + UD2)
    victim.start()
    assert done(agent.ipc("receive", endpoint, "timeout=0")).value >= 0
    registers = victim.registers()
    expected = {"rax": 1, "rcx": 2, "rdx": 3, "rbx": 4, "rbp": 6, "rdi": 8}
    assert {name: registers[name] for name in expected} == {
        name: 0x1111 * value for name, value in expected.items()
    }
    assert (registers["rip"], registers["rsi"]) == (CODE + len(load), DATA)
    changed = registers | {"rax": 0xABCD, "rip": registers["rip"] + len(UD2), "rsi": DATA + 64}
    changed |= {"rflags": (1 << 64) - 1, "fs": 0x7000, "gs": (1 << 64) - PAGE}
    assert victim.set_registers(changed) == 0
    assert done(agent.ipc("reply", 0, RESUME)).value == 0
    agent.settle(victim.thread)
    second = done(agent.ipc("receive", endpoint, "timeout=0"))
    assert second.words[0] == 1, "the trap flag is the user's to set: it steps"
    got = victim.registers()
    assert got["rflags"] & 0x3F7000 == 0x240000 | 0x4000 & got["rflags"], "IOPL, VM, VIF, VIP stay"
    assert got["rflags"] & 0x202 == 0x202, "interrupts stay on"
    assert (got["rax"], got["fs"], got["gs"]) == (0xABCD, 0x7000, (1 << 64) - PAGE)
    assert victim.set_registers(got | {"rflags": 0}) == 0
    assert done(agent.ipc("reply", 0, RESUME)).value == 0
    agent.settle(victim.thread)
    third = done(agent.ipc("receive", endpoint, "timeout=0"))
    assert third.words[0] == 6
    assert done(agent.ipc("reply", 0, END)).value == 0
    agent.settle(victim.thread)
    assert victim.info().state == "dead"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rip", 0),
        ("rip", 0xFFFFFFFF81000000),
        ("rip", 1 << 47),
        ("rip", 0x00007FFFFFFFF000),
        ("fs", 1 << 47),
        ("gs", 1 << 63),
    ],
)
def test_registers_that_no_thread_may_have(
    agent: Agent, endpoint: int, build: Build, name: str, value: int
) -> None:
    victim = build(UD2)
    victim.start()
    assert done(agent.ipc("receive", endpoint, "timeout=0")).value >= 0
    before = victim.registers()
    assert victim.set_registers(before | {"rax": 1, name: value}) == E["INVAL"]
    assert victim.registers() == before


def test_a_running_thread_s_registers_are_nobody_s(agent: Agent, keep: Keep, build: Build) -> None:
    victim = build(LOOP)
    victim.agent.call("thread_set_priority", victim.thread, 50)
    victim.start()
    at = victim.page.at
    assert agent.call("thread_get_registers", victim.thread, at) == E["BUSY"]
    assert agent.call("thread_set_registers", victim.thread, at) == E["BUSY"]
    assert agent.call("thread_suspend", victim.thread) == 0
    before = victim.registers()
    assert victim.set_registers(before) == 0
    weak = keep(agent.make("cap_copy", victim.thread, ALL & ~R["THREAD_REGISTERS"], 0, 0))
    assert agent.call("thread_get_registers", weak, at) == E["RIGHTS"]
    assert agent.call("thread_set_registers", weak, at) == E["RIGHTS"]


def test_without_anyone_to_ask_the_thread_ends(
    agent: Agent, notification: int, build: Build
) -> None:
    victim = build(UD2, watched=False)
    assert agent.call("space_watch", victim.space, notification, 0x10) == 0
    victim.start()
    assert victim.info().state == "dead"
    ended = agent.sys("wait", notification, SOON)  # a moment later, on the victim's core
    assert ended.second == 0x10, "its space with it"
    assert agent.call("thread_resume", victim.thread) == E["DEAD"]


@pytest.mark.parametrize("how", ["endpoint", "unanswered", "receiver"])
def test_an_unanswered_fault_ends_the_thread(agent: Agent, build: Build, how: str) -> None:
    own = agent.make("endpoint_create", agent.quota)
    victim = build(UD2)
    assert agent.call("space_set_fault", victim.space, own, 0) == 0
    victim.start()
    assert victim.info().state == "faulting"
    if how == "endpoint":
        assert agent.call("cap_delete", own) == 0
    elif how == "unanswered":
        assert done(agent.ipc("receive", own, "timeout=0")).value >= 0
        assert done(agent.ipc("receive", own, "timeout=0")).value == E["AGAIN"]
    else:
        k = agent.worker(150, 150)
        assert done(agent.ipc("receive", own, worker=k)).value >= 0
        agent.drop(k)
    agent.call("yield")
    agent.settle(victim.thread)  # ready to end, until it comes to run on its core
    assert victim.info().state == "dead"
    if how != "endpoint":
        assert agent.call("cap_delete", own) == 0


def test_a_saved_fault_can_be_answered_later(agent: Agent, endpoint: int, build: Build) -> None:
    victims = [build(UD2 + UD2) for _ in range(3)]
    saved = []
    for victim in victims:
        victim.start()
        assert done(agent.ipc("receive", endpoint, "timeout=0")).value >= 0
        saved.append(agent.make("reply_save", agent.quota))
    for i in (2, 0, 1):
        assert victims[i].info().state == "faulted"
        registers = victims[i].registers()
        assert victims[i].set_registers(registers | {"rip": CODE + 2}) == 0
        assert done(agent.ipc("reply", saved[i], RESUME)).value == 0
        agent.settle(victims[i].thread)
        again = done(agent.ipc("receive", endpoint, "timeout=0"))
        assert again.words[3] == CODE + 2
        assert done(agent.ipc("reply", 0, END)).value == 0
        agent.settle(victims[i].thread)
        assert victims[i].info().state == "dead"


def test_a_faulted_thread_cannot_be_cancelled_but_ended(
    agent: Agent, endpoint: int, build: Build
) -> None:
    victim = build(UD2)
    victim.start()
    assert agent.call("thread_cancel", victim.thread) == E["BUSY"]
    assert done(agent.ipc("receive", endpoint, "timeout=0")).value >= 0
    assert agent.call("thread_cancel", victim.thread) == E["BUSY"]
    assert agent.call("thread_end", victim.thread) == 0
    assert done(agent.ipc("reply", 0, RESUME)).value == E["NOREPLY"]


def test_suspended_it_stays_after_the_answer(agent: Agent, endpoint: int, build: Build) -> None:
    victim = build(UD2 + UD2)
    victim.start()
    assert done(agent.ipc("receive", endpoint, "timeout=0")).value >= 0
    assert agent.call("thread_suspend", victim.thread) == 0
    assert victim.set_registers(victim.registers() | {"rip": CODE + 2}) == 0
    assert done(agent.ipc("reply", 0, RESUME)).value == 0
    assert done(agent.ipc("receive", endpoint, "timeout=0")).value == E["AGAIN"]
    assert agent.call("thread_resume", victim.thread) == 0
    agent.settle(victim.thread)
    assert done(agent.ipc("receive", endpoint, "timeout=0")).words[3] == CODE + 2


def call_handler(entry: int, stack: int) -> bytes:
    return (
        load_number(6, entry)
        + load_number(2, stack)
        + load_number(0, SYSCALLS["thread_set_handler"].number)
        + SYSCALL
    )


@pytest.mark.parametrize("where", ["absent", "kernel", "device", "wraps", "read-only"])
def test_a_handler_without_a_stack(agent: Agent, endpoint: int, build: Build, where: str) -> None:
    """The frame cannot be written: next in line is the fault endpoint. The kernel is unharmed."""
    stacks = {"absent": 0x50000, "kernel": 0xFFFFFFFF81002000, "wraps": 64, "read-only": CODE + 800}
    device = 0x60000
    stacks["device"] = device + PAGE
    victim = build(call_handler(CODE, stacks[where]) + UD2)
    if where == "device":
        hpet = find_grant(agent, T["MEMORY"], 0xFED00000, PAGE)
        flags = READ | WRITE | UNCACHED
        assert agent.call("map", victim.space, hpet, device | flags, PAGE, 0xFED00000) == 0
    victim.start()
    fault = done(agent.ipc("receive", endpoint, "timeout=0"))
    assert fault.words[0] == 6


def test_a_fault_in_the_handler_goes_further_up(agent: Agent, endpoint: int, build: Build) -> None:
    set_up = call_handler(CODE + 64, DATA + PAGE)
    handler = load_number(6, CODE) + STORE
    victim = build(set_up.ljust(48, b"\x90") + UD2.ljust(16, b"\x90") + handler)
    victim.start()
    fault = done(agent.ipc("receive", endpoint, "timeout=0"))
    assert fault.words[:4] == (14, 7, CODE, CODE + 64 + 10)
    assert fault.words[4] == DATA + PAGE - (3 + 20) * 8 - 8, "aligned, below the frame"


def test_a_missing_page_is_the_pager_s_first(
    agent: Agent, keep: Keep, endpoint: int, build: Build
) -> None:
    pager = keep(agent.make("endpoint_create", agent.quota))
    source = keep(agent.make("memory_create", agent.quota, PAGE))
    paged = keep(agent.make("memory_create", agent.quota, 16 * PAGE, pager))
    spot = 0x70000
    victim = build(LOAD + STORE + UD2)
    flags = READ | WRITE
    assert agent.call("map", victim.space, paged, spot | flags, 16 * PAGE, 0) == 0
    victim.start(argument=spot + 5 * PAGE + 8)
    assert done(agent.ipc("receive", endpoint, "timeout=0")).value == E["AGAIN"]
    miss = done(agent.ipc("receive", pager, "timeout=0"))
    assert (label(miss.value), miss.words[:2]) == (PAGE_FAULT, (5 * PAGE, 0))
    # Answered without a page it asks again; with one it goes on.
    assert done(agent.ipc("reply", 0)).value == 0
    agent.settle(victim.thread)
    assert done(agent.ipc("receive", pager, "timeout=0")).words[0] == 5 * PAGE
    assert agent.call("memory_supply", paged, 5 * PAGE, source, 0) == 0
    assert done(agent.ipc("reply", 0)).value == 0
    agent.settle(victim.thread)
    fault = done(agent.ipc("receive", endpoint, "timeout=0"))
    assert (fault.words[0], fault.words[3]) == (6, CODE + len(LOAD + STORE))


def test_a_dead_pager_makes_it_an_ordinary_fault(
    agent: Agent, keep: Keep, endpoint: int, build: Build
) -> None:
    pager = agent.make("endpoint_create", agent.quota)
    paged = keep(agent.make("memory_create", agent.quota, PAGE, pager))
    victim = build(LOAD)
    assert agent.call("map", victim.space, paged, 0x70000 | READ, PAGE, 0) == 0
    victim.start(argument=0x70000)
    assert agent.call("cap_delete", pager) == 0
    agent.call("yield")
    agent.settle(victim.thread)  # its own core tells it, and it faults once more
    fault = done(agent.ipc("receive", endpoint, "timeout=0"))
    assert fault.words[:3] == (14, 4, 0x70000)


def test_a_pager_can_end_the_thread(agent: Agent, keep: Keep, build: Build) -> None:
    pager = keep(agent.make("endpoint_create", agent.quota))
    paged = keep(agent.make("memory_create", agent.quota, PAGE, pager))
    victim = build(LOAD)
    assert agent.call("map", victim.space, paged, 0x70000 | READ, PAGE, 0) == 0
    victim.start(argument=0x70000)
    assert done(agent.ipc("receive", pager, "timeout=0")).value & INFO_FAULT
    assert done(agent.ipc("reply", 0, END)).value == 0
    agent.settle(victim.thread)
    assert victim.info().state == "dead"


def test_many_faults_leave_nothing(agent: Agent, endpoint: int) -> None:
    for _ in range(30):
        victim = Victim.build(agent, UD2)
        assert agent.call("space_set_fault", victim.space, endpoint, 0) == 0
        victim.start()
        assert done(agent.ipc("receive", endpoint, "timeout=0")).value >= 0
        assert done(agent.ipc("reply", 0, END)).value == 0
        victim.drop()
