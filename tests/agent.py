# SPDX-License-Identifier: MIT
"""The user program `agent`, driven over the console: single system calls in the running guest."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from onestack.machine import Machine

ANSWER = r"(?m)^= ([^\r\n]*)[\r\n]"
DONE = re.compile(r"done (-?\d+) (0x\w+)(?: w=(\S+) caps=(\S+) sum=(0x\w+))?")
READY = "agent: ready"
PATIENCE = 30.0  # seconds for an answer: who needs them hangs
LIMIT = 200_000_000  # nanoseconds for what a race has to be in time for

FOR_EVER = 2**64 - 1
RIGHT_ALL = 0x01FFFFFF
INFO_BYTES = 0x1FFFF

# kernel/abi/error.h
E_BADCAP, E_RIGHTS, E_INVAL, E_FAULT, E_NOMEM, E_AGAIN = -2, -3, -4, -5, -6, -7
E_TIMEOUT, E_CANCELED, E_DEAD, E_BUSY, E_PRIO, E_OVERLAP = -8, -9, -10, -11, -12, -13


class AgentError(AssertionError):
    """The agent did not understand, or blocked where it should not."""


@dataclass(frozen=True)
class Result:
    """What a system call returned: rax, rdx; of a message its words, handles, hash of the bytes."""

    value: int
    second: int
    words: tuple[int, ...] = ()
    caps: tuple[int, ...] = ()
    sum: int = 0

    @property
    def label(self) -> int:
        """A received message's."""
        return self.value >> 32 if self.value > 0 else 0

    @property
    def bytes(self) -> int:
        """How many a received message had beyond its words."""
        return self.value & INFO_BYTES if self.value > 0 else 0


def fnv(data: bytes) -> int:
    """The hash that Result.sum is: FNV-1a, 32 bits."""
    value = 2166136261
    for byte in data:
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value


@dataclass(frozen=True)
class Twin:
    """A worker in a space of its own: its number, and our handles of what it is made of."""

    number: int
    thread: int
    space: int
    quota: int


class Agent:
    """A session. Worker 0 is the agent itself, whose calls must not block.

    On a machine with several cores the agent stays on core 0, and those whom it makes live on the
    others in turn.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.limit = LIMIT
        self.cores = machine.spec.cores
        self.threads: dict[int, int] = {}  # by worker: our handle of its thread
        self.space, self.thread, self.quota = self.own(0)
        self.at_first = self.free()
        self._homes = itertools.cycle(range(1, self.cores) or [0])
        if self.cores > 1:
            self.make("thread_set_affinity", self.thread, 0)

    def ask(self, line: str) -> str:
        """Send a line; what is answered, without its mark. AgentError if that is an error."""
        self.machine.console.send_line(line)
        self.machine.console.expect(ANSWER, PATIENCE)
        answer = self.machine.console.match[1]
        if answer.startswith("error"):
            raise AgentError(f"{line}: {answer}")
        return answer

    def _job(self, line: str) -> Result | None:
        answer = self.ask(line)
        if answer == "blocked":
            return None
        found = DONE.fullmatch(answer)
        if found is None:
            raise AgentError(f"{line}: {answer}")
        if found[3] is None:
            return Result(int(found[1]), int(found[2], 0))
        words, caps = (tuple(int(n, 0) for n in found[i].split(",")) for i in (3, 4))
        return Result(int(found[1]), int(found[2], 0), words, caps, int(found[5], 0))

    def _done(self, line: str) -> Result:
        result = self._job(line)
        if result is None:
            raise AgentError(f"{line}: blocked")
        return result

    def own(self, worker: int) -> tuple[int, int, int]:
        """A worker's own space, thread and quota, as handles of its own space."""
        space, thread, quota, *_ = self._done(f"own {worker}").words
        return space, thread, quota

    def hardware(self) -> tuple[int, int, int]:
        """The agent's interrupt lines, I/O ports and device memory."""
        *_, lines, ports, memory = self._done("own 0").words
        return lines, ports, memory

    def start(self, name: str, *arguments: int, worker: int = 0) -> Result | None:
        """Make a system call; None if it blocks."""
        return self._job(f"sys {worker} {name} " + " ".join(map(str, arguments)))

    def sys(self, name: str, *arguments: int, worker: int = 0) -> Result:
        """Make a system call that does not block."""
        return self._done(f"sys {worker} {name} " + " ".join(map(str, arguments)))

    def call(self, name: str, *arguments: int, worker: int = 0) -> int:
        """The same: rax."""
        return self.sys(name, *arguments, worker=worker).value

    def make(self, name: str, *arguments: int, worker: int = 0) -> int:
        """Make a call that has to work and returns something in rdx: that."""
        result = self.sys(name, *arguments, worker=worker)
        if result.value < 0:
            raise AgentError(f"{name}{arguments}: error {result.value}")
        return result.second

    def ipc(self, name: str, endpoint: int, *options: str, worker: int = 0) -> Result | None:
        """Send, receive and so on, with the agent's options; None if it blocks."""
        return self._job(f"ipc {worker} {name} {endpoint} " + " ".join(options))

    def poll(self, worker: int) -> Result | None:
        """What a call that blocked has come to; None: still blocked."""
        return self._job(f"poll {worker}")

    def peek(self, address: int, worker: int = 0) -> int | None:
        """A word of memory; None if the access faults."""
        result = self._done(f"peek {worker} {address}")
        return None if result.value else result.second

    def start_peek(self, address: int, worker: int) -> Result | None:
        """The same by a worker that may be blocked by it."""
        return self._job(f"peek {worker} {address}")

    def poke(self, address: int, value: int, worker: int = 0) -> bool:
        """Write a word; False if the access faults."""
        return self._done(f"poke {worker} {address} {value}").value == 0

    def worker(self, priority: int, ceiling: int, core: int | None = None) -> int:
        """A new worker in the agent's space: its number."""
        number, thread = (int(n, 0) for n in self.ask(f"worker {priority} {ceiling}").split())
        self.threads[number] = thread
        self._place(number, core)
        return number

    def twin(self, priority: int, ceiling: int, core: int | None = None) -> Twin:
        """A new worker in a space of its own."""
        twin = Twin(*(int(n, 0) for n in self.ask(f"twin {priority} {ceiling}").split()))
        self._place(twin.number, core)
        return twin

    def _place(self, worker: int, core: int | None) -> None:
        if self.cores > 1:
            home = next(self._homes) if core is None else core
            if self.ask(f"place {worker} {home}") != "0":
                raise AgentError(f"worker {worker} cannot live on core {home}")

    def home(self, thread: int) -> None:
        """Give a thread that has not begun a core: another than the agent's if there is one."""
        if self.cores > 1:
            self.make("thread_set_affinity", thread, next(self._homes))

    def hold(self, worker: int) -> int:
        """Its next job does not begin before the word at the returned address is cleared."""
        return int(self.ask(f"hold {worker}"), 0)

    def pace(self, nanoseconds: int) -> None:
        """Let jobs begin so long after their lines: what a line sets going is over then."""
        self.ask(f"pace {nanoseconds}")

    def settle(self, thread: int) -> bool:
        """Let a thread on another core run until it blocks or gets no time; False: it runs on."""
        return self.cores == 1 or self.ask(f"settle {thread}") == "1"

    def drop(self, worker: int) -> None:
        """End a worker."""
        self.ask(f"drop {worker}")

    def has_back(self, wanted: int) -> bool:
        """Whether its account soon has so many bytes: other cores have to pass a clean point."""
        for _ in range(100 if self.cores > 1 else 1):
            if self.free() == wanted:
                return True
            self.start("sleep", 1_000_000)
        return False

    def free(self, quota: int | None = None) -> int:
        """Bytes left in an account (the agent's own)."""
        return self.make("quota_info", self.quota if quota is None else quota)
