# SPDX-License-Identifier: MIT
"""What the gdbstub does not tell about a CPU, read off the human monitor."""

from __future__ import annotations

import re
from dataclasses import dataclass

from onestack.errors import OnestackError, ProtocolError
from onestack.machine import Machine

EFER_LMA = 1 << 10
PIN = re.compile(r"pin (\d+) +0x[0-9a-f]+ dest=\S+ vec=(\d+) .*? (edge|level) +(masked)?")
LVT1 = re.compile(r"^LVT1\s+0x([0-9a-f]+)", re.MULTILINE)


class GateError(OnestackError):
    """The CPU has no handler for a vector."""


@dataclass(frozen=True)
class CpuState:
    """Registers that only the monitor shows."""

    idt_base: int
    idt_limit: int
    gdt_base: int
    gdt_limit: int
    task_base: int
    halted: bool
    efer: int

    @property
    def long_mode(self) -> bool:
        """Whether EFER.LMA is set."""
        return bool(self.efer & EFER_LMA)


def _hmp(machine: Machine, line: str, cpu: int) -> str:
    answer = machine.qmp.execute("human-monitor-command", command_line=line, cpu_index=cpu)
    return str(answer)


def _number(name: str, text: str, pattern: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise ProtocolError(f"the monitor shows no {name}")
    return int(found[1], 16)


def cpu_state(machine: Machine, cpu: int = 0) -> CpuState:
    """Read a CPU's table registers and whether it is halted. The machine may be running."""
    text = _hmp(machine, "info registers", cpu)
    return CpuState(
        idt_base=_number("IDT", text, r"^IDT= +([0-9a-f]+)"),
        idt_limit=_number("IDT", text, r"^IDT= +[0-9a-f]+ ([0-9a-f]+)"),
        gdt_base=_number("GDT", text, r"^GDT= +([0-9a-f]+)"),
        gdt_limit=_number("GDT", text, r"^GDT= +[0-9a-f]+ ([0-9a-f]+)"),
        task_base=_number("TR", text, r"^TR =[0-9a-f]+ ([0-9a-f]+)"),
        halted=bool(_number("HLT", text, r"HLT=([01])")),
        efer=_number("EFER", text, r"^EFER=([0-9a-f]+)"),
    )


def gate_address(machine: Machine, vector: int, cpu: int = 0) -> int:
    """The handler's address in the CPU's IDT gate for `vector`. The machine stands still.

    A task gate's is where its task goes on. GateError if there is no present gate.
    """
    state = cpu_state(machine, cpu)
    size = 16 if state.long_mode else 8
    if (vector + 1) * size > state.idt_limit + 1:
        raise GateError(f"CPU {cpu} has no IDT gate {vector}", "Is the kernel far enough?")
    gate = machine.gdb.read(state.idt_base + vector * size, size, cpu)
    kind = gate[5]
    if kind & 0x8F == 0x85 and not state.long_mode:
        return _task_address(machine, state, int.from_bytes(gate[2:4], "little"), cpu)
    if not kind & 0x80 or kind & 0x0F not in (0x0E, 0x0F):
        raise GateError(f"gate {vector} of CPU {cpu} is not a present interrupt or trap gate")
    return int.from_bytes(gate[0:2] + gate[6:8] + gate[8:12], "little")


def _task_address(machine: Machine, state: CpuState, selector: int, cpu: int) -> int:
    """EIP in the 32-bit TSS of a selector."""
    entry = machine.gdb.read(state.gdt_base + (selector & ~7), 8, cpu)
    base = int.from_bytes(entry[2:5] + entry[7:8], "little")
    return int.from_bytes(machine.gdb.read(base + 32, 4, cpu), "little")


def lint1_is_nmi(machine: Machine, cpu: int = 0) -> bool:
    """Whether LVT LINT1 is unmasked and in NMI mode; `inject-nmi` does nothing without."""
    found = LVT1.search(_hmp(machine, "info lapic", cpu))
    if found is None:
        return False
    value = int(found[1], 16)
    return value >> 8 & 7 == 4 and not value >> 16 & 1


def ioapic_vector(machine: Machine, pin: int) -> int | None:
    """The vector to which the first IOAPIC routes `pin`; None if it is masked or absent."""
    for number, vector, _mode, masked in PIN.findall(_hmp(machine, "info pic", 0)):
        if int(number) == pin:
            return None if masked else int(vector)
    return None
