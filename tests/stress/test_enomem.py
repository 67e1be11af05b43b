# SPDX-License-Identifier: MIT
"""Each allocation of each system call fails in turn: the caller learns of it, and nothing stays.

The kernel knows nothing of it: breakpoints stand on its allocators, and at one of the stops the
debugger answers "no memory" in place of the function.

On two cores a worker on the other one makes the calls, with the agent's objects. There a call is
made again when memory that was given up waits for other cores to have looked, so from that
allocation on all are denied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from agent import ANSWER, READY, Agent
from agent_support import ALL, PAGE, READ, SPOT, WRITE, E, done, give, has_failed
from agent_victim import Victim

from onestack.deadline import Deadline
from onestack.elf import Images
from onestack.errors import DeadlineError
from onestack.machine import Machine
from onestack.registers import Registers

pytestmark = [
    pytest.mark.machine(append="run=agent", ready=READY, shared=True),
    pytest.mark.cores(1, 2),
]

ALLOCATORS = ("kmem_alloc", "frame_alloc", "frame_alloc_dirty")
LARGE = 2 << 20
SLOT = 64  # bytes; a handle's low half is its offset, and a page holds 64
SLICE = 0.01  # seconds that one of console and debugger is listened to
FREE_BYTES = 1  # KINFO_FREE_BYTES


class Starved(Agent):
    """An agent whose calls can be denied one allocation."""

    def __init__(self, machine: Machine, images: Images) -> None:
        self.entries = {images.resolve(name) for name in ALLOCATORS}
        self.left = -1  # number of the allocation that fails
        self.seen = 0
        self.armed = False
        super().__init__(machine)
        # Init and the console take memory too, but in other spaces and from other accounts.
        self.cr3 = self.stop_in(images.resolve("sys_quota_info"), "quota_info")["cr3"]
        self.account = self.stop_in(images.resolve("kmem_alloc"), "endpoint_create")["rdi"]
        self.caller = self.worker(150, 150) if self.cores > 1 else 0

    def stop_in(self, function: int, call: str) -> Registers:
        """The registers when a call on the agent's account comes to a function. It is undone."""
        self.machine.pause()
        self.machine.console.send_line(f"sys 0 {call} {self.quota}")
        while True:
            registers = self.machine.gdb.registers(self.machine.run_to(function).cpu)
            if call == "quota_info" or registers["cr3"] == self.cr3:
                break  # else it was the console; ours may be the next instant
        self.machine.resume()
        self.machine.console.expect(ANSWER)
        if call != "quota_info":
            assert self.call("cap_delete", int(self.machine.console.match[1].split()[2], 0)) == 0
        return registers

    def ask(self, line: str) -> str:
        if not self.armed:
            return super().ask(line)
        deadline = Deadline(20.0)
        self.machine.console.send_line(line)
        while True:
            deadline.check("answer of the agent")
            try:
                cpu = self.machine.gdb.wait_stop(SLICE).cpu
            except DeadlineError:
                pass
            else:
                self.answer_allocator(cpu)
                continue
            try:
                self.machine.console.expect(ANSWER, SLICE)
            except DeadlineError:
                continue
            return str(self.machine.console.match[1])

    def answer_allocator(self, cpu: int) -> None:
        gdb = self.machine.gdb
        registers = gdb.registers(cpu)
        ours = registers["cr3"] == self.cr3 or registers["rdi"] == self.account
        self.seen += ours
        late = self.seen - 1 - self.left
        if ours and (late == 0 or (late > 0 and self.cores > 1)):
            back = int.from_bytes(gdb.read(registers["rsp"], 8, cpu), "little")
            gdb.write_register("rax", 0, cpu)
            gdb.write_register("rsp", registers["rsp"] + 8, cpu)
            gdb.write_register("rip", back, cpu)
        self.machine.resume()

    def deny(self, number: int) -> None:
        """From now on, the allocation of that number, from 0, fails."""
        self.left, self.seen, self.armed = number, 0, True
        self.machine.pause()
        for entry in self.entries:
            self.machine.gdb.set_breakpoint(entry)
        self.machine.resume()

    def allow(self) -> bool:
        """No more; whether one was denied."""
        self.machine.pause()
        for entry in self.entries:
            self.machine.gdb.remove_breakpoint(entry)
        self.machine.resume()
        self.armed = False
        return self.seen > self.left

    def machine_free(self) -> int:
        return self.make("kernel_info", FREE_BYTES, 0)


@pytest.fixture
def agent(machine: Machine, images: Images, request: pytest.FixtureRequest) -> Iterator[Starved]:
    agent = Starved(machine, images)
    before = agent.free()
    yield agent
    if not has_failed(request):
        assert agent.has_back(before), "the test has not given back what it took"
        if agent.caller:
            agent.drop(agent.caller)


@dataclass
class Case:
    """A call to be starved: what it does, what takes it back, what it says without memory."""

    attempt: Callable[[], int]
    undo: Callable[[], object]
    wanted: int = E["NOMEM"]
    at_least: int = 1  # allocations
    falls_back: bool = False  # it may do without one of them, such as a large frame


def starve(agent: Starved, case: Case) -> None:
    """Fail the call's first allocation, then its second, and so on until it works."""
    before = (agent.free(), agent.machine_free())
    for number in range(100):
        agent.deny(number)
        result = case.attempt()
        denied = agent.allow()
        if not denied:
            assert result >= 0
            assert number >= case.at_least, "the call has not allocated what it should"
            case.undo()
            return
        if case.falls_back and result >= 0:
            case.undo()
        else:
            assert result == case.wanted, f"allocation {number}"
        assert (agent.free(), agent.machine_free()) == before, f"allocation {number}"
    pytest.fail("it never works")


class Maker:
    """Cases in which a call returns a handle, which is deleted again."""

    def __init__(
        self, agent: Starved, name: str, *arguments: int, worker: int | None = None
    ) -> None:
        self.agent, self.name, self.arguments = agent, name, arguments
        self.worker = agent.caller if worker is None else worker
        self.handle = 0

    def attempt(self) -> int:
        result = self.agent.sys(self.name, *self.arguments, worker=self.worker)
        self.handle = result.second
        return result.value

    def undo(self) -> None:
        assert self.agent.call("cap_delete", self.handle) == 0


def fresh_account(agent: Agent) -> int:
    """An account that has no slab with room yet, so that every object takes a frame."""
    return agent.make("quota_split", agent.quota, 64 * PAGE)


@pytest.mark.parametrize(
    "name", ["endpoint_create", "notification_create", "space_create", "quota_split"]
)
def test_creating(agent: Starved, name: str) -> None:
    account = fresh_account(agent)
    maker = Maker(agent, name, account, PAGE if name == "quota_split" else 0)
    starve(agent, Case(maker.attempt, maker.undo))
    assert agent.call("cap_delete", account) == 0


def test_creating_a_thread(agent: Starved) -> None:
    account = fresh_account(agent)
    space = agent.make("space_create", agent.quota, 0)
    maker = Maker(agent, "thread_create", account, space, 50 << 8 | 50)

    def undo() -> None:
        assert agent.call("cap_delete", maker.handle) == 0
        assert agent.call("space_end", space) == 0

    starve(agent, Case(maker.attempt, undo))
    for handle in (space, account):
        assert agent.call("cap_delete", handle) == 0


@pytest.mark.parametrize("size", [PAGE, 3 * PAGE, LARGE, LARGE + PAGE])
def test_creating_memory(agent: Starved, size: int) -> None:
    maker = Maker(agent, "memory_create", agent.quota, size)
    starve(agent, Case(maker.attempt, maker.undo, falls_back=size >= LARGE))


def test_creating_paged_memory(agent: Starved) -> None:
    account, pager = fresh_account(agent), agent.make("endpoint_create", agent.quota)
    maker = Maker(agent, "memory_create", account, 1 << 30, pager)
    starve(agent, Case(maker.attempt, maker.undo))
    for handle in (account, pager):
        assert agent.call("cap_delete", handle) == 0


def test_saving_a_reply(agent: Starved) -> None:
    account = fresh_account(agent)
    endpoint = agent.make("endpoint_create", agent.quota)
    client = agent.worker(150, 150)
    assert agent.ipc("call", endpoint, worker=client) is None
    assert done(agent.ipc("receive", endpoint)).value >= 0
    # Who has received is who can save, so the agent does, and the caller is the other core's.
    maker = Maker(agent, "reply_save", account, worker=0)
    starve(agent, Case(maker.attempt, maker.undo))
    assert agent.settle(agent.threads[client])
    assert done(agent.poll(client)).value == E["DEAD"]
    agent.drop(client)
    for handle in (endpoint, account):
        assert agent.call("cap_delete", handle) == 0


@pytest.mark.parametrize("name", ["cap_copy", "cap_move", "range_slice"])
def test_a_table_that_has_to_grow(agent: Starved, name: str) -> None:
    """The first capability of a new space, and the one too many for the agent's own table."""
    notification = agent.make("notification_create", agent.quota)
    if name == "range_slice":
        memory = agent.make("memory_create", agent.quota, PAGE)
        filler = []
        starving = False
        while not starving:  # until the table is full
            agent.deny(0)
            result = agent.sys(name, memory, 0, PAGE)
            starving = agent.allow()
            if not starving:
                filler.append(result.second)
        assert result.value == E["NOMEM"]
        for handle in (*filler, memory, notification):
            assert agent.call("cap_delete", handle) == 0
        return
    space = agent.make("space_create", agent.quota, 0)
    spare = agent.make("cap_copy", notification, ALL, 0, 0)
    arguments = (spare, ALL, 0, space) if name == "cap_copy" else (spare, space)
    case = Case(lambda: agent.call(name, *arguments, worker=agent.caller), lambda: None, at_least=2)
    starve(agent, case)
    for handle in (space, notification):
        assert agent.call("cap_delete", handle) == 0
    if name == "cap_copy":
        assert agent.call("cap_delete", spare) == 0


@pytest.mark.parametrize("flags", [READ | WRITE, READ | WRITE | 16])
def test_mapping(agent: Starved, flags: int) -> None:
    memory = agent.make("memory_create", agent.quota, 2 * LARGE)
    size = 2 * LARGE
    starve(
        agent,
        Case(
            lambda: agent.call(
                "map", agent.space, memory, SPOT | flags, size, 0, worker=agent.caller
            ),
            lambda: agent.call("unmap", agent.space, SPOT, size),
            at_least=3,
        ),
    )
    assert agent.call("cap_delete", memory) == 0


@pytest.mark.parametrize("name", ["unmap", "protect"])
def test_cutting_a_mapping(agent: Starved, name: str) -> None:
    memory = agent.make("memory_create", agent.quota, 3 * LARGE)
    assert agent.call("map", agent.space, memory, SPOT | READ | 16, 3 * LARGE, 0) == 0
    middle = SPOT + LARGE + PAGE
    starve(
        agent,
        Case(
            lambda: agent.call(name, agent.space, middle, PAGE, READ, worker=agent.caller),
            lambda: None,
        ),
    )
    assert agent.peek(SPOT + LARGE) == 0
    assert agent.peek(middle) == (None if name == "unmap" else 0)
    assert agent.call("cap_delete", memory) == 0


def test_supplying_a_page(agent: Starved) -> None:
    pager = agent.make("endpoint_create", agent.quota)
    paged = agent.make("memory_create", agent.quota, 1 << 30, pager)
    source = agent.make("memory_create", agent.quota, PAGE)
    starve(
        agent,
        Case(
            lambda: agent.call("memory_supply", paged, 1 << 29, source, 0, worker=agent.caller),
            lambda: None,
            at_least=2,
        ),
    )
    for handle in (paged, pager, source):
        assert agent.call("cap_delete", handle) == 0


def test_capabilities_in_a_message(agent: Starved) -> None:
    """The receiver's table has to grow, and cannot: the message fails for both."""
    endpoint = agent.make("endpoint_create", agent.quota)
    notification = agent.make("notification_create", agent.quota)
    twin = agent.twin(150, 150)
    there = give(agent, endpoint, twin)
    filler = []
    while (handle := give(agent, notification, twin)) % PAGE != 62 * SLOT:
        filler.append(handle)

    def attempt() -> int:
        assert agent.ipc("receive", there, "size=0", worker=twin.number) is None
        sent = done(agent.ipc("send", endpoint, f"caps={notification},{notification}"))
        assert agent.settle(twin.thread)
        got = done(agent.poll(twin.number))
        assert min(got.value, 0) == sent.value
        return sent.value

    starve(agent, Case(attempt, lambda: None, wanted=E["IPCFAULT"]))
    agent.drop(twin.number)
    for handle in (endpoint, notification):
        assert agent.call("cap_delete", handle) == 0


FLD1 = b"\xd9\xe8"


@pytest.mark.parametrize("what", ["fpu", "page table"])
def test_memory_that_an_instruction_takes(agent: Starved, what: str) -> None:
    """It becomes a fault, and can be tried again."""
    endpoint = agent.make("endpoint_create", agent.quota)
    victim = Victim.build(agent, FLD1 + b"\x0f\x0b" if what == "fpu" else b"\x48\x8b\x06\x0f\x0b")
    assert agent.call("space_set_fault", victim.space, endpoint, 0) == 0
    pager = agent.make("endpoint_create", agent.quota)
    paged = agent.make("memory_create", agent.quota, PAGE, pager)
    source = agent.make("memory_create", agent.quota, PAGE)
    assert agent.call("memory_supply", paged, 0, source, 0) == 0
    assert agent.call("map", victim.space, paged, SPOT | READ, PAGE, 0) == 0
    for number in range(10):
        agent.deny(number)
        if number == 0:
            victim.start(argument=SPOT)
        else:
            assert done(agent.ipc("reply", 0)).value == 0
        assert agent.settle(victim.thread)
        denied = agent.allow()
        fault = done(agent.ipc("receive", endpoint, "timeout=0"))
        if not denied:
            break
        assert fault.words[0] == (7 if what == "fpu" else 14)
    assert number > 0
    assert fault.words[0] == 6
    victim.drop()
    for handle in (endpoint, paged, pager, source):
        assert agent.call("cap_delete", handle) == 0


@pytest.mark.machine(shared=False)
def test_a_planted_leak_is_found(machine: Machine, images: Images) -> None:
    """Nothing that was half made is given back: frame_free does nothing."""
    agent = Starved(machine, images)
    account = fresh_account(agent)
    machine.pause()
    machine.gdb.write(images.resolve("frame_free"), b"\xc3")
    machine.resume()
    maker = Maker(agent, "space_create", account, 0)
    with pytest.raises(AssertionError, match="allocation"):
        starve(agent, Case(maker.attempt, maker.undo))
