# SPDX-License-Identifier: MIT
"""Single instructions, as capstone decodes them: branches, stack effects, addresses in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from capstone import x86_const as x86

WORD = (1 << 64) - 1
LEAVES = {
    "ret",
    "retq",
    "retf",
    "retfq",
    "lret",
    "lretq",
    "iretq",
    "iretd",
    "iret",
    "sysretq",
    "sysret",
}
"""Instructions that go back to whoever came."""


def is_branch(insn: Any) -> bool:
    """Is INSN a call, a jump or a loop?"""
    jumps = {x86.X86_GRP_JUMP, x86.X86_GRP_CALL, x86.X86_GRP_BRANCH_RELATIVE}
    return bool(insn.id) and not jumps.isdisjoint(insn.groups)


def static_address(insn: Any, operand: Any) -> int | None:
    """The address that a memory OPERAND of INSN names without a base register."""
    if operand.type != x86.X86_OP_MEM:
        return None
    displacement = int(operand.mem.disp)
    if operand.mem.base == x86.X86_REG_RIP:
        displacement += insn.address + insn.size
    elif operand.mem.base:
        return None
    return displacement & WORD


def constants(insn: Any) -> Iterator[int]:
    """The numbers in INSN that could be addresses."""
    for operand in insn.operands:
        if operand.type == x86.X86_OP_IMM:
            yield operand.imm & WORD
        elif insn.mnemonic == "lea" and (address := static_address(insn, operand)) is not None:
            yield address


def effect(insn: Any) -> tuple[str, int]:
    """What INSN, no branch, does to the stack pointer: a kind and a number of bytes.

    Kinds: push (by so many bytes, negative for a pop), copy (rbp = rsp), restore (rsp = rbp + n),
    leave, reset (rsp = something else: another stack), unknown, none.
    """
    if insn.mnemonic in {"push", "pushq", "pushfq", "pushf"}:
        return ("push", 8)
    if insn.mnemonic in {"pop", "popq", "popfq", "popf"}:
        to_rsp = any(is_register(operand, x86.X86_REG_RSP) for operand in insn.operands)
        return ("reset", 0) if to_rsp else ("push", -8)
    if insn.mnemonic == "leave":
        return ("leave", 0)
    if len(insn.operands) != 2 or insn.mnemonic in {"cmp", "test"}:
        return ("none", 0)
    target, source = insn.operands
    if is_register(target, x86.X86_REG_RSP):
        return to_stack_pointer(insn.mnemonic, source)
    if is_register(target, x86.X86_REG_RBP) and is_register(source, x86.X86_REG_RSP):
        return ("copy", 0) if insn.mnemonic == "mov" else ("none", 0)
    return ("none", 0)


def to_stack_pointer(name: str, source: Any) -> tuple[str, int]:
    """The effect of the instruction NAME that writes rsp from SOURCE."""
    if source.type == x86.X86_OP_IMM and name in {"sub", "add", "and"}:
        by = {"sub": source.imm, "add": -source.imm, "and": max(0, -source.imm - 8)}
        return ("push", by[name])
    if name == "lea" and not source.mem.index:
        if source.mem.base == x86.X86_REG_RSP:
            return ("push", -source.mem.disp)
        if source.mem.base == x86.X86_REG_RBP:
            return ("restore", source.mem.disp)
    if name == "mov" and is_register(source, x86.X86_REG_RBP):
        return ("restore", 0)
    if name in {"mov", "movabs", "lea", "xchg"}:
        return ("reset", 0)  # another stack: what follows is counted from its top
    return ("unknown", 0)


def is_register(operand: Any, register: int) -> bool:
    """Is OPERAND the 64-bit REGISTER?"""
    return bool(operand.type == x86.X86_OP_REG and operand.reg == register)
