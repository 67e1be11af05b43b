# SPDX-License-Identifier: MIT
"""What a core remembers of a page table goes when another core changes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from agent import ANSWER, READY, Agent
from agent_support import PAGE, READ, SPOT, WRITE, has_failed
from kernel_state import CORE_AREA_SIZE, CORE_AREAS

from onestack.elf import Images
from onestack.errors import GuestError
from onestack.machine import Machine
from onestack.patch import PatchFault
from onestack.structs import Structs

pytestmark = [
    pytest.mark.machine(append="run=agent", ready=READY, shared=True),
    pytest.mark.cores(2, 4),
]
MARK = 0x600D
Change = Callable[[Agent, int], object]


@pytest.fixture
def remembered(agent: Agent, request: pytest.FixtureRequest) -> Iterator[tuple[int, list[int]]]:
    """A page, and workers on all other cores that have just written it."""
    memory = agent.make("memory_create", agent.quota, PAGE)
    assert agent.call("map", agent.space, memory, SPOT | READ | WRITE, PAGE, 0) == 0
    workers = [agent.worker(150, 150, core) for core in range(1, agent.cores)]
    for worker in workers:
        assert agent.poke(SPOT, MARK, worker=worker)
    yield memory, workers
    if not has_failed(request):
        agent.call("cap_delete", memory)
        for worker in workers:
            agent.drop(worker)


CHANGES: dict[str, tuple[Change, bool]] = {
    "unmap": (lambda agent, _: agent.call("unmap", agent.space, SPOT, PAGE), False),
    "delete": (lambda agent, memory: agent.call("cap_delete", memory), False),
    "protect": (
        lambda agent, _: agent.call("protect", agent.space, SPOT, PAGE, READ),
        True,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_core_remembers_it(agent: Agent, remembered: tuple[int, list[int]], change: str) -> None:
    memory, workers = remembered
    act, readable = CHANGES[change]
    assert act(agent, memory) == 0
    for worker in workers:
        assert not agent.poke(SPOT, 1, worker=worker)
        assert agent.peek(SPOT, worker=worker) == (MARK if readable else None)


def test_a_change_by_another_core_reaches_the_agent_s(
    agent: Agent, remembered: tuple[int, list[int]]
) -> None:
    _, workers = remembered
    assert agent.peek(SPOT) == MARK
    assert agent.call("unmap", agent.space, SPOT, PAGE, worker=workers[-1]) == 0
    assert agent.peek(SPOT) is None


def asked(machine: Machine, images: Images, line: str) -> dict[int, set[int]]:
    """The cores that are asked to forget something in this, for each space by its address."""
    event, done = images.resolve("tlb_shootdown_event"), images.resolve("printf")  # the answer
    structs = Structs(images.images[0].path)
    areas = [CORE_AREAS + cpu * CORE_AREA_SIZE for cpu in range(machine.spec.cores)]

    def word(area: int, member: str) -> int:
        at = area + structs.offset("core", member)
        return int.from_bytes(machine.gdb.read(at, 8), "little")

    machine.pause()
    machine.gdb.change_breakpoints({event, done})
    machine.console.send_line(line)
    found: dict[int, set[int]] = {}
    places: list[int] = []
    while done not in places:
        machine.resume()
        machine.gdb.wait_stop(20.0)
        places = [machine.gdb.registers(cpu).pc for cpu in range(len(areas))]
        for cpu in (cpu for cpu, at in enumerate(places) if at == event):
            askers = word(areas[cpu], "shared.shootdown_from")
            for area in (area for i, area in enumerate(areas) if askers >> i & 1):
                found.setdefault(word(area, "shootdown.space"), set()).add(cpu)
    machine.gdb.change_breakpoints(set())
    machine.resume()
    machine.console.expect(ANSWER, 20.0)
    found.pop(0, None)  # kernel addresses, which all spaces have
    return found


@pytest.mark.machine(shared=False)
@pytest.mark.cores(4)
def test_only_cores_that_had_the_space_are_asked(machine: Machine, images: Images) -> None:
    """For its pages, and for its table when it ends. It lives on 3; it may have begun elsewhere."""
    agent = Agent(machine)
    twin = agent.twin(150, 150, 3)
    memory = agent.make("memory_create", agent.quota, PAGE)
    assert agent.call("map", twin.space, memory, SPOT | READ | WRITE, PAGE, 0) == 0
    assert agent.poke(SPOT, MARK, worker=twin.number)
    [(space, loaded)] = asked(machine, images, f"sys 0 unmap {twin.space} {SPOT} {PAGE}").items()
    assert 3 in loaded
    assert len(loaded) <= 2, "of three who could be asked"
    at_its_end = asked(machine, images, f"drop {twin.number}")[space]
    assert at_its_end <= loaded | {0}  # 0 asked before


@pytest.mark.machine(shared=False)
@pytest.mark.cores(4)
def test_cores_that_it_has_left_are_asked_once_more_and_then_forgotten(
    machine: Machine, images: Images
) -> None:
    """And remembered when it comes back. It moves when it is woken for what it is to write."""
    agent = Agent(machine)
    twin = agent.twin(150, 150, 3)
    memory = agent.make("memory_create", agent.quota, PAGE)
    unmap = f"sys 0 unmap {twin.space} {SPOT} {PAGE}"

    def asked_by_unmap() -> set[int]:
        assert agent.call("map", twin.space, memory, SPOT | READ | WRITE, PAGE, 0) == 0
        assert agent.poke(SPOT, MARK, worker=twin.number)
        [(_, cores)] = asked(machine, images, unmap).items()
        assert not agent.poke(SPOT, MARK, worker=twin.number)
        return cores

    assert 3 in asked_by_unmap()
    assert agent.call("thread_set_affinity", twin.thread, 2) == 0
    assert asked_by_unmap() >= {2, 3}, "idle, they may still have it loaded"
    assert asked_by_unmap() == {2}
    assert agent.call("thread_set_affinity", twin.thread, 3) == 0
    assert asked_by_unmap() == {2, 3}
    assert asked_by_unmap() == {3}


def shootdown_that_forgets_nothing(images: Images) -> PatchFault:
    """The other core answers, and has done nothing."""
    kernel = images.images[0]
    event = kernel.symbol("tlb_shootdown_event")
    code = kernel.disassemble(event.address, event.address + event.size)
    at = next(one.address for one in code if one.mnemonic == "call")
    return PatchFault("missing shootdown", f"{at:#x}", b"", expect="call")


@pytest.mark.machine(shared=False)
@pytest.mark.cores(2)
def test_a_missing_shootdown_is_found(machine: Machine, images: Images) -> None:
    """The stale translation is there to be seen: the page can be written after it was unmapped."""
    agent = Agent(machine)
    memory = agent.make("memory_create", agent.quota, PAGE)
    assert agent.call("map", agent.space, memory, SPOT | READ | WRITE, PAGE, 0) == 0
    worker = agent.worker(150, 150, 1)
    assert agent.poke(SPOT, MARK, worker=worker)
    machine.pause()
    shootdown_that_forgets_nothing(images).apply(machine, images)
    machine.resume()
    assert agent.call("unmap", agent.space, SPOT, PAGE) == 0
    assert agent.peek(SPOT) is None, "its own core forgets"
    assert agent.peek(SPOT, worker=worker) == MARK


def forgotten_although_it_lives_there(images: Images) -> PatchFault:
    """`leave` finds no thread of the space on its core, whatever their number is."""
    kernel = images.images[0]
    event = kernel.symbol("tlb_shootdown_event")
    code = kernel.disassemble(event.address, event.address + event.size)
    count = next(i for i, one in enumerate(code) if "*4]" in one.operands)
    test = next(one for one in code[count:] if one.mnemonic == "test")
    return PatchFault("forgotten", f"{test.address:#x}", b"\x31" + test.data[1:], expect="test")


@pytest.mark.machine(shared=False, debug=True)
@pytest.mark.cores(2)
def test_a_core_that_is_forgotten_too_early_is_found(machine: Machine, images: Images) -> None:
    """By a debug build, when a thread of the space leaves to user mode there."""
    agent = Agent(machine)
    twin = agent.twin(150, 150, 1)
    memory = agent.make("memory_create", agent.quota, PAGE)
    assert agent.call("map", twin.space, memory, SPOT | READ | WRITE, PAGE, 0) == 0
    assert agent.poke(SPOT, MARK, worker=twin.number)
    machine.pause()
    forgotten_although_it_lives_there(images).apply(machine, images)
    machine.resume()
    assert agent.call("unmap", twin.space, SPOT, PAGE) == 0
    with pytest.raises(GuestError, match="does not know of"):
        agent.poke(SPOT, MARK, worker=twin.number)
