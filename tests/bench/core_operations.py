# SPDX-License-Identifier: MIT
"""Operations whose kernel instructions are counted core by core: what is set up, what counts.

The agent, on core 0, makes the call or has a worker of core 0 make it: that is the acting core.
Those whom it concerns live there too or, where the name ends in `.there`, on core 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from agent import Agent, Result
from agent_support import ALL, FOREVER, PAGE, READ, SPOT, WRITE, Page
from agent_victim import CODE, DATA, UD2, Victim

from onestack.spans import Counter, Span

HERE, THERE = 0, 1
ROUNDS = 4
BELOW, ABOVE, TOP = 50, 150, 160  # priorities; the agent's is between
NOWHERE = SPOT + (1 << 40)  # nothing is mapped there
LOOP = b"\xf3\x90\xeb\xfc"  # pause; jmp: under -icount the pause gives others their turn
YIELDER = b"\xb8\x04\x00\x00\x00\x0f\x05\xeb\xf7"  # mov $SYS_yield, %eax; syscall; jmp to that
PACE = 50_000  # nanoseconds, and instructions if anybody runs
PARTS = 8  # capabilities that a revoke deletes


class Stage:
    """What the operations are made with, and what has been counted of the one that runs."""

    def __init__(self, agent: Agent, counter: Counter) -> None:
        self.agent, self.counter = agent, counter
        self.page = Page(agent)
        agent.pace(PACE)
        self.spans: list[Span] = []
        self.core = HERE  # where the operation's subject lives
        self.result: Result | None = None  # of the call that was counted last

    def drop_made(self) -> None:
        """Delete the object that the counted call has made."""
        assert self.result is not None
        assert self.agent.call("cap_delete", self.result.second) == 0

    def count(self, name: str, *arguments: int, worker: int = 0) -> None:
        """Make a call, and take what was counted of it until it returned."""
        with self.counted(leg=False):
            self.result = self.agent.start(name, *arguments, worker=worker)

    @contextmanager
    def counted(self, begin: int = 0, *, leg: bool = True) -> Iterator[None]:
        """The first operation in here counts, or the first that begins at an address.

        Until its core is back in user mode, whoever runs there, or halts.
        """
        self.counter.arm(begin, leg=leg)
        yield
        self.spans.append(self.counter.span())

    def put_to_sleep(self, worker: int) -> None:
        """One below the agent comes to its call while that waits: let it, or it is what is counted.

        The agent waits, as before each job, until what was begun before is over (its pace).
        """
        assert self.agent.start("sleep", FOREVER, worker=worker) is None
        assert self.page.info(self.agent.threads[worker]).state == "sleeping"

    @contextmanager
    def worker(self, priority: int, core: int) -> Iterator[int]:
        """A thread in the agent's space that does as it is told."""
        worker = self.agent.worker(priority, priority, core)
        yield worker
        self.agent.drop(worker)

    @contextmanager
    def victim(self, code: bytes, priority: int, core: int) -> Iterator[Victim]:
        """A thread in a space of its own that has not begun."""
        victim = Victim.build(self.agent, code, 1, priority)
        assert self.agent.call("thread_set_affinity", victim.thread, core) == 0
        yield victim
        victim.drop()

    @contextmanager
    def made(self, name: str, *arguments: int) -> Iterator[int]:
        """An object; from the agent's account if nothing else is said."""
        handle = self.agent.make(name, *(arguments or (self.agent.quota,)))
        yield handle
        self.agent.call("cap_delete", handle)


Body = Callable[[Stage], None]
OPERATIONS: dict[str, tuple[Body, int]] = {}


def operation(name: str, *, there: bool = False) -> Callable[[Body], Body]:
    """Declare one; with `there` also with its subject on another core."""

    def declare(body: Body) -> Body:
        OPERATIONS[name] = body, HERE
        if there:
            OPERATIONS[f"{name}.there"] = body, THERE
        return body

    return declare


@operation("syscall.null")
def null(stage: Stage) -> None:
    for _ in range(ROUNDS):
        stage.count("null")


@operation("syscall.slow")
def slow(stage: Stage) -> None:
    for _ in range(ROUNDS):
        stage.count("clock")


# ---- messages, signals, time


def exchange(stage: Stage, counted: str) -> None:
    """A client here calls a server; one direction counts, until the other runs."""

    def act(name: str, worker: int) -> None:
        with stage.counted() if name == counted else nullcontext():
            stage.agent.ipc(name, endpoint, worker=worker)

    with (
        stage.made("endpoint_create") as endpoint,
        stage.worker(ABOVE, HERE if counted == "call" else stage.core) as client,
        stage.worker(TOP, stage.core if counted == "call" else HERE) as server,
    ):
        stage.agent.ipc("receive", endpoint, worker=server)
        for _ in range(ROUNDS):
            act("call", client)
            stage.agent.poll(server)
            act("reply_receive", server)
            stage.agent.poll(client)


@operation("ipc.call", there=True)
def call(stage: Stage) -> None:
    exchange(stage, "call")


@operation("ipc.reply_receive", there=True)
def reply_receive(stage: Stage) -> None:
    exchange(stage, "reply_receive")


@operation("signal.nobody")
def signal_nobody(stage: Stage) -> None:
    with stage.made("notification_create") as bell:
        for _ in range(ROUNDS):
            stage.count("signal", bell, 1)


@operation("signal.wake", there=True)
def signal_wake(stage: Stage) -> None:
    """A waiter above the agent; here it runs at once."""
    with stage.made("notification_create") as bell, stage.worker(ABOVE, stage.core) as waiter:
        for _ in range(ROUNDS):
            assert stage.agent.start("wait", bell, FOREVER, worker=waiter) is None
            with stage.counted():
                stage.agent.call("signal", bell, 1)
            stage.agent.poll(waiter)


@operation("yield.process")
def yield_process(stage: Stage) -> None:
    """To a thread of the same priority in another space."""
    with stage.victim(YIELDER, stage.page.info(0).priority, stage.core) as victim:
        assert stage.agent.call("thread_start", victim.thread, CODE, 0, 0) == 0
        for _ in range(ROUNDS):
            with stage.counted():
                stage.agent.call("yield")


@operation("cancel", there=True)
def cancel(stage: Stage) -> None:
    with stage.worker(BELOW, stage.core) as sleeper:
        for _ in range(ROUNDS):
            stage.put_to_sleep(sleeper)
            stage.count("thread_cancel", stage.agent.threads[sleeper])


# ---- faults


@operation("fault.handler")
def fault(stage: Stage) -> None:
    """To the thread's own handler."""
    for _ in range(ROUNDS):
        with stage.counted():
            stage.agent.peek(NOWHERE)


@operation("fault.endpoint", there=True)
def fault_endpoint(stage: Stage) -> None:
    """Of a thread here, to whoever receives."""
    agent = stage.agent
    with stage.made("endpoint_create") as endpoint, stage.worker(TOP, stage.core) as handler:
        for _ in range(ROUNDS):
            with stage.victim(UD2, ABOVE, HERE) as victim:
                assert agent.call("space_set_fault", victim.space, endpoint, 0) == 0
                agent.ipc("receive", endpoint, worker=handler)
                with stage.counted(CODE):
                    agent.call("thread_start", victim.thread, CODE, 0, 0)
                    agent.poll(handler)


# ---- memory


@operation("map", there=True)
def map_page(stage: Stage) -> None:
    _mapped(stage, "map")


@operation("unmap", there=True)
def unmap_page(stage: Stage) -> None:
    """In a space that one thread has, which has used the page's neighbour."""
    _mapped(stage, "unmap")


@operation("unmap.everywhere")
def unmap_everywhere(stage: Stage) -> None:
    """The same after that thread has been on every core and left: `protect` asked them, once."""
    _mapped(stage, "unmap", stage.agent.cores)


@operation("protect", there=True)
def protect_page(stage: Stage) -> None:
    _mapped(stage, "protect")


def _mapped(stage: Stage, counted: str, visits: int = 0) -> None:
    agent, at = stage.agent, DATA + 16 * PAGE
    calls = {"map": (at | READ | WRITE, PAGE, 0), "protect": (at, PAGE, READ), "unmap": (at, PAGE)}
    with (
        stage.victim(LOOP, BELOW, stage.core) as victim,
        stage.made("memory_create", agent.quota, PAGE) as memory,
    ):
        assert agent.call("thread_start", victim.thread, CODE, 0, 0) == 0
        for core in (*range(visits), stage.core):
            assert agent.call("thread_set_affinity", victim.thread, core) == 0
        for _ in range(ROUNDS):
            for name, arguments in calls.items():
                whole = (victim.space, *((memory,) if name == "map" else ()), *arguments)
                (stage.count if name == counted else agent.call)(name, *whole)


# ---- threads


@operation("thread.create")
def thread_create(stage: Stage) -> None:
    agent = stage.agent
    for _ in range(ROUNDS):
        stage.count("thread_create", agent.quota, agent.space, BELOW << 8 | BELOW)
        stage.drop_made()


@operation("thread.start", there=True)
def thread_start(stage: Stage) -> None:
    for _ in range(ROUNDS):
        with stage.victim(LOOP, BELOW, stage.core) as victim:
            stage.count("thread_start", victim.thread, CODE, 0, 0)


@operation("thread.end", there=True)
def thread_end(stage: Stage) -> None:
    """Of a sleeper in the agent's space."""
    for _ in range(ROUNDS):
        with stage.worker(BELOW, stage.core) as sleeper:
            stage.put_to_sleep(sleeper)
            stage.count("thread_end", stage.agent.threads[sleeper])


@operation("thread.priority", there=True)
def thread_priority(stage: Stage) -> None:
    with stage.victim(LOOP, BELOW, stage.core) as victim:
        assert stage.agent.call("thread_start", victim.thread, CODE, 0, 0) == 0
        for priority in range(BELOW - ROUNDS, BELOW):
            stage.count("thread_set_priority", victim.thread, priority)


@operation("thread.suspend", there=True)
def thread_suspend(stage: Stage) -> None:
    with stage.victim(LOOP, BELOW, stage.core) as victim:
        assert stage.agent.call("thread_start", victim.thread, CODE, 0, 0) == 0
        for _ in range(ROUNDS):
            stage.count("thread_suspend", victim.thread)
            assert stage.agent.call("thread_resume", victim.thread) == 0


@operation("thread.info", there=True)
def thread_info(stage: Stage) -> None:
    with stage.victim(LOOP, BELOW, stage.core) as victim:
        for _ in range(ROUNDS):
            stage.count("thread_info", victim.thread, stage.page.at)


@operation("migrate.send", there=True)
def migrate(stage: Stage) -> None:
    """Send a ready thread to another core; with `.there` fetch one from it."""
    away = THERE - stage.core if stage.agent.cores > 1 else HERE
    with stage.victim(LOOP, BELOW, stage.core) as victim:
        assert stage.agent.call("thread_start", victim.thread, CODE, 0, 0) == 0
        for _ in range(ROUNDS):
            stage.count("thread_set_affinity", victim.thread, away)
            assert stage.agent.call("thread_set_affinity", victim.thread, stage.core) == 0


# ---- capabilities and objects


@operation("cap.copy")
def cap_copy(stage: Stage) -> None:
    _copies(stage, "cap_copy")


@operation("cap.delete")
def cap_delete(stage: Stage) -> None:
    _copies(stage, "cap_delete")


def _copies(stage: Stage, counted: str) -> None:
    agent = stage.agent
    with stage.made("endpoint_create") as endpoint:
        for _ in range(ROUNDS):
            if counted == "cap_copy":
                stage.count("cap_copy", endpoint, ALL, 0, 0)
                stage.drop_made()
            else:
                stage.count("cap_delete", agent.make("cap_copy", endpoint, ALL, 0, 0))


@operation("cap.revoke")
def cap_revoke(stage: Stage) -> None:
    """Of eight copies."""
    with stage.made("endpoint_create") as endpoint:
        for _ in range(ROUNDS):
            for _ in range(PARTS):
                stage.agent.make("cap_copy", endpoint, ALL, 0, 0)
            stage.count("cap_revoke", endpoint)


def _object(name: str, create: str, *more: int) -> None:
    """Making one, and deleting its last capability."""

    def creating(stage: Stage) -> None:
        for _ in range(ROUNDS):
            stage.count(create, stage.agent.quota, *more)
            stage.drop_made()

    def deleting(stage: Stage) -> None:
        for _ in range(ROUNDS):
            stage.count("cap_delete", stage.agent.make(create, stage.agent.quota, *more))

    OPERATIONS[f"{name}.create"] = creating, HERE
    OPERATIONS[f"{name}.delete"] = deleting, HERE


_object("endpoint", "endpoint_create")
_object("memory", "memory_create", PAGE)
_object("space", "space_create", 0)


@operation("space.end", there=True)
def space_end(stage: Stage) -> None:
    """With two mappings and a thread that runs."""
    for _ in range(ROUNDS):
        with stage.victim(LOOP, BELOW, stage.core) as victim:
            assert stage.agent.call("thread_start", victim.thread, CODE, 0, 0) == 0
            stage.count("space_end", victim.space)


@operation("quota.info")
def quota_info(stage: Stage) -> None:
    for _ in range(ROUNDS):
        stage.count("quota_info", stage.agent.quota)
