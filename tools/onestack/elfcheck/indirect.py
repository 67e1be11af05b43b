# SPDX-License-Identifier: MIT
"""Where an indirect call or jump may go."""

from __future__ import annotations

import bisect
import itertools
from functools import cached_property
from typing import Any

from capstone import x86_const as x86

from onestack.elfcheck.image import Image
from onestack.elfcheck.insn import LEAVES, WORD, constants, is_branch, static_address
from onestack.elfcheck.layout import ENTRY_END, ENTRY_START
from onestack.elfcheck.rules import StackRules, matches

LOOK_BACK = 24
"""Instructions before an indirect call among which its register's definition is sought."""


class Targets:
    """Resolves indirect branches: by the constant table they read, by rule, or by default."""

    def __init__(self, image: Image, rules: StackRules) -> None:
        self.image = image
        self.rules = rules
        self.used_rules: set[str] = set()

    def reached(self, insn: Any, caller: int) -> list[int]:
        """Where the indirect branch INSN in the function at CALLER may go."""
        table = self.table_of(insn, caller)
        if table is not None:
            return table
        function = self.image.function_at(caller)
        for pattern, callees in self.rules.indirect.items():
            if function is not None and matches(function.name, [pattern]):
                self.used_rules.add(pattern)
                return [one.address for one in self.image.functions if matches(one.name, callees)]
        return self.address_taken

    @cached_property
    def address_taken(self) -> list[int]:
        """Functions whose address is in data or is an operand other than a branch's target.

        Without the entry stubs, which only the CPU and the exit code go to, and boot code.
        """
        first = self.image.address_of(ENTRY_START) or 0
        last = self.image.address_of(ENTRY_END) or 0
        starts = {
            function.address
            for function in self.image.functions
            if not first <= function.address < last and not self.image.is_boot(function.address)
        }
        taken = set()
        for section in self.image.sections:
            if not section.executable:
                taken |= starts.intersection(self.image.words_at(section.address))
        for insn in self.image.instructions.values():
            if insn.id and not is_branch(insn):
                taken |= starts.intersection(constants(insn))
        return sorted(taken)

    def table_of(self, insn: Any, caller: int) -> list[int] | None:
        """The code addresses in the constant table that INSN's target comes from, if it shows."""
        operand = insn.operands[0]
        source = insn
        if operand.type == x86.X86_OP_REG:
            found = self.definition(insn, operand.reg, caller)
            if found is None:
                return None
            source = found
            operand = source.operands[1]
        if operand.type == x86.X86_OP_IMM:
            return [operand.imm & WORD]
        address = static_address(source, operand)
        return self.entries_at(address, caller) if address is not None else None

    def definition(self, insn: Any, register: int, caller: int) -> Any:
        """The mov, a little before INSN on every path to it, that set REGISTER; None if unsure."""
        addresses = self.image.addresses
        last = bisect.bisect_left(addresses, insn.address)
        after = insn
        for at in reversed(addresses[max(0, last - LOOK_BACK) : last]):
            before = self.image.instructions[at]
            if at < caller or after.address in self.joins or not falls_through(before):
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
        data = (part for part in self.image.sections if not part.executable)
        return direct.union(*(self.image.words_at(part.address) for part in data))

    def entries_at(self, address: int, caller: int) -> list[int] | None:
        """Code addresses in the constant object at ADDRESS, or in CALLER's jump table there.

        Of an array of structures only the member that ADDRESS names.
        """
        section = self.image.section_at(address)
        if section is None or section.writable:
            return None
        for symbol in self.image.symbols:
            if symbol.kind == "STT_OBJECT" and symbol.address <= address < symbol.end:
                words = self.image.words_at(symbol.address)[: symbol.size // 8]
                stride = self.image.element_sizes.get(symbol.address, 8)
                if stride % 8 == 0 and (address - symbol.address) % 8 == 0:
                    words = words[(address - symbol.address) % stride // 8 :: stride // 8]
                return sorted(filter(self.is_code, set(words)))
        words = self.image.words_at(address)
        function = self.image.function_at(caller)
        if function is not None:  # a switch never goes to its function's first instruction
            inside = range(function.address + 1, function.end)
            switch = list(itertools.takewhile(inside.__contains__, words))
            if switch:
                return switch
        return sorted(set(itertools.takewhile(self.is_code, words)))

    def is_code(self, address: int) -> bool:
        """Is there an instruction at ADDRESS?"""
        return address in self.image.instructions


def falls_through(insn: Any) -> bool:
    """Does INSN go on to the next instruction with the registers it found?"""
    ends = {"jmp", "call", "ud2", "hlt"}
    return bool(insn.id) and insn.mnemonic not in ends | LEAVES
