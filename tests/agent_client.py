# SPDX-License-Identifier: MIT
"""Drive `run=agent` (user/tests/agent) over the serial line: a call here is an operation there.

    agent = Agent(machine.console)
    server = agent.twin(priority=150)
    endpoint = agent.create("endpoint_create", agent.quota)
    ...
    answer = agent.ipc(server, "receive", endpoint_there)

A worker that blocks returns None; poll() tells later what became of it. Handles belong to the
space of the worker that names them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from onestack.console import Console

READY = "agent: ready"
ANSWER = re.compile(
    r"= done (-?\d+) (0x[0-9a-f]+)(?: w=([0-9a-fx,]+) caps=([0-9a-fx,]+) sum=(0x[0-9a-f]+))?"
)
FOR_EVER = 2**64 - 1
INFO_BYTES = 0x1FFFF
INFO_NOTIFIED = 1 << 25
RIGHT_ALL = 0x01FFFFFF


class Error(IntEnum):
    """kernel/abi/error.h."""

    NOSYS = -1
    BADCAP = -2
    RIGHTS = -3
    INVAL = -4
    FAULT = -5
    NOMEM = -6
    AGAIN = -7
    TIMEOUT = -8
    CANCELED = -9
    DEAD = -10
    BUSY = -11
    PRIO = -12
    OVERLAP = -13
    NOREPLY = -14
    IPCFAULT = -15


class AgentError(AssertionError):
    """The agent did not understand, or could not do what a test takes for granted."""


@dataclass(frozen=True)
class Answer:
    """What came of an operation: rax, rdx; of a message words, capabilities and the bytes' hash."""

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


@dataclass(frozen=True)
class Worker:
    """A thread that does operations, with the handles that the agent has of it."""

    index: int
    thread: int = 0
    space: int = 0
    quota: int = 0


def numbers(text: str) -> tuple[int, ...]:
    """The numbers of a list "0x1,0x2"."""
    return tuple(int(word, 0) for word in text.split(","))


def fnv(data: bytes) -> int:
    """The hash that Answer.sum is: FNV-1a, 32 bits."""
    value = 2166136261
    for byte in data:
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value


class Agent:
    """The agent of a guest that was started with `run=agent`. `me` is its own thread."""

    def __init__(self, console: Console, deadline: float = 10.0) -> None:
        self.console = console
        self.deadline = deadline
        console.expect_exact(READY, deadline)
        self.me = Worker(0)
        answer = self._done(self.ask("own 0"))
        self.space, self.thread, self.quota = answer.words[:3]

    def ask(self, line: str) -> str:
        """Send a line, return the answer's line; AgentError if it is an error."""
        self.console.send(line + "\n")
        self.console.expect(r"(?m)^(= [^\r\n]*)\r?\n", self.deadline)
        answer = self.console.match[1]
        if answer.startswith("= error"):
            raise AgentError(f"{line!r}: {answer[8:]}")
        return answer

    @staticmethod
    def _answer(text: str) -> Answer | None:
        found = ANSWER.fullmatch(text)
        if not found:
            if text != "= blocked":
                raise AgentError(f"not an answer: {text}")
            return None
        if found[3] is None:
            return Answer(int(found[1]), int(found[2], 0))
        words, caps = numbers(found[3]), numbers(found[4])
        return Answer(int(found[1]), int(found[2], 0), words, caps, int(found[5], 0))

    def _done(self, text: str) -> Answer:
        answer = self._answer(text)
        if answer is None:
            raise AgentError("it blocked")
        return answer

    # ---- workers

    def worker(self, priority: int = 150, ceiling: int = 150) -> Worker:
        """A further thread in the agent's space, above the agent."""
        return Worker(*numbers(self.ask(f"worker {priority} {ceiling}")[2:].replace(" ", ",")))

    def twin(self, priority: int = 150, ceiling: int = 150) -> Worker:
        """A thread in a space of its own."""
        return Worker(*numbers(self.ask(f"twin {priority} {ceiling}")[2:].replace(" ", ",")))

    def drop(self, worker: Worker) -> None:
        """End a worker, a twin with its space."""
        self.ask(f"drop {worker.index}")

    def poll(self, worker: Worker) -> Answer | None:
        """What became of a blocked worker's operation; None: it is still blocked."""
        return self._answer(self.ask(f"poll {worker.index}"))

    def own(self, worker: Worker) -> tuple[int, int, int]:
        """A worker's own names of its space, thread and quota."""
        words = self._done(self.ask(f"own {worker.index}")).words
        return words[0], words[1], words[2]

    # ---- operations

    def sys(self, worker: Worker, name: str | int, *arguments: int) -> Answer | None:
        """A system call other than the five with messages."""
        words = " ".join(hex(argument & FOR_EVER) for argument in arguments)
        return self._answer(self.ask(f"sys {worker.index} {name} {words}"))

    def call(self, name: str | int, *arguments: int) -> Answer:
        """A system call by the agent itself, which must not block."""
        return self._done(
            self.ask(
                f"sys 0 {name} " + " ".join(hex(argument & FOR_EVER) for argument in arguments)
            )
        )

    def create(self, name: str, *arguments: int) -> int:
        """A system call by the agent that makes a capability: its handle. AgentError if not."""
        answer = self.call(name, *arguments)
        if answer.value < 0:
            raise AgentError(f"{name}: {Error(answer.value).name}")
        return answer.second

    def give(self, worker: Worker, cap: int, rights: int = RIGHT_ALL, badge: int = 0) -> int:
        """Copy a capability of the agent's into a twin's table: its handle there."""
        return self.create("cap_copy", cap, rights, badge, worker.space)

    def ipc(
        self,
        worker: Worker,
        name: str,
        endpoint: int,
        *,
        words: Sequence[int] = (),
        label: int = 0,
        data: int = 0,
        fill: int = 0,
        size: int = 0,
        caps: Sequence[int] = (),
        timeout: int = FOR_EVER,
    ) -> Answer | None:
        """A call with a message: `data` bytes from `fill` on beyond the words, room for `size`."""
        line = f"ipc {worker.index} {name} {endpoint:#x} label={label}"
        line += f" bytes={data} fill={fill} timeout={timeout:#x}"
        if words:
            line += " w=" + ",".join(hex(word) for word in words)
        if caps:
            line += " caps=" + ",".join(hex(cap) for cap in caps)
        if size:
            line += f" size={size}"
        return self._answer(self.ask(line))

    def peek(self, worker: Worker, address: int) -> int | None:
        """A word of a worker's memory; None: it faulted."""
        answer = self._done(self.ask(f"peek {worker.index} {address:#x}"))
        return None if answer.value < 0 else answer.second

    def poke(self, worker: Worker, address: int, value: int) -> bool:
        """Write a word of a worker's memory; False: it faulted."""
        return self._done(self.ask(f"poke {worker.index} {address:#x} {value:#x}")).value == 0

    def free_bytes(self) -> int:
        """Kernel memory that belongs to no object."""
        return self.call("kernel_info", 1, 0).second

    def quota_free(self, quota: int) -> int:
        """What is left of an account."""
        return self.call("quota_info", quota).second

    def quit(self, status: int = 0) -> None:
        """End the agent, and with it the machine."""
        self.ask(f"quit {status}")
