# SPDX-License-Identifier: MIT
"""One function's way with the stack: how deep it gets, and how deep it is at each call."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from capstone import x86_const as x86

from onestack.elfcheck.image import Image
from onestack.elfcheck.insn import LEAVES, WORD, effect, is_branch

RETURN_ADDRESS = 8
ABSURD_DEPTH = 1 << 16
"""A depth that no kernel has: the walk has met a loop that pushes, or data."""


@dataclass
class Walk:
    """What one function does with the stack: its own depth, its calls with the depth at each.

    The same again for what it does after it has gone to another stack.
    """

    depth: int = 0
    calls: list[tuple[int, int]] = field(default_factory=list)
    fresh_depth: int = 0
    fresh_calls: list[tuple[int, int]] = field(default_factory=list)
    returns: bool = False

    def deepen(self, state: State) -> None:
        """Note that the stack gets as deep as STATE."""
        if state.fresh:
            self.fresh_depth = max(self.fresh_depth, state.depth)
        else:
            self.depth = max(self.depth, state.depth)

    def call(self, targets: list[int], state: State) -> None:
        """Note that TARGETS are entered with the stack as in STATE."""
        calls = self.fresh_calls if state.fresh else self.calls
        calls += [(target, state.depth) for target in targets]


@dataclass(frozen=True)
class State:
    """The stack at one instruction: bytes below the return address, and where rbp points.

    FRESH on another stack than the function was entered on; DEPTH then counts from that one's top.
    """

    depth: int = 0
    frame_pointer: int | None = None
    fresh: bool = False


class Graph(Protocol):
    """What a walk asks of the call graph it is made for."""

    image: Image
    oddities: dict[int, str]

    def walk(self, address: int) -> Walk:
        """What the code at ADDRESS does."""

    def reached(self, insn: Any, caller: int) -> list[int]:
        """Where the indirect branch INSN of the function at CALLER may go."""


class Walker:
    """Follows one function's instructions and its stack pointer through every path."""

    def __init__(self, graph: Graph, start: int) -> None:
        self.graph = graph
        self.start = start
        function = graph.image.function_at(start)
        self.bounds = range(function.address, function.end) if function else range(start, start)
        self.result = Walk()
        self.seen: dict[tuple[int, bool], State] = {}
        self.todo: list[tuple[int, State]] = [(start, State())]

    def run(self) -> Walk:
        """Walk until every reachable instruction is seen at its deepest."""
        while self.todo:
            address, state = self.todo.pop()
            while address in self.graph.image.instructions and self.is_news(address, state):
                insn = self.graph.image.instructions[address]
                after = self.step(insn, state)
                if after is None:
                    break
                address, state = address + insn.size, after
                if address not in self.bounds:
                    self.leave([address], state)  # assembly that runs on into the next function
                    break
        return self.result

    def is_news(self, address: int, state: State) -> bool:
        """Is STATE deeper than any seen at ADDRESS?"""
        known = self.seen.get((address, state.fresh))
        if known is not None and known.depth >= state.depth:
            return False
        if state.depth > ABSURD_DEPTH:
            self.graph.oddities[address] = "the stack grows without end in a loop"
            return False
        self.seen[address, state.fresh] = state
        return True

    def step(self, insn: Any, state: State) -> State | None:
        """The state after INSN, None where the path ends. Records calls, queues branches."""
        if not insn.id:
            self.graph.oddities[insn.address] = "not an instruction"
            return None
        if insn.mnemonic in LEAVES:
            self.result.returns = True
            return None
        if insn.mnemonic == "ud2":
            return None
        if is_branch(insn):
            return self.branch(insn, state)
        after = self.move(insn, state)
        self.result.deepen(after)
        return after

    def branch(self, insn: Any, state: State) -> State | None:
        """Follow a call or jump."""
        operand = insn.operands[0]
        direct = operand.type == x86.X86_OP_IMM
        target = operand.imm & WORD if direct else 0
        targets = [target] if direct else self.graph.reached(insn, self.start)
        if insn.mnemonic in {"call", "callq", "lcall"}:
            return state if self.call(targets, state, direct=direct) else None
        self.leave(targets, state)
        return None if insn.mnemonic in {"jmp", "jmpq", "ljmp"} else state

    def call(self, targets: list[int], state: State, *, direct: bool) -> bool:
        """Record a call; does any of TARGETS come back?"""
        inside = replace(state, depth=state.depth + RETURN_ADDRESS)
        self.result.deepen(inside)
        self.result.call(targets, inside)
        return not direct or self.graph.walk(targets[0]).returns

    def leave(self, targets: list[int], state: State) -> None:
        """Jump to TARGETS: inside this function later in the walk, elsewhere as a call's tail."""
        for target in targets:
            if target in self.bounds:
                self.todo.append((target, state))
            else:
                self.result.call([target], state)
                self.result.returns |= self.graph.walk(target).returns

    def move(self, insn: Any, state: State) -> State:
        """What an instruction that is no branch does to rsp and rbp."""
        match effect(insn):
            case ("push", size):
                return replace(state, depth=state.depth + size)
            case ("copy", _):
                return replace(state, frame_pointer=state.depth)
            case ("restore", offset):
                return replace(state, depth=(state.frame_pointer or 0) - offset)
            case ("leave", _):
                return replace(state, depth=(state.frame_pointer or 8) - 8, frame_pointer=None)
            case ("reset", _):
                return State(fresh=True)
            case ("unknown", _):
                self.graph.oddities[insn.address] = f"rsp by {insn.mnemonic} {insn.op_str}"
        return state
