# SPDX-License-Identifier: MIT
"""Faults of different kinds, to plant into the running kernel for the sweep to find."""

from __future__ import annotations

from dataclasses import dataclass

from kernel_state import CORE_AREAS, STACK_TOPS

from onestack.elf import Images
from onestack.errors import UsageError
from onestack.machine import Machine
from onestack.patch import PatchFault

JMP_SHORT = b"\xeb"


@dataclass(frozen=True)
class DataFault(PatchFault):
    """Replace data, of which nothing is expected, by `code`."""

    def apply(self, machine: Machine, images: Images, cpu: int = 0) -> bytes:
        """Write it into the stopped guest; return what was there."""
        address = images.resolve(self.location)
        original = machine.gdb.read(address, len(self.code), cpu)
        machine.gdb.write(address, self.code, cpu)
        return original


def find(images: Images, symbol: str, mnemonic: str, operands: str = "", last: bool = False) -> int:
    """The address of the first (or last) such instruction of a function."""
    kernel = images.images[0]
    function = kernel.symbol(symbol)
    found = [
        instruction.address
        for instruction in kernel.disassemble(function.address, function.address + function.size)
        if instruction.mnemonic == mnemonic and operands in instruction.operands
    ]
    if not found:
        raise UsageError(f"{symbol} has no {mnemonic} {operands}")
    return found[-1 if last else 0]


def wrong_stack(images: Images) -> PatchFault:
    """A system call goes to the stack that is the NMI's."""
    move = b"\x48\xc7\xc4"  # mov $, %rsp: its operand is sign-extended
    top = CORE_AREAS + STACK_TOPS["NMI"] - 16
    at = find(images, "syscall_entry_0", "mov", "rsp, 0x")
    code = move + top.to_bytes(8, "little")[:4]
    return PatchFault("wrong stack", f"{at:#x}", code, expect="mov")


def clobbered_register(images: Images) -> PatchFault:
    """The NMI's way back to ring 0 leaves r12 as the handler used it."""
    at = find(images, "entry_ist", "pop", "r12")
    return PatchFault("clobbered register", f"{at:#x}", b"\x59", expect="pop")  # pop %rcx


def forgotten_window(images: Images, label: str) -> PatchFault:
    """One exit's last stretch is not known to the NMI handler: it does not rewind there."""
    first = images.resolve(label)
    table = images.range_of("__windows_start..__windows_end")
    raw = images.images[0].bytes_at(table.start, len(table))
    at = raw.index(first.to_bytes(8, "little"))
    if at % 16:
        raise UsageError(f"{label} begins no window")
    return DataFault(f"no window at {label}", f"{table.start + at:#x}", bytes(16))


def unmasking_iret(images: Images) -> PatchFault:
    """Exceptions inside the NMI handler return by IRET, which lets the next NMI in."""
    at = find(images, "nested_return", "jne")
    return PatchFault("unmasking iret", f"{at:#x}", JMP_SHORT, expect="jne", length=1)


def nest_off_by_one(images: Images) -> PatchFault:
    """A nested interrupt does not count itself out."""
    return PatchFault("nest", f"{find(images, 'irq_nested', 'dec'):#x}", b"", expect="dec")


def state_left_behind(images: Images) -> PatchFault:
    """A nested interrupt does not restore core_state."""
    at = find(images, "irq_nested", "mov", "bl", last=True)
    return PatchFault("state", f"{at:#x}", b"", expect="mov")


def forgotten_event(images: Images) -> PatchFault:
    """An NMI that struck the kernel is not recorded."""
    at = find(images, "entry_ist", "call")
    return PatchFault("not recorded", f"{at:#x}", b"", expect="call")
