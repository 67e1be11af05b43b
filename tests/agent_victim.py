# SPDX-License-Identifier: MIT
"""A space of its own with a few instructions in it, for threads that fault."""

from __future__ import annotations

from dataclasses import dataclass

from agent import Agent
from agent_support import EXECUTE, PAGE, READ, SPOT, WRITE, Info, Page

CODE, DATA = 0x10000, 0x20000  # in the new space
UD2 = b"\x0f\x0b"
# 1: mov $1024, %ecx; 2: loop 2b; pause; jmp 1b. Where cores run in turns, a pause ends a turn, and
# costs QEMU as much as some hundred instructions.
LOOP = b"\xb9\0\4\0\0\xe2\xfe\xf3\x90\xeb\xf5"
LOAD = b"\x48\x8b\x06"  # mov (%rsi), %rax
STORE = b"\x48\x89\x06"  # mov %rax, (%rsi)
SYSCALL = b"\x0f\x05"
# struct thread_registers
REGISTERS = ["r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8"]
REGISTERS += ["rdi", "rsi", "rdx", "rcx", "rax", "rip", "rflags", "rsp", "fs", "gs"]


def load_number(register: int, value: int) -> bytes:
    """Instruction: movabs $value, %register (0 to 7: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi)."""
    return bytes((0x48, 0xB8 + register)) + value.to_bytes(8, "little")


@dataclass
class Victim:
    """A thread in that space, and ways to look at it."""

    agent: Agent
    space: int
    thread: int
    page: Page  # the agent's, for structures

    @classmethod
    def build(cls, agent: Agent, code: bytes, slot: int = 0, priority: int = 150) -> Victim:
        """Code at CODE, a page of data at DATA, a thread that has not begun.

        Victims at the same time have different slots.
        """
        page = Page(agent, SPOT + slot * PAGE)
        space = agent.make("space_create", agent.quota, 0)
        text = agent.make("memory_create", agent.quota, PAGE)
        data = agent.make("memory_create", agent.quota, PAGE)
        spot = SPOT + (1 << 33)
        assert agent.call("map", agent.space, text, spot | READ | WRITE, PAGE, 0) == 0
        padded = code.ljust(-(-len(code) // 8) * 8, b"\x90")
        for i in range(0, len(padded), 8):
            assert agent.poke(spot + i, int.from_bytes(padded[i : i + 8], "little"))
        assert agent.call("unmap", agent.space, spot, PAGE) == 0
        assert agent.call("map", space, text, CODE | READ | EXECUTE, PAGE, 0) == 0
        assert agent.call("map", space, data, DATA | READ | WRITE, PAGE, 0) == 0
        for memory in (text, data):  # the space owns what it consists of
            assert agent.call("cap_move", memory, space) == 0
        thread = agent.make("thread_create", agent.quota, space, priority << 8 | priority)
        agent.home(thread)
        return cls(agent, space, thread, page)

    def start(self, argument: int = DATA) -> None:
        """It runs until it waits or has ended: it is above the agent."""
        rsp = DATA + PAGE
        assert self.agent.call("thread_start", self.thread, CODE, rsp, argument) == 0
        self.agent.call("yield")
        self.agent.settle(self.thread)

    def info(self) -> Info:
        return self.page.info(self.thread)

    def registers(self) -> dict[str, int]:
        assert self.agent.call("thread_get_registers", self.thread, self.page.at) == 0
        return dict(zip(REGISTERS, self.page.read(len(REGISTERS)), strict=True))

    def set_registers(self, registers: dict[str, int]) -> int:
        self.page.write(registers[name] for name in REGISTERS)
        return self.agent.call("thread_set_registers", self.thread, self.page.at)

    def drop(self) -> None:
        self.agent.call("space_end", self.space)
        for handle in (self.space, self.thread, self.page.memory):
            self.agent.call("cap_delete", handle)
