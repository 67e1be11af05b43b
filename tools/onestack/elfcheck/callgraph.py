# SPDX-License-Identifier: MIT
"""Who calls whom, directly and through pointers, and the deepest chain of calls."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from capstone import x86_const as x86

from onestack.elfcheck.image import Image
from onestack.elfcheck.insn import WORD, constants, is_branch, static_address
from onestack.elfcheck.rules import StackRules
from onestack.elfcheck.walk import Walk, Walker

LOOK_BACK = 24
"""Instructions before an indirect call among which its register's definition is sought."""


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
        self.cycles: list[tuple[int, ...]] = []
        self.oddities: dict[int, str] = {}
        self._walks: dict[int, Walk] = {}
        self._chains: dict[int, Chain] = {}
        self._open: list[int] = []
        self._final = self._named(rules.final)
        self._fresh = self._named(rules.fresh)

    def _named(self, patterns: tuple[str, ...]) -> set[int]:
        return {symbol.address for symbol in self.image.functions if matches(symbol.name, patterns)}

    def name(self, address: int) -> str:
        """A name for messages."""
        return self.image.name_of(address)

    def deepest(self) -> Chain:
        """The deepest chain from any function that is not final."""
        boot = {section.index for section in self.image.sections if section.boot}
        starts = [
            function.address
            for function in self.image.functions
            if function.section not in boot and function.address not in self._final
        ]
        return max(map(self.chain, starts), key=lambda chain: chain.bytes, default=Chain(0, (0,)))

    def extra(self) -> int:
        """Bytes for nested handlers and for the one final function that may end a chain."""
        nested = sum(
            self.chain(symbol.address).bytes
            for symbol in self.image.functions
            if symbol.name in self.rules.nested
        )
        last = max((self.chain(address).bytes for address in self._final), default=0)
        return nested + last

    def chain(self, address: int) -> Chain:
        """The deepest chain that starts with the function at ADDRESS."""
        if address in self._chains:
            return self._chains[address]
        if address in self._open:
            cycle = self._open[self._open.index(address) :]
            self.note_cycle((*cycle, address))
            return Chain(0, (address,))
        self._open.append(address)
        walk = self.walk(address)
        best = Chain(walk.depth, (address,))
        for callee, depth in walk.calls:
            if callee in self._fresh or (callee in self._final and address != callee):
                continue
            below = self.chain(callee)
            if depth + below.bytes > best.bytes:
                best = Chain(depth + below.bytes, (address, *below.path))
        self._open.pop()
        self._chains[address] = best
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

    @cached_property
    def address_taken(self) -> list[int]:
        """Functions whose address is in data or is an operand other than a branch's target."""
        starts = {symbol.address for symbol in self.image.functions}
        taken = set()
        for section in self.image.sections:
            if not section.executable:
                taken |= starts.intersection(self.image.words_at(section.address))
        for insn in self.image.instructions.values():
            if insn.id and not is_branch(insn):
                taken |= starts.intersection(constants(insn))
        return sorted(taken)

    def reached(self, insn: Any, caller: int) -> list[int]:
        """Where the indirect call or jump INSN in the function at CALLER may go."""
        table = self.table_of(insn, caller)
        if table:
            return table
        name = self.image.function_at(caller)
        for pattern, callees in self.rules.indirect.items():
            if name is not None and fnmatchcase(name.name, pattern):
                return [
                    symbol.address
                    for symbol in self.image.functions
                    if matches(symbol.name, callees)
                ]
        return self.address_taken

    def table_of(self, insn: Any, caller: int) -> list[int]:
        """The code addresses in the named object that INSN takes its target from, if it shows."""
        operand = insn.operands[0]
        source = insn
        if operand.type == x86.X86_OP_REG:
            found = self.definition(insn, operand.reg, caller)
            if found is None:
                return []
            source = found
            operand = source.operands[1]
        if operand.type == x86.X86_OP_IMM:
            return [operand.imm & WORD]
        address = static_address(source, operand)
        if address is None:
            return []
        return self.entries_at(address, caller)

    def definition(self, insn: Any, register: int, caller: int) -> Any:
        """The mov, a little before INSN on every path to it, that set REGISTER; None if unsure."""
        addresses = self.image.addresses
        last = bisect.bisect_left(addresses, insn.address)
        after = insn
        for at in reversed(addresses[max(0, last - LOOK_BACK) : last]):
            before = self.image.instructions[at]
            unsure = not before.id or is_branch(before) or after.address in self.joins
            if at < caller or unsure:
                return None
            if register in before.regs_access()[1]:
                plain = before.mnemonic in {"mov", "movabs"} and len(before.operands) == 2
                return before if plain else None
            after = before
        return None

    @cached_property
    def joins(self) -> set[int]:
        """Addresses that something may jump to."""
        direct = {
            insn.operands[0].imm & WORD
            for insn in self.image.instructions.values()
            if is_branch(insn) and insn.operands[0].type == x86.X86_OP_IMM
        }
        return direct.union(
            *(
                self.image.words_at(section.address)
                for section in self.image.sections
                if not section.executable
            )
        )

    def entries_at(self, address: int, caller: int) -> list[int]:
        """Code addresses in the constant object at ADDRESS, or in CALLER's jump table there."""
        section = self.image.section_at(address)
        if section is None or section.writable:
            return []
        for symbol in self.image.symbols:
            if symbol.kind == "STT_OBJECT" and symbol.address <= address < symbol.end:
                words = self.image.words_at(symbol.address)[: symbol.size // 8]
                return sorted(filter(self.is_code, set(words)))
        words = list(itertools.takewhile(self.is_code, self.image.words_at(address)))
        function = self.image.function_at(caller)
        inside = [word for word in words if function and function.address <= word < function.end]
        return sorted(set(inside or words))

    def is_code(self, address: int) -> bool:
        """Is there an instruction at ADDRESS?"""
        return address in self.image.instructions


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Does NAME match one of PATTERNS, as in a shell?"""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
