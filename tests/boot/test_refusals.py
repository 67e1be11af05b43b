# SPDX-License-Identifier: MIT
"""What the boot code refuses: one clear line, exit status 37, or a halt where there is no port."""

from __future__ import annotations

import socket
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import boot_kernel as kernel
import pytest
from boot_kernel import run_to, spec

from onestack import exitcodes
from onestack.bochs import BochsSpec, run_bochs
from onestack.deadline import Deadline
from onestack.elf import Image
from onestack.machine import BootWay, Machine

FLAG_IF = 1 << 9
HLT = b"\xf4"
REFUSE = ("refuse", "boot_refuse")

CPUS = {
    "qemu32": "the CPU has no long mode",
    "486": "the CPU has no long mode",
    "max,-lm": "the CPU has no long mode",
    "max,-nx": "the CPU lacks NX",
    "max,-apic": "the CPU lacks APIC",
    "max,-fsgsbase": "the CPU lacks FSGSBASE",
    "max,-smep": "the CPU lacks SMEP",
    "max,-smap": "the CPU lacks SMAP",
    "max,-syscall": "the CPU lacks SYSCALL",
    # It has leaf 7 at most by number, not by content: the highest leaf must be asked first.
    "max,level=6": "the CPU lacks FSGSBASE",
    "max,xlevel=0x80000000": "the CPU has no long mode",
}


def refusal(machine: Machine) -> str:
    """Wait for the line and the end, and return what followed `boot refused: `."""
    with machine.console.failure_expected():
        machine.console.expect(r"boot refused: ([^\r\n]*)\r\n", 30)
        text = machine.console.match[1]
        assert machine.wait_exit() == exitcodes.REFUSED
    return text


@pytest.mark.parametrize("cpu", CPUS)
def test_cpu(cpu: str) -> None:
    with Machine(spec(cpu=cpu)) as machine:
        assert refusal(machine) == CPUS[cpu]


@pytest.mark.parametrize("cpu", ["max,-lm", "max,-smap"])
def test_cpu_from_grub(cpu: str) -> None:
    with Machine(spec(BootWay.ISO_BIOS, cpu=cpu)) as machine:
        assert refusal(machine) == CPUS[cpu]


def test_no_module() -> None:
    with Machine(spec(initrd=None)) as machine:
        assert refusal(machine).startswith("no boot module")


def test_empty_module(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    with Machine(spec(initrd=empty)) as machine:
        assert "boot module" in refusal(machine)


@pytest.mark.parametrize("size", [1, 63, 64, 1000, 10000])
def test_cut_module(size: int, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(kernel.INIT.read_bytes()[:size])
    with Machine(spec(initrd=cut)) as machine:
        assert refusal(machine).startswith("boot module: ")


def test_module_that_is_no_program(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("#!/bin/sh\n" * 1000)
    with Machine(spec(initrd=text)) as machine:
        assert refusal(machine).startswith("boot module: ")


def test_long_command_line() -> None:
    with Machine(spec(append="x" * 1023)) as machine:
        machine.console.expect("x" * 1023)
    with Machine(spec(append="x" * 1024)) as machine:
        assert refusal(machine) == "the command line is too long"


# What a loader would have to get wrong, put into memory at the kernel's first instruction.

PVH_DAMAGE = {
    "magic": (0, bytes(4), "the PVH start information is corrupt"),
    "version": (4, bytes(4), "the loader gave no memory map"),
    "entries": (48, bytes(4), "the loader gave no memory map"),
    "map": (40, struct.pack("<Q", 1 << 40), "the memory map lies out of reach"),
    "modules": (12, bytes(4), "no boot module"),
    "command line": (24, struct.pack("<Q", 1 << 40), "the command line lies out of reach"),
}


@pytest.mark.parametrize("name", PVH_DAMAGE)
def test_damaged_pvh_information(name: str, image: Image) -> None:
    offset, content, reason = PVH_DAMAGE[name]
    with Machine(spec(), paused=True) as machine:
        run_to(machine, "pvh_entry", image)
        information = machine.gdb.registers()["rbx"]
        machine.gdb.write_physical(information + offset, content)
        machine.resume()
        assert refusal(machine).startswith(reason)


@pytest.mark.parametrize("kind", [kernel.USABLE, kernel.RESERVED])
def test_memory_map_without_the_kernel(kind: int, image: Image) -> None:
    """The range that holds the kernel ends before it, or is reserved."""
    with Machine(spec(), paused=True) as machine:
        run_to(machine, "pvh_entry", image)
        start = machine.gdb.registers()["rbx"]
        table, count = struct.unpack("<QI", machine.gdb.read_physical(start + 40, 12))
        for entry in range(table, table + 24 * count, 24):
            base, length, _ = struct.unpack("<QQI", machine.gdb.read_physical(entry, 20))
            if base <= 0x1000000 < base + length:
                length = length if kind == kernel.RESERVED else 0x1000000 - base
                machine.gdb.write_physical(entry, struct.pack("<QQI", base, length, kind))
        machine.resume()
        assert refusal(machine) == "the kernel does not lie in usable memory"


def test_started_by_neither(image: Image) -> None:
    with Machine(spec(BootWay.ISO_BIOS), paused=True) as machine:
        run_to(machine, "multiboot2_entry", image)
        machine.gdb.write_register("rax", 0x2BADB002)
        machine.resume()
        assert refusal(machine) == "started by neither PVH nor Multiboot2"


def test_damaged_multiboot2_information(image: Image) -> None:
    with Machine(spec(BootWay.ISO_BIOS), paused=True) as machine:
        run_to(machine, "multiboot2_entry", image)
        information = machine.gdb.registers()["rbx"]
        machine.gdb.write_physical(information + 8, b"\xff" * 8)
        machine.resume()
        assert refusal(machine) == "the Multiboot2 information is corrupt"


# A machine without the exit port, and one without a UART.


@pytest.mark.parametrize("cpu", ["max,-lm", "max,-smep"], ids=["assembly", "c"])
def test_halts_without_exit_port(cpu: str, image: Image) -> None:
    with Machine(spec(cpu=cpu, debug_exit=False)) as machine:
        with machine.console.failure_expected():
            machine.console.expect(r"boot refused: [^\r\n]*\r\n")
        deadline = Deadline(10)
        while not halted(machine, image):
            deadline.check("halt after the refusal")
            machine.resume()
        assert machine.gdb.registers()["eflags"] & FLAG_IF == 0


def halted(machine: Machine, image: Image) -> bool:
    """Stop the machine; does it stand behind the `hlt` of one of the two functions that refuse?"""
    machine.pause()
    pc = machine.gdb.registers().pc
    symbol = image.lookup(pc)
    return symbol is not None and symbol.name in REFUSE and image.bytes_at(pc - 1, 1) == HLT


@pytest.mark.parametrize("cpu", ["max,-lm", "max,-smep"])
def test_ends_without_uart(cpu: str) -> None:
    """Each wait for the UART is bounded: the exit comes although nobody takes the line."""
    machine = spec(cpu=cpu, machine="microvm,isa-serial=off")
    with Machine(machine) as booted:
        assert booted.wait_exit(10) == exitcodes.REFUSED
        assert "boot refused" not in booted.console.text


def test_ends_although_nobody_reads_the_console(tmp_path: Path) -> None:
    """The line is full after some hundred bytes: the kernel waits once, and not for ever."""
    text = tmp_path / "text"
    text.write_text("no program")
    ours, theirs = socket.socketpair()
    machine = replace(spec(initrd=text, append="x" * 1023), keep=False).arguments()
    machine += ["-chardev", f"socket,id=console,fd={theirs.fileno()}", "-serial", "chardev:console"]
    with ours, theirs:
        process = subprocess.Popen(machine, pass_fds=[theirs.fileno()])
        try:
            assert process.wait(60) == exitcodes.REFUSED
        finally:
            process.kill()
            process.wait()
        assert b"boot refused" not in ours.recv(65536), "the line was not full: nothing was tested"


# Bochs knows CPUs that QEMU does not make.

BOCHS = {
    "p3_katmai": "the CPU has no long mode",
    "corei7_haswell_4770": "the CPU lacks SMAP",
}


@pytest.mark.parametrize("cpu", BOCHS)
def test_cpu_under_bochs(cpu: str) -> None:
    console = run_bochs(BochsSpec(kernel.ISO, cpu=cpu))
    assert console == f"boot refused: {BOCHS[cpu]}\n"
