# SPDX-License-Identifier: MIT
"""Which processors start, what becomes of one that does not, and of the page that they start in."""

from __future__ import annotations

import re
import time

import pytest

from onestack.deadline import Deadline
from onestack.elf import Images
from onestack.machine import Machine
from onestack.structs import Structs

PAGE = 0x1000
DIRECT_MAP = 0xFFFF800000000000
SLEEP = b"\xfa\xf4\xeb\xfc"  # cli; 1: hlt; jmp 1b
HLT = b"\xf4"
PATIENCE = 20.0  # seconds


def trampoline(machine: Machine, images: Images) -> int:
    """The physical address of the page, while the kernel still knows it."""
    offset = Structs(images.images[0].path).offset("bootinfo", "trampoline")
    info = int.from_bytes(machine.gdb.read(images.resolve("boot"), 8), "little")
    return int.from_bytes(machine.gdb.read(info + offset, 8), "little")


def frame_kind(machine: Machine, images: Images, physical: int) -> str:
    """What the kernel says of a frame: the name of its enum frame_kind."""
    structs = Structs(images.images[0].path)
    table = int.from_bytes(machine.gdb.read(images.resolve("frame_table"), 8), "little")
    at = table + physical // PAGE * structs.size("page_frame")
    kind = machine.gdb.read(at + structs.offset("page_frame", "kind"), 1)[0]
    names = {value: name for name, value in structs.enumerators("frame_kind").items()}
    return names[kind]


def listed(machine: Machine) -> list[int]:
    """The numbers of the cores that the shell knows of."""
    rows = machine.console.run("cores", "onestack> ")
    return [int(number) for number in re.findall(r"^ *(\d+) +\d+ \w+ ", rows, re.M)]


def wait_until_halted(machine: Machine, images: Images, cpu: int) -> None:
    """Until that CPU is behind the halt of smp_arrived(), where one that comes late ends."""
    deadline = time.monotonic() + PATIENCE
    while not (
        images.name(at := machine.gdb.registers(cpu).pc).startswith("smp_arrived+")
        and machine.gdb.read(at - 1, 1) == HLT
    ):
        assert time.monotonic() < deadline, f"CPU {cpu} at {at:#x}"
        machine.resume()
        time.sleep(0.05)
        machine.pause()


@pytest.mark.machine(cores=3, memory=64, paused=True)
def test_a_core_that_does_not_answer_is_left_out(machine: Machine, images: Images) -> None:
    machine.run_to(images.resolve("smp_start"), PATIENCE)
    page = trampoline(machine, images)
    machine.gdb.write(images.resolve("ap_trampoline"), SLEEP)
    machine.resume()
    for core in (1, 2):
        machine.console.expect(
            rf"core {core} \(APIC id {core}\) did not answer in \d+ ms", PATIENCE
        )
    machine.console.expect("onestack> ", PATIENCE)
    assert listed(machine) == [0]
    machine.pause()
    assert frame_kind(machine, images, page) == "FRAME_NONE"


@pytest.mark.machine(cores=3, memory=64, paused=True)
def test_one_that_comes_late_halts(machine: Machine, images: Images) -> None:
    """CPUs 1 and 2 do nothing while core 0 comes up: both start behind the end of the wait."""
    machine.run_to(images.resolve("smp_start"), PATIENCE)
    page = trampoline(machine, images)
    machine.gdb.set_breakpoint(images.resolve("ret_to_user"))
    machine.gdb.cont(0)
    machine.gdb.wait_stop(Deadline.of(PATIENCE))
    machine.gdb.remove_breakpoint(images.resolve("ret_to_user"))
    machine.resume()
    machine.console.expect(r"core 2 \(APIC id 2\) did not answer", PATIENCE)
    machine.console.expect("onestack> ", PATIENCE)
    machine.pause()
    for cpu in (1, 2):
        wait_until_halted(machine, images, cpu)
    assert frame_kind(machine, images, page) == "FRAME_NONE"
    machine.resume()
    assert listed(machine) == [0]


@pytest.mark.machine(cores=3, memory=64, paused=True)
def test_a_core_without_memory_is_not_started(machine: Machine, images: Images) -> None:
    """It has no stack: started, it would bring the machine down."""
    machine.run_to(images.resolve("core_create"), PATIENCE)
    for _ in range(2):  # for core 1, for core 2
        machine.run_to(images.resolve("core_create"), PATIENCE)
    assert machine.gdb.registers()["rdi"] == 2
    rsp = machine.gdb.registers()["rsp"]
    back = int.from_bytes(machine.gdb.read(rsp, 8), "little")
    machine.gdb.write_register("rax", 0)
    machine.gdb.write_register("rsp", rsp + 8)
    machine.gdb.write_register("rip", back)
    machine.resume()
    machine.console.expect("no memory for core 2 and those after it", PATIENCE)
    machine.console.expect("onestack> ", PATIENCE)
    assert listed(machine) == [0, 1]


@pytest.mark.machine(cores=66, paused=True)
def test_those_without_a_number_are_never_started(machine: Machine, images: Images) -> None:
    """Nor does an NMI to all harm them: they lie where the firmware has left them."""
    machine.run_to(images.resolve("smp_start"), PATIENCE)
    before = [machine.gdb.registers(cpu).pc for cpu in (64, 65)]
    machine.resume()
    machine.console.expect("2 cores left out", PATIENCE)
    machine.console.expect("onestack> ", PATIENCE)
    machine.pause()
    assert [machine.gdb.registers(cpu).pc for cpu in (64, 65)] == before
    machine.resume()
    machine.qmp.execute("inject-nmi")
    assert listed(machine) == list(range(64))


ENTRY_LAPIC, MADT_HEADER = 0, 44


def madt_entry_of(machine: Machine, images: Images, apic_id: int) -> int:
    """Run until the kernel reads the MADT; the address of a processor's entry in it."""
    machine.run_to(images.resolve("acpi_parse_madt"), PATIENCE)
    madt = machine.gdb.registers()["rsi"]
    at = madt + MADT_HEADER
    end = madt + int.from_bytes(machine.gdb.read(madt + 4, 4), "little")
    while at < end:
        entry = machine.gdb.read(at, 4)
        if (entry[0], entry[3]) == (ENTRY_LAPIC, apic_id):
            return at
        at += entry[1]
    raise AssertionError(f"no APIC id {apic_id} in the MADT")


@pytest.mark.machine(cores=4, memory=64, paused=True)
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        pytest.param(4, 0, "", id="disabled"),
        pytest.param(0, 0x7F, "", id="absent"),
        pytest.param(3, 0xFF, "1 cores left out", id="broadcast"),
    ],
)
def test_a_processor_that_the_table_does_not_offer_stays_off(
    machine: Machine, images: Images, field: int, value: int, said: str
) -> None:
    at = madt_entry_of(machine, images, 1)
    before = machine.gdb.registers(1).pc
    machine.gdb.write(at + field, bytes([value]))
    machine.resume()
    if said:
        machine.console.expect(said, PATIENCE)
    machine.console.expect("onestack> ", PATIENCE)
    assert listed(machine) == [0, 1, 2]
    machine.pause()
    assert machine.gdb.registers(1).pc == before


@pytest.mark.parametrize(
    "cores", [pytest.param(n, marks=pytest.mark.machine(cores=n)) for n in (1, 2)]
)
@pytest.mark.machine(memory=64, paused=True)
def test_the_page_is_given_back(machine: Machine, images: Images, cores: int) -> None:
    machine.run_to(images.resolve("smp_start" if cores > 1 else "mm_reclaim_boot"), PATIENCE)
    page = trampoline(machine, images)
    assert 0 < page < 1 << 20
    assert frame_kind(machine, images, page) == "FRAME_NONE"
    if cores > 1:
        machine.run_to(images.resolve("mm_reclaim_boot"), PATIENCE)
        code = images.resolve("ap_trampoline")
        assert machine.gdb.read(DIRECT_MAP + page, 16) == machine.gdb.read(code, 16)
    machine.resume()
    machine.console.expect("onestack> ", PATIENCE)
    machine.pause()
    assert frame_kind(machine, images, page) != "FRAME_NONE"
