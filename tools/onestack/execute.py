# SPDX-License-Identifier: MIT
"""Instructions of ours on a guest's CPU, for what no other way in reaches: its MSRs.

The CPU is stopped at the first instruction of its NMI handler, in ring 0 and awake whatever it did
before. A few bytes there are replaced, stepped, and put back, and so are all registers. The guest
sees one NMI that it did not expect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from onestack.cpu import gate_address
from onestack.deadline import Deadline
from onestack.errors import DeliveryError
from onestack.inject import MSI_NMI, NMI, msi
from onestack.machine import Machine
from onestack.registers import GENERAL, Registers

RDMSR = b"\x0f\x32"
WRMSR = b"\x0f\x30"
STORE = b"\x89\x01"  # mov %eax, (%rcx)


@contextmanager
def in_ring0(machine: Machine, cpu: int = 0) -> Iterator[None]:
    """Bring a CPU into its NMI handler for a while. The machine stands still, and does after.

    DeliveryError if another CPU stops instead.
    """
    gate = gate_address(machine, NMI, cpu)
    msi(machine, cpu, MSI_NMI)
    stop = machine.run_to(gate, Deadline(5.0))
    if stop.cpu != cpu:
        raise DeliveryError(f"the NMI for CPU {cpu} arrived on CPU {stop.cpu}")
    yield


def run(machine: Machine, code: bytes, registers: Mapping[str, int], cpu: int = 0) -> Registers:
    """Execute one instruction in the state of in_ring0(); return the registers after it."""
    before = machine.gdb.registers(cpu)
    there = machine.gdb.read(before.pc, len(code), cpu)
    try:
        machine.gdb.write(before.pc, code, cpu)
        for name, value in registers.items():
            machine.gdb.write_register(name, value, cpu)
        machine.gdb.step(cpu)
        return machine.gdb.registers(cpu)
    finally:
        machine.gdb.write(before.pc, there, cpu)
        for name in (*GENERAL, "rip", "eflags"):
            machine.gdb.write_register(name, before[name], cpu)


def read_msr(machine: Machine, number: int, cpu: int = 0) -> int:
    """Read a model-specific register. The CPU is in in_ring0()."""
    after = run(machine, RDMSR, {"rcx": number}, cpu)
    return after["rdx"] << 32 | after["rax"]


def write_msr(machine: Machine, number: int, value: int, cpu: int = 0) -> None:
    """Write a model-specific register. The CPU is in in_ring0()."""
    low, high = value & 0xFFFFFFFF, value >> 32
    run(machine, WRMSR, {"rcx": number, "rax": low, "rdx": high}, cpu)


def store32(machine: Machine, address: int, value: int, cpu: int = 0) -> None:
    """Store as the CPU itself, to its own APIC for instance. The CPU is in in_ring0()."""
    run(machine, STORE, {"rcx": address, "rax": value}, cpu)
