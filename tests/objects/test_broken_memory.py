# SPDX-License-Identifier: MIT
"""Machine checks in memory that belongs to somebody, used by nobody yet: who hears of it."""

from __future__ import annotations

import mmap
import random
from collections.abc import Callable, Iterator

import pytest
from abi import SYSCALLS
from agent import READY, Agent
from agent_support import (
    INFO_FAULT,
    MS,
    PAGE,
    READ,
    SPOT,
    WRITE,
    E,
    comes_about,
    done,
    has_failed,
    label,
)
from agent_victim import LOOP, SYSCALL, Victim, load_number

from onestack.elf import Images
from onestack.inject import MC_STATUS, MachineCheck
from onestack.machine import Machine

pytestmark = [
    pytest.mark.machine(append="run=agent", ready=READY, shared=True, memory=64),
    pytest.mark.cores(1, 2, 4),
]

Keep = Callable[[int], int]
Build = Callable[..., Victim]
MACHINE_CHECK = 2  # label, kernel/abi/fault.h
HERE = 0x40000  # in the victims' spaces
LARGE = 512 * PAGE
SLEEP = load_number(6, (1 << 62)) + load_number(0, SYSCALLS["sleep"].number) + SYSCALL + LOOP


def begun(victim: Victim, code: bytes) -> bool:
    """Whether it is where its code leaves it."""
    info = victim.info()
    return info.state == "sleeping" if code is SLEEP else info.cpu_time > 0


@pytest.fixture
def build(agent: Agent, endpoint: int, request: pytest.FixtureRequest) -> Iterator[Build]:
    """Victims below the agent that have begun; their faults come to `endpoint`, badges 100, 101."""
    victims: list[Victim] = []

    def make(code: bytes) -> Victim:
        victim = Victim.build(agent, code, len(victims), priority=50)
        badge = 100 + len(victims)
        victims.append(victim)
        assert agent.call("space_set_fault", victim.space, endpoint, badge) == 0
        assert agent.call("thread_start", victim.thread, 0x10000, 0x21000, 0) == 0
        assert comes_about(agent, lambda: begun(victim, code))
        return victim

    yield make
    if not has_failed(request):
        for victim in victims:
            victim.drop()


def marked(agent: Agent, memory: int, offset: int) -> int:
    """Physical address of a page of a memory object: a random word is written there, and found."""
    spot, word = SPOT + (1 << 34), random.getrandbits(63)
    assert agent.call("map", agent.space, memory, spot | READ | WRITE, PAGE, offset) == 0
    assert agent.poke(spot, word)
    assert agent.call("unmap", agent.space, spot, PAGE) == 0
    machine, raw = agent.machine, word.to_bytes(8, "little")
    dump = machine.folder / "ram"
    size = machine.spec.memory << 20
    machine.qmp.execute("pmemsave", val=0, size=size, filename=str(dump))
    with dump.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as ram:
        found = [at for at in range(0, size, PAGE) if ram[at : at + 8] == raw]
    dump.unlink()
    assert len(found) == 1, found
    return found[0]


def strike(machine: Machine, address: int) -> None:
    """An uncorrected error there, found by the hardware itself; the kernel has said so."""
    machine.pause()
    MachineCheck(address=address).fire(machine)
    machine.resume()
    machine.console.expect(rf"machine check, core 0 bank 1 status \S+ address {address:x} ")


def messages(agent: Agent, endpoint: int, count: int = 0) -> dict[int, tuple[int, ...]]:
    """Of so many that come: words by badge. All are let go on. And no more come soon."""
    found: dict[int, tuple[int, ...]] = {}

    def all_there() -> bool:
        fault = done(agent.ipc("receive", endpoint, "timeout=0"))
        if fault.value != E["AGAIN"]:
            assert fault.value & INFO_FAULT
            assert label(fault.value) == MACHINE_CHECK
            assert fault.second not in found, "told twice"
            found[fault.second] = fault.words
            assert done(agent.ipc("reply", 0, "label=0")).value == 0
        return len(found) >= count

    assert comes_about(agent, all_there)
    for _ in range(20):
        agent.start("sleep", MS)
        all_there()
    return found


@pytest.mark.parametrize("code", [LOOP, SLEEP], ids=["ready", "waits"])
@pytest.mark.parametrize("page", [0, 2, 17])
def test_another_process_hears(
    agent: Agent, endpoint: int, build: Build, page: int, code: bytes
) -> None:
    """Whoever runs. One that waits is told before it goes on in user mode.

    The page is all of its object, one of three, and part of a large one.
    """
    victim = build(code)
    size, offset = {0: PAGE, 2: 3 * PAGE, 17: LARGE + PAGE}[page], page * PAGE
    memory = agent.make("memory_create", agent.quota, size)
    assert agent.call("map", victim.space, memory, HERE | READ | WRITE, size, 0) == 0
    strike(agent.machine, marked(agent, memory, offset) + 24)
    if code is SLEEP:
        assert messages(agent, endpoint) == {}
        assert agent.call("thread_cancel", victim.thread) == 0
    said = messages(agent, endpoint, 1)
    assert {badge: words[:3] for badge, words in said.items()} == {
        100: (MC_STATUS, HERE + offset + 24, 0)
    }
    if code is SLEEP:
        assert said[100][3] == 0x10000 + len(SLEEP) - len(LOOP), "not a step in user mode"
    assert agent.call("cap_delete", memory) == 0


def test_a_page_of_two_is_told_to_both(
    agent: Agent, keep: Keep, endpoint: int, build: Build
) -> None:
    """Each by the address that it has there; a space that has it twice is told once."""
    victims = [build(LOOP), build(SLEEP), build(LOOP)]
    memory = keep(agent.make("memory_create", agent.quota, 4 * PAGE))
    for i, victim in enumerate(victims[:2]):
        at = HERE + i * (1 << 21)
        assert agent.call("map", victim.space, memory, at | READ, 2 * PAGE, PAGE) == 0
        assert agent.call("map", victim.space, memory, 2 * at | READ, PAGE, 0) == 0
    assert agent.call("map", victims[0].space, memory, 8 * HERE | READ, 4 * PAGE, 0) == 0
    strike(agent.machine, marked(agent, memory, 2 * PAGE))
    assert agent.call("thread_cancel", victims[1].thread) == 0
    said = messages(agent, endpoint, 2)
    assert said.keys() == {100, 101}
    assert said[100][1] in (HERE + PAGE, 8 * HERE + 2 * PAGE)
    assert said[101][1] == HERE + (1 << 21) + PAGE


def test_a_page_that_has_been_given_back_is_nobody_s(
    agent: Agent, endpoint: int, build: Build
) -> None:
    victim = build(LOOP)
    memory = agent.make("memory_create", agent.quota, PAGE)
    assert agent.call("map", victim.space, memory, HERE | READ | WRITE, PAGE, 0) == 0
    page = marked(agent, memory, 0)
    assert agent.call("cap_delete", memory) == 0
    strike(agent.machine, page)
    assert messages(agent, endpoint) == {}


def test_an_object_that_nobody_maps(agent: Agent, keep: Keep, endpoint: int, build: Build) -> None:
    build(LOOP)
    memory = keep(agent.make("memory_create", agent.quota, PAGE))
    strike(agent.machine, marked(agent, memory, 0))
    assert messages(agent, endpoint) == {}


@pytest.mark.parametrize("what", ["text", "table", "beyond"])
def test_what_is_no_process_s(
    agent: Agent, endpoint: int, build: Build, images: Images, what: str
) -> None:
    """The kernel's own, not used yet, and where no memory is: a line on the console, no more."""
    build(LOOP)
    table = agent.machine.qmp.hmp("info registers").partition("CR3=")[2].split()[0]
    place = {
        "text": images.resolve("syscall_dispatch") - 0xFFFFFFFF80000000,
        "table": int(table, 16),
        "beyond": 1 << 45,
    }
    strike(agent.machine, place[what])
    assert messages(agent, endpoint) == {}


@pytest.mark.parametrize("end", ["space_end", "thread_end"])
def test_who_ends_first_tells_nobody(
    agent: Agent, keep: Keep, endpoint: int, build: Build, end: str
) -> None:
    victim = build(SLEEP)
    memory = keep(agent.make("memory_create", agent.quota, PAGE))
    assert agent.call("map", victim.space, memory, HERE | READ, PAGE, 0) == 0
    strike(agent.machine, marked(agent, memory, 0))
    assert agent.call(end, victim.space if end == "space_end" else victim.thread) == 0
    assert messages(agent, endpoint) == {}
