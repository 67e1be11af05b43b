# SPDX-License-Identifier: MIT
"""Every way to boot yields the same struct bootinfo, in the same state of the CPU, and a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import boot_kernel as kernel
import pytest
from boot_kernel import BootInfo, read_bootinfo, run_to
from elftools.elf.elffile import ELFFile

from onestack.elf import Images
from onestack.machine import BootWay, Machine

MIB = 1 << 20
KERNEL_BASE = 0xFFFFFFFF80000000
CR0_PE, CR0_NW, CR0_CD, CR0_WP, CR0_PG = 1 << 0, 1 << 29, 1 << 30, 1 << 16, 1 << 31
CR4_PAE = 1 << 5
EFER_LMA, EFER_NXE = 1 << 10, 1 << 11
FLAG_IF, FLAG_DF = 1 << 9, 1 << 10

SUMMARY = r'onestack: booted by (\w+): (\d+) MiB usable, 1 boot module, command line "(.*?)"\r\n'


@dataclass(frozen=True)
class Way:
    boot: BootWay
    machine: str
    rsdp: int  # bytes
    memory: int = 256  # MiB

    def __str__(self) -> str:
        return f"{self.boot}-{self.machine}-{self.memory}M"

    @property
    def protocol(self) -> int:
        return kernel.PVH if self.boot is BootWay.PVH else kernel.MULTIBOOT2

    @property
    def cmdline(self) -> str:
        return "one two=3" if self.boot is BootWay.PVH else ""


def booted(*ways: Way) -> pytest.MarkDecorator:
    """Run the test on each way, the machine not yet started."""
    return pytest.mark.parametrize(
        "way",
        [
            pytest.param(
                way,
                id=str(way),
                marks=pytest.mark.machine(
                    boot=way.boot,
                    machine=way.machine,
                    memory=way.memory,
                    append=way.cmdline,
                    paused=True,
                ),
            )
            for way in ways
        ],
    )


def assert_map_is_sound(info: BootInfo) -> None:
    end = 0
    for each in info.ranges[: info.range_count]:
        assert each.base >= end
        assert each.base % 4096 == 0
        assert each.length % 4096 == 0
        assert each.length > 0
        end = each.base + each.length


def assert_state_is_as_promised(registers: Mapping[str, int]) -> None:
    """Compare with what boot/bootinfo.h says of kernel_main."""
    assert registers["cr0"] & (CR0_PG | CR0_WP | CR0_PE) == CR0_PG | CR0_WP | CR0_PE
    assert registers["cr0"] & (CR0_CD | CR0_NW) == 0
    assert registers["cr4"] == CR4_PAE
    assert registers["efer"] & (EFER_LMA | EFER_NXE) == EFER_LMA | EFER_NXE
    assert registers["eflags"] & (FLAG_IF | FLAG_DF) == 0
    assert registers["rsp"] % 16 == 8


def overwrite_loader_memory(machine: Machine, info: BootInfo) -> None:
    """Fill what the map calls usable below 1 MiB, where loaders leave their information."""
    for base, length in info.of_type(kernel.USABLE):
        for at in range(base, min(base + length, MIB), 4096):
            machine.gdb.write_physical(at, b"\xcc" * 4096)


def segments(program: bytes) -> list[tuple[int, bytes]]:
    """What an ELF file loads. The image for GRUB carries it without debug information."""
    elf = ELFFile(BytesIO(program))
    return [(each["p_vaddr"], each.data()) for each in elf.iter_segments("PT_LOAD")]


@booted(
    Way(BootWay.PVH, "q35", rsdp=20),
    Way(BootWay.PVH, "pc", rsdp=20),
    Way(BootWay.PVH, "microvm", rsdp=36),
    Way(BootWay.PVH, "q35", rsdp=20, memory=32),
    Way(BootWay.PVH, "q35", rsdp=20, memory=5120),
    Way(BootWay.PVH, "pc,acpi=off", rsdp=0),
    Way(BootWay.ISO_BIOS, "q35", rsdp=20),
    Way(BootWay.ISO_BIOS, "pc", rsdp=20),
    Way(BootWay.ISO_BIOS, "pc", rsdp=20, memory=5120),
    Way(BootWay.ISO_UEFI, "q35", rsdp=36),
)
def test_bootinfo(machine: Machine, images: Images, way: Way) -> None:
    run_to(machine, images, "kernel_main")
    assert_state_is_as_promised(machine.gdb.registers())
    overwrite_loader_memory(machine, read_bootinfo(machine, images))
    info = read_bootinfo(machine, images)

    assert info.protocol == way.protocol
    assert info.cmdline.decode() == way.cmdline
    assert info.rsdp_size == way.rsdp
    assert bytes(info.rsdp)[:8] == (b"RSD PTR " if way.rsdp else bytes(8))
    assert info.module_count == 1
    module = machine.gdb.read_physical(info.modules[0].base, info.modules[0].size)
    assert segments(module) == segments(kernel.INIT.read_bytes())

    assert_map_is_sound(info)
    [(start, length)] = info.of_type(kernel.IMAGE)
    assert start == images.resolve("header") & ~0xFFF == 16 * MIB
    assert start + length >= images.resolve("boot_stack_top") - KERNEL_BASE
    assert info.of_type(kernel.TRAMPOLINE) == [(info.trampoline, 4096)]
    assert 0 < info.trampoline < MIB
    usable = sum(length for _, length in info.of_type(kernel.USABLE))
    # Firmware keeps some for itself; UEFI most of all.
    assert (way.memory - 16) * MIB < usable < way.memory * MIB
    above = [base for base, _ in info.of_type(kernel.USABLE) if base >= 1 << 32]
    assert bool(above) == (way.memory > 4096)

    machine.console.expect(SUMMARY)
    name = "PVH" if way.protocol == kernel.PVH else "Multiboot2"
    assert machine.console.match.groups() == (name, str(usable // MIB), way.cmdline)
    machine.resume()
    machine.console.expect("onestack> ", 30)
