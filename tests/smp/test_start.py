# SPDX-License-Identifier: MIT
"""A core that does not start is left out and told of; the page that cores start in comes back."""

from __future__ import annotations

import pytest

from onestack.elf import Images
from onestack.machine import Machine
from onestack.structs import Structs

PAGE = 0x1000
DIRECT_MAP = 0xFFFF800000000000
SLEEP = b"\xfa\xf4\xeb\xfc"  # cli; 1: hlt; jmp 1b
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


@pytest.mark.machine(cores=3, memory=64, paused=True)
def test_a_core_that_does_not_answer_is_left_out(machine: Machine, images: Images) -> None:
    machine.run_to(images.resolve("smp_start"), PATIENCE)
    machine.gdb.write(images.resolve("ap_trampoline"), SLEEP)
    machine.resume()
    for core in (1, 2):
        machine.console.expect(
            rf"core {core} \(APIC id {core}\) did not answer in \d+ ms", PATIENCE
        )
    machine.console.expect("onestack> ", PATIENCE)
    assert "core 1" not in machine.console.run("cores", "onestack> ")


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
