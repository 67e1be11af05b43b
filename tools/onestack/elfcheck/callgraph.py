# SPDX-License-Identifier: MIT
"""Who calls whom, and the deepest chain of calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from onestack.bars import counted
from onestack.elfcheck.image import Image, Symbol
from onestack.elfcheck.indirect import Targets
from onestack.elfcheck.rules import StackRules, matches
from onestack.elfcheck.walk import Walk, Walker


@dataclass(frozen=True)
class Chain:
    """A chain of calls and the stack it uses, in bytes."""

    bytes: int
    path: tuple[int, ...]


class CallGraph:
    """Functions, or rather addresses that something calls or jumps to, and who calls whom."""

    def __init__(self, image: Image, rules: StackRules) -> None:
        self.image = image
        self.rules = rules
        self.targets = Targets(image, rules)
        self.cycles: list[tuple[int, ...]] = []
        self.oddities: dict[int, str] = {}
        self._walks: dict[int, Walk] = {}
        self._chains: dict[int, Chain] = {}
        self._open: list[int] = []
        self._final = {function.address for function in self.named(rules.final)}

    def named(self, patterns: Iterable[str]) -> list[Symbol]:
        """Functions whose name matches one of PATTERNS."""
        return [one for one in self.image.functions if matches(one.name, patterns)]

    def name(self, address: int) -> str:
        """A name for messages."""
        return self.image.name_of(address)

    def deepest(self) -> Chain:
        """The deepest chain on any stack, from any function that is not final."""
        best = Chain(0, (0,))
        for function in counted(self.image.functions, "stack depth of functions"):
            if function.address in self._final or self.image.is_boot(function.address):
                continue
            for chain in (self.chain(function.address), self.afresh(function.address)):
                best = max(best, chain, key=lambda each: each.bytes)
        return best

    def nested(self) -> int:
        """Bytes that one entry takes of the stack that it interrupts, less the CPU's own frame."""
        entries = self.named(self.rules.nested)
        return max((self.chain(entry.address).bytes for entry in entries), default=0)

    def last(self) -> int:
        """Bytes for the one final function that may end a chain."""
        return max((self.chain(address).bytes for address in self._final), default=0)

    def chain(self, address: int) -> Chain:
        """The deepest chain that starts with the function at ADDRESS, on its caller's stack."""
        if address in self._chains:
            return self._chains[address]
        if address in self._open:
            cycle = self._open[self._open.index(address) :]
            self.note_cycle((*cycle, address))
            return Chain(0, (address,))
        self._open.append(address)
        walk = self.walk(address)
        best = self.below(address, walk.depth, walk.calls)
        self._open.pop()
        self._chains[address] = best
        return best

    def afresh(self, address: int) -> Chain:
        """The deepest chain of what the function at ADDRESS does after it has changed stacks."""
        walk = self.walk(address)
        return self.below(address, walk.fresh_depth, walk.fresh_calls)

    def below(self, address: int, depth: int, calls: list[tuple[int, int]]) -> Chain:
        """The deepest chain that starts with ADDRESS, which makes CALLS and has DEPTH itself."""
        best = Chain(depth, (address,))
        for callee, at in calls:
            if callee in self._final and address != callee:
                continue
            chain = self.chain(callee)
            if at + chain.bytes > best.bytes:
                best = Chain(at + chain.bytes, (address, *chain.path))
        return best

    def note_cycle(self, cycle: tuple[int, ...]) -> None:
        """Keep CYCLE unless the same functions are known to form one already."""
        if set(cycle) not in [set(known) for known in self.cycles]:
            self.cycles.append(cycle)

    def walk(self, address: int) -> Walk:
        """What the code at ADDRESS does; worked out once."""
        if address not in self._walks:
            self._walks[address] = Walk()  # what a recursion meets: it does not come back
            self._walks[address] = Walker(self, address).run()
        return self._walks[address]

    def reached(self, insn: Any, caller: int) -> list[int]:
        """Where the indirect branch INSN of the function at CALLER may go."""
        return self.targets.reached(insn, caller)
