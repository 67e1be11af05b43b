# SPDX-License-Identifier: MIT
"""What a running kernel has set up, held against what it should have set up.

Read from outside, on every CPU: page tables, IDT, TSS, MSRs, LINT1. `Expected` says what a
kernel promises; whatever it leaves out is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from onestack.cpu import cpu_state, lint1_is_nmi
from onestack.execute import in_ring0, read_msr
from onestack.machine import Machine
from onestack.pagetables import Region, entry_address, regions

GATE_SIZE = 16
INTERRUPT_GATE = 0x0E
TSS_RSP0, TSS_IST, TSS_IO_BITMAP = 4, 36, 102
TSS_SIZE = 104


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be: which rule, on which CPU, what."""

    rule: str
    cpu: int
    text: str

    def __str__(self) -> str:
        """One line."""
        return f"CPU {self.cpu}: {self.rule}: {self.text}"


@dataclass(frozen=True)
class Gates:
    """What IDT gates are like: all present, interrupt gates, handlers in one piece of code."""

    handlers: range
    selector: int
    ist: Mapping[int, int] = field(default_factory=dict)  # vector -> IST number, else 0
    user_vectors: frozenset[int] = frozenset()  # those that `int n` may reach from ring 3
    count: int = 256


@dataclass(frozen=True)
class Expected:
    """What a kernel promises. Callables get a CPU's number."""

    absent: Callable[[int], list[int]] = lambda _cpu: []  # addresses of guard pages
    gates: Gates | None = None
    stacks: Callable[[int], Mapping[int, int]] = lambda _cpu: {}  # IST number -> its top
    msrs: Callable[[int], Mapping[int, tuple[int, int]]] = lambda _cpu: {}  # -> mask, value
    control: Mapping[str, int] = field(default_factory=dict)  # register -> bits that must be set
    lint1_nmi: bool = True


def check_rights(mapped: list[Region]) -> Iterator[tuple[str, str]]:
    """Rules for any kernel that keeps to the upper half: W^X, by alias too, and who sees what."""
    code = [region for region in mapped if region.kernel_half and region.executable]
    for region in mapped:
        if region.writable and region.executable:
            yield "w^x", f"writable and executable: {region}"
        if region.kernel_half and region.user:
            yield "user", f"kernel page open to user mode: {region}"
        if not region.kernel_half and not region.user:
            yield "identity", f"kernel page in the lower half: {region}"
        for other in code:
            if (
                region.writable
                and region.physical < other.physical_end
                and other.physical < region.physical_end
            ):
                yield "alias", f"kernel code writable under another address: {region}"


def check_absent(mapped: list[Region], addresses: list[int]) -> Iterator[tuple[str, str]]:
    """Guard pages are not there."""
    for address in addresses:
        for region in mapped:
            if region.start <= address < region.end:
                yield "guard", f"{address:#x} should be absent: {region}"


def check_gates(idt: bytes, expected: Gates) -> Iterator[tuple[str, str]]:
    """Each gate of an IDT's bytes."""
    for vector in range(expected.count):
        gate = idt[vector * GATE_SIZE : (vector + 1) * GATE_SIZE]
        if len(gate) < GATE_SIZE or not gate[5] & 0x80:
            yield "idt", f"gate {vector} is not present"
            continue
        handler = int.from_bytes(gate[0:2] + gate[6:12], "little")
        selector = int.from_bytes(gate[2:4], "little")
        kind, level, ist = gate[5] & 0x1F, gate[5] >> 5 & 3, gate[4] & 7
        if kind != INTERRUPT_GATE:
            yield "idt", f"gate {vector} is of type {kind:#x}, not an interrupt gate"
        if handler not in expected.handlers:
            yield "idt", f"gate {vector} leads to {handler:#x}"
        if selector != expected.selector:
            yield "idt", f"gate {vector} has selector {selector:#x}"
        if level != (3 if vector in expected.user_vectors else 0):
            yield "idt", f"gate {vector} can be called from ring {level}"
        if ist != expected.ist.get(vector, 0):
            yield "idt", f"gate {vector} uses IST {ist}"


def check_task(tss: bytes, stacks: Mapping[int, int]) -> Iterator[tuple[str, str]]:
    """A TSS's bytes: RSP0 in the kernel, each IST at its stack's top, no I/O bitmap."""
    rsp0 = int.from_bytes(tss[TSS_RSP0 : TSS_RSP0 + 8], "little")
    if rsp0 >> 47 != 0x1FFFF or rsp0 % 16:
        yield "tss", f"RSP0 is {rsp0:#x}"
    for number in range(1, 8):
        at = TSS_IST + (number - 1) * 8
        top = int.from_bytes(tss[at : at + 8], "little")
        if top != stacks.get(number, 0):
            yield "tss", f"IST {number} is {top:#x}, not {stacks.get(number, 0):#x}"
    bitmap = int.from_bytes(tss[TSS_IO_BITMAP : TSS_IO_BITMAP + 2], "little")
    if bitmap < TSS_SIZE:
        yield "tss", f"there is an I/O bitmap at {bitmap:#x}"


def _page_findings(machine: Machine, expected: Expected, cpu: int) -> Iterator[tuple[str, str]]:
    mapped = regions(machine.gdb.read_physical, machine.gdb.registers(cpu)["cr3"])
    yield from check_rights(mapped)
    yield from check_absent(mapped, expected.absent(cpu))


def _table_findings(machine: Machine, expected: Expected, cpu: int) -> Iterator[tuple[str, str]]:
    state = cpu_state(machine, cpu)
    if expected.gates is not None:
        yield from check_gates(
            machine.gdb.read(state.idt_base, state.idt_limit + 1, cpu), expected.gates
        )
    stacks = expected.stacks(cpu)
    if stacks:
        yield from check_task(machine.gdb.read(state.task_base, TSS_SIZE, cpu), stacks)


def _register_findings(machine: Machine, expected: Expected, cpu: int) -> Iterator[tuple[str, str]]:
    now = machine.gdb.registers(cpu)
    for name, bits in expected.control.items():
        if now[name] & bits != bits:
            yield "control", f"{name} is {now[name]:#x}: {bits & ~now[name]:#x} is not set"
    if expected.lint1_nmi and not lint1_is_nmi(machine, cpu):
        yield "lint1", "LINT1 does not deliver NMIs"
    wanted = expected.msrs(cpu)
    if wanted:
        with in_ring0(machine, cpu):
            for number, (mask, value) in wanted.items():
                found = read_msr(machine, number, cpu)
                if found & mask != value:
                    yield "msr", f"{number:#x} is {found:#x}, not {value:#x} under {mask:#x}"


def audit(machine: Machine, expected: Expected) -> list[Finding]:
    """Everything that is not as expected, on all CPUs of the stopped machine.

    The guest gets one NMI on each CPU if MSRs are to be read, and stands in its handler after.
    """
    found: list[Finding] = []
    for cpu in range(len(machine.gdb.cpus())):
        for check in (_page_findings, _table_findings, _register_findings):
            found += [Finding(rule, cpu, text) for rule, text in check(machine, expected, cpu)]
    return found


def set_entry_bits(machine: Machine, cpu: int, address: int, bits: int, clear: int = 0) -> int:
    """Change the page table entry of `address` in the stopped guest; return what it was.

    For planting what the audit must find.
    """
    cr3 = machine.gdb.registers(cpu)["cr3"]
    at, _level = entry_address(machine.gdb.read_physical, cr3, address)
    old = int.from_bytes(machine.gdb.read_physical(at, 8), "little")
    machine.gdb.write_physical(at, (old & ~clear | bits).to_bytes(8, "little"))
    return old
