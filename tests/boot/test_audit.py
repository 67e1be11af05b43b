# SPDX-License-Identifier: MIT
"""The audit of a booted kernel: sound on every core, and blind to none of what is planted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from onestack.audit import Expected, Gates, audit, check_rights, set_entry_bits
from onestack.cpu import cpu_state
from onestack.elf import Images
from onestack.execute import in_ring0, read_msr, store32, write_msr
from onestack.machine import Machine
from onestack.pagetables import (
    NO_EXECUTE,
    PAGE,
    PRESENT,
    USER,
    WRITE,
    entry_address,
    pages,
    regions,
)

TOP = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.machine(ready="onestack> ", shared=True)

KERNEL_CS, USER_CS32 = 0x08, 0x1B
STACKS = {"kernel": 0, "nmi": 1, "df": 2, "mc": 3, "db": 4}
IST = {2: 1, 8: 2, 18: 3, 1: 4}
EFER, STAR, LSTAR, SFMASK = 0xC0000080, 0xC0000081, 0xC0000082, 0xC0000084
MASKED_FLAGS = 1 << 8 | 1 << 9 | 1 << 10 | 1 << 14 | 1 << 18
LAPIC_LVT1_MASKED = 0x10400
ALL = (1 << 64) - 1


def layout() -> dict[str, int]:
    """The plain numbers of kernel/arch/layout.h."""
    text = (TOP / "kernel/arch/layout.h").read_text()
    found = re.findall(r"^#define (\w+) +(0x[0-9a-f]+|\d+)\b", text, re.MULTILINE)
    return {name: int(value, 0) for name, value in found}


LAYOUT = layout()


def area(cpu: int) -> int:
    return LAYOUT["CORE_AREA_BASE"] + cpu * LAYOUT["CORE_AREA_SIZE"]


def stack_top(cpu: int, stack: int) -> int:
    """CORE_STACK_TOP of layout.h."""
    return (
        area(cpu)
        + LAYOUT["CORE_STRUCT_SIZE"]
        + stack * LAYOUT["CORE_STACK_STRIDE"]
        + 2 * LAYOUT["STACK_SIZE"]
    )


def guards(cpu: int) -> list[int]:
    """Every page of a core's area that is neither struct core nor a stack."""
    used = set(range(area(cpu), area(cpu) + LAYOUT["CORE_STRUCT_SIZE"], PAGE))
    for stack in STACKS.values():
        top = stack_top(cpu, stack)
        used |= set(range(top - LAYOUT["STACK_SIZE"], top, PAGE))
    everything = range(area(cpu), area(cpu) + LAYOUT["CORE_AREA_SIZE"], PAGE)
    return [page for page in everything if page not in used]


@pytest.fixture
def expected(images: Images) -> Expected:
    symbol = images.resolve
    entry = range(symbol("__entry_start"), symbol("__entry_end"))
    syscall = symbol("syscall_entry")
    return Expected(
        absent=guards,
        gates=Gates(entry, KERNEL_CS, IST, frozenset({3})),
        # Below the word that holds the core's address, aligned as the CPU wants it.
        stacks=lambda cpu: {ist: stack_top(cpu, ist) - 16 for ist in range(1, 5)},
        msrs=lambda cpu: {
            LSTAR: (ALL, syscall + cpu * LAYOUT["SYSCALL_STUB_SIZE"]),
            SFMASK: (MASKED_FLAGS, MASKED_FLAGS),
            STAR: (ALL, USER_CS32 << 48 | KERNEL_CS << 32),
            EFER: (1 << 0 | 1 << 11, 1 << 0 | 1 << 11),
        },
        control={
            "cr0": 1 << 16 | 1 << 0 | 1 << 31,
            "cr4": 1 << 5 | 1 << 6 | 1 << 11 | 1 << 16 | 1 << 20 | 1 << 21,
        },
    )


def leave_handlers(machine: Machine) -> None:
    """Step a CPU out of an NMI that the test before has sent: in it, IST entries have moved."""
    ist_stacks = range(stack_top(0, STACKS["kernel"]), area(1))
    while machine.gdb.registers()["rsp"] in ist_stacks:
        machine.gdb.step()


@pytest.fixture
def stopped(machine: Machine) -> Iterator[Machine]:
    machine.pause()
    leave_handlers(machine)
    yield machine
    machine.resume()


def test_sound(stopped: Machine, expected: Expected) -> None:
    found = audit(stopped, expected)
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize(
    "largest",
    [
        pytest.param(1 << 30, marks=pytest.mark.machine(memory=4096), id="1GiB-pages"),
        pytest.param(
            1 << 21, marks=pytest.mark.machine(memory=4096, cpu="max,-pdpe1gb"), id="2MiB-pages"
        ),
        pytest.param(1 << 21, marks=pytest.mark.machine(memory=20), id="20MiB-of-memory"),
        pytest.param(1 << 21, marks=pytest.mark.machine(debug=True), id="debug"),
    ],
)
def test_sound_on_other_machines(machine: Machine, expected: Expected, largest: int) -> None:
    machine.pause()
    found = audit(machine, expected)
    assert not found, "\n".join(map(str, found))
    sizes = {page.size for page in pages(machine.gdb.read_physical, machine.gdb.registers()["cr3"])}
    assert max(sizes) == largest


def test_sound_in_every_space(stopped: Machine, images: Images) -> None:
    """Each process has tables of its own; the kernel's half must be the same in all."""
    root = int.from_bytes(stopped.gdb.read(images.resolve("kernel_table"), 8), "little")
    kernel = [str(region) for region in regions(stopped.gdb.read_physical, root)]
    spaces: set[int] = set()
    stopped.console.send("help\n")
    while len(spaces) < 2:  # console and shell; init has nothing to do
        stopped.run_to(images.resolve("syscall_dispatch"))
        spaces.add(stopped.gdb.registers()["cr3"])
    for cr3 in spaces:
        mapped = regions(stopped.gdb.read_physical, cr3)
        assert [str(region) for region in mapped if region.kernel_half] == kernel
        assert any(region.user for region in mapped)
        assert not list(check_rights(mapped))


# ---- each rule finds what is planted for it


@contextmanager
def entry_changed(machine: Machine, address: int, bits: int, clear: int = 0) -> Iterator[None]:
    old = set_entry_bits(machine, 0, address, bits, clear)
    at, _ = entry_address(machine.gdb.read_physical, machine.gdb.registers()["cr3"], address)
    try:
        yield
    finally:
        machine.gdb.write_physical(at, old.to_bytes(8, "little"))


@contextmanager
def bytes_changed(machine: Machine, address: int, new: bytes) -> Iterator[None]:
    old = machine.gdb.read(address, len(new))
    machine.gdb.write(address, new)
    try:
        yield
    finally:
        machine.gdb.write(address, old)


def rules(machine: Machine, expected: Expected) -> set[str]:
    return {finding.rule for finding in audit(machine, expected)}


def test_finds_writable_code(stopped: Machine, expected: Expected, images: Images) -> None:
    with entry_changed(stopped, images.resolve("__text_start"), WRITE):
        assert rules(stopped, expected) == {"w^x", "alias"}


def test_finds_executable_data(stopped: Machine, expected: Expected, images: Images) -> None:
    with entry_changed(stopped, images.resolve("__data_start"), 0, NO_EXECUTE):
        assert "w^x" in rules(stopped, expected)


def test_finds_code_writable_in_the_direct_map(
    stopped: Machine, expected: Expected, images: Images
) -> None:
    code = images.resolve("__text_start")
    physical = code - LAYOUT["KERNEL_BASE"]
    with entry_changed(
        stopped, LAYOUT["DIRECT_MAP_BASE"] + physical, physical | PRESENT | WRITE | NO_EXECUTE
    ):
        assert rules(stopped, expected) == {"alias"}


def test_finds_kernel_page_open_to_users(
    stopped: Machine, expected: Expected, images: Images
) -> None:
    address = images.resolve("__rodata_start")
    cr3 = stopped.gdb.registers()["cr3"]
    changed = []
    table = cr3
    for level in (4, 3, 2, 1):  # every level has to allow it
        at = (table & ~0xFFF) + (address >> 12 + 9 * (level - 1) & 511) * 8
        old = stopped.gdb.read_physical(at, 8)
        changed.append((at, old))
        table = int.from_bytes(old, "little") & 0x000FFFFFFFFFF000
        stopped.gdb.write_physical(at, (int.from_bytes(old, "little") | USER).to_bytes(8, "little"))
    try:
        assert rules(stopped, expected) == {"user"}
    finally:
        for at, old in changed:
            stopped.gdb.write_physical(at, old)


def test_finds_an_identity_map(stopped: Machine, expected: Expected) -> None:
    cr3 = stopped.gdb.registers()["cr3"] & ~0xFFF
    pdpt = int.from_bytes(stopped.gdb.read_physical(cr3, 8), "little") & 0x000FFFFFFFFFF000
    free = next(i for i in range(511, 0, -1) if not any(stopped.gdb.read_physical(pdpt + i * 8, 8)))
    stopped.gdb.write_physical(pdpt + free * 8, (1 << 63 | 0x83).to_bytes(8, "little"))
    try:
        assert rules(stopped, expected) >= {"identity"}
    finally:
        stopped.gdb.write_physical(pdpt + free * 8, bytes(8))


@pytest.mark.parametrize("stack", STACKS)
def test_finds_a_missing_guard_page(stopped: Machine, expected: Expected, stack: str) -> None:
    guard = stack_top(0, STACKS[stack]) - LAYOUT["STACK_SIZE"] - PAGE
    with entry_changed(stopped, guard, 0x2000000 | PRESENT | WRITE | NO_EXECUTE):
        assert rules(stopped, expected) == {"guard"}


GATE_FAULTS: dict[str, tuple[int, Callable[[bytearray], None]]] = {
    "NMI without IST": (2, lambda gate: gate.__setitem__(4, 0)),
    "page fault on an IST": (14, lambda gate: gate.__setitem__(4, 2)),
    "callable from ring 3": (32, lambda gate: gate.__setitem__(5, gate[5] | 0x60)),
    "trap gate": (13, lambda gate: gate.__setitem__(5, gate[5] | 1)),
    "absent": (200, lambda gate: gate.__setitem__(5, 0)),
    "handler elsewhere": (7, lambda gate: gate.__setitem__(10, gate[10] ^ 1)),
    "user code selector": (6, lambda gate: gate.__setitem__(2, 0x2B)),
}


@pytest.mark.parametrize("fault", GATE_FAULTS)
def test_finds_a_bad_gate(stopped: Machine, expected: Expected, fault: str) -> None:
    vector, spoil = GATE_FAULTS[fault]
    at = cpu_state(stopped).idt_base + vector * 16
    gate = bytearray(stopped.gdb.read(at, 16))
    spoil(gate)
    with bytes_changed(stopped, at, bytes(gate)):
        # What MSRs are read through is the NMI's gate itself.
        only = Expected(gates=expected.gates, lint1_nmi=False)
        assert rules(stopped, only) == {"idt"}


@pytest.mark.parametrize(
    ("at", "new"),
    [(36, bytes(8)), (4, bytes(8)), (102, bytes(2))],
    ids=["IST 1", "RSP0", "I/O bitmap"],
)
def test_finds_a_bad_tss(stopped: Machine, expected: Expected, at: int, new: bytes) -> None:
    only = Expected(stacks=expected.stacks, lint1_nmi=False)
    with bytes_changed(stopped, cpu_state(stopped).task_base + at, new):
        assert rules(stopped, only) == {"tss"}


@pytest.mark.parametrize(
    ("msr", "bad"),
    [(LSTAR, 0x400000), (SFMASK, 1 << 9), (STAR, 0)],
    ids=["LSTAR", "SFMASK", "STAR"],
)
def test_finds_a_bad_msr(stopped: Machine, expected: Expected, msr: int, bad: int) -> None:
    with in_ring0(stopped):
        old = read_msr(stopped, msr)
        write_msr(stopped, msr, bad)
    try:
        assert rules(stopped, expected) == {"msr"}
    finally:
        with in_ring0(stopped):
            write_msr(stopped, msr, old)


def test_finds_lint1_masked(stopped: Machine, expected: Expected) -> None:
    lvt1 = LAYOUT["LAPIC_BASE"] + 0x360
    with in_ring0(stopped):
        store32(stopped, lvt1, LAPIC_LVT1_MASKED)
    try:
        assert rules(stopped, expected) == {"lint1"}
    finally:
        with in_ring0(stopped):
            store32(stopped, lvt1, 0x400)


def test_an_nmi_moves_a_stack_and_puts_it_back(stopped: Machine, expected: Expected) -> None:
    with in_ring0(stopped):
        stopped.gdb.step()
    assert rules(stopped, expected) == {"tss"}
    leave_handlers(stopped)
    assert not rules(stopped, expected)


def test_finds_a_protection_switched_off(stopped: Machine, expected: Expected) -> None:
    cr4 = stopped.gdb.registers()["cr4"]
    stopped.gdb.write_register("cr4", cr4 & ~(1 << 20))
    try:
        assert rules(stopped, expected) == {"control"}
    finally:
        stopped.gdb.write_register("cr4", cr4)
