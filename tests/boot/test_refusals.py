# SPDX-License-Identifier: MIT
"""What the boot code refuses: one clear line, exit status 37, or a halt where there is no port."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import boot_kernel as kernel
import pytest
from boot_kernel import run_to

from onestack import exitcodes
from onestack.deadline import Deadline
from onestack.elf import Images
from onestack.machine import BootWay, Machine
from onestack.pytest_plugin import GuestOf

FLAG_IF = 1 << 9
HLT = b"\xf4"


def on(name: str, options: Mapping[str, Any], *values: object) -> Any:
    """One row of a parametrised test with a machine of its own."""
    return pytest.param(*values, id=name, marks=pytest.mark.machine(**options))


def refusal(machine: Machine) -> str:
    """Wait for the line and the end, and return what followed `boot refused: `."""
    with machine.console.failure_expected():
        machine.console.expect(r"boot refused: ([^\r\n]*)\r\n", 30)
        text = machine.console.match[1]
        assert machine.wait_exit() == exitcodes.REFUSED
    return text


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
    # The highest leaf must be asked for first: the one above it reads as something else.
    "max,level=6": "the CPU lacks FSGSBASE",
    "max,xlevel=0x80000000": "the CPU has no long mode",
}
BY_GRUB = ("max,-lm", "max,-smap")


@pytest.mark.parametrize(
    "reason",
    [on(cpu, {"cpu": cpu}, reason) for cpu, reason in CPUS.items()]
    + [on(f"grub-{cpu}", {"cpu": cpu, "boot": BootWay.ISO_BIOS}, CPUS[cpu]) for cpu in BY_GRUB],
)
def test_cpu(machine: Machine, reason: str) -> None:
    assert refusal(machine) == reason


@pytest.mark.machine(initrd=None)
def test_no_module(machine: Machine) -> None:
    assert refusal(machine).startswith("no boot module")


MODULES = {
    "empty": b"",
    "text": b"#!/bin/sh\n" * 1000,
    **{f"first-{size}": size for size in (1, 63, 64, 1000, 10000)},
}


@pytest.mark.parametrize("name", MODULES)
def test_bad_module(name: str, guest_of: GuestOf, tmp_path: Path) -> None:
    content = MODULES[name]
    module = tmp_path / name
    whole = kernel.INIT.read_bytes()
    module.write_bytes(whole[:content] if isinstance(content, int) else content)
    with Machine(guest_of({"initrd": module}).spec) as machine:
        assert "boot module" in refusal(machine)


@pytest.mark.machine(append="x" * 1023)
def test_longest_command_line(machine: Machine) -> None:
    machine.console.expect("x" * 1023)


@pytest.mark.machine(append="x" * 1024)
def test_longer_command_line(machine: Machine) -> None:
    assert refusal(machine) == "the command line is too long"


@pytest.mark.machine(machine="microvm,pit=off")
def test_no_clock(machine: Machine) -> None:
    assert refusal(machine) == "no clock to measure the TSC against"


# What a loader would have to get wrong, put into memory at the kernel's first instruction.

PVH_DAMAGE = {
    "magic": (0, bytes(4), "the PVH start information is corrupt"),
    "version": (4, bytes(4), "the loader gave no memory map"),
    "entries": (48, bytes(4), "the loader gave no memory map"),
    "map": (40, struct.pack("<Q", 1 << 40), "the memory map lies out of reach"),
    "modules": (12, bytes(4), "no boot module"),
    "command line": (24, struct.pack("<Q", 1 << 40), "the command line lies out of reach"),
}


@pytest.mark.machine(paused=True)
@pytest.mark.parametrize("name", PVH_DAMAGE)
def test_damaged_pvh_information(machine: Machine, images: Images, name: str) -> None:
    offset, content, reason = PVH_DAMAGE[name]
    run_to(machine, images, "pvh_entry")
    information = machine.gdb.registers()["rbx"]
    machine.gdb.write_physical(information + offset, content)
    machine.resume()
    assert refusal(machine).startswith(reason)


@pytest.mark.machine(paused=True)
@pytest.mark.parametrize("kind", [kernel.USABLE, kernel.RESERVED], ids=["ends", "reserved"])
def test_memory_map_without_the_kernel(machine: Machine, images: Images, kind: int) -> None:
    """The range that holds the kernel ends before it, or is reserved."""
    run_to(machine, images, "pvh_entry")
    start = machine.gdb.registers()["rbx"]
    table, count = struct.unpack("<QI", machine.gdb.read_physical(start + 40, 12))
    for entry in range(table, table + 24 * count, 24):
        base, length, _ = struct.unpack("<QQI", machine.gdb.read_physical(entry, 20))
        if base <= 0x1000000 < base + length:
            length = length if kind == kernel.RESERVED else 0x1000000 - base
            machine.gdb.write_physical(entry, struct.pack("<QQI", base, length, kind))
    machine.resume()
    assert refusal(machine) == "the kernel does not lie in usable memory"


@pytest.mark.machine(boot=BootWay.ISO_BIOS, paused=True)
def test_started_by_neither(machine: Machine, images: Images) -> None:
    run_to(machine, images, "multiboot2_entry")
    machine.gdb.write_register("rax", 0x2BADB002)
    machine.resume()
    assert refusal(machine) == "started by neither PVH nor Multiboot2"


@pytest.mark.machine(boot=BootWay.ISO_BIOS, paused=True)
def test_damaged_multiboot2_information(machine: Machine, images: Images) -> None:
    run_to(machine, images, "multiboot2_entry")
    information = machine.gdb.registers()["rbx"]
    machine.gdb.write_physical(information + 8, b"\xff" * 8)
    machine.resume()
    assert refusal(machine) == "the Multiboot2 information is corrupt"


# A machine without the exit port, one without a UART, one whose console nobody reads.


def halted(machine: Machine, images: Images) -> bool:
    """Stop the machine; does it stand behind the `hlt` of a function that refuses?"""
    machine.pause()
    pc = machine.gdb.registers().pc
    function = images.name(pc).partition("+")[0]
    image = images.image_at(pc)
    return (
        function in {"refuse", "boot_refuse"}
        and image is not None
        and image.bytes_at(pc - 1, 1) == HLT
    )


@pytest.mark.parametrize(
    (),
    [
        on("assembly", {"cpu": "max,-lm", "debug_exit": False}),
        on("c", {"cpu": "max,-smep", "debug_exit": False}),
    ],
)
def test_halts_without_exit_port(machine: Machine, images: Images) -> None:
    with machine.console.failure_expected():
        machine.console.expect(r"boot refused: [^\r\n]*\r\n")
    deadline = Deadline(10)
    while not halted(machine, images):
        deadline.check("halt after the refusal")
        machine.resume()
    assert machine.gdb.registers()["eflags"] & FLAG_IF == 0


@pytest.mark.parametrize(
    (),
    [
        on("assembly", {"cpu": "max,-lm", "machine": "microvm,isa-serial=off"}),
        on("c", {"cpu": "max,-smep", "machine": "microvm,isa-serial=off"}),
    ],
)
def test_ends_without_uart(machine: Machine) -> None:
    assert machine.wait_exit(10) == exitcodes.REFUSED
    assert "boot refused" not in machine.console.text


def test_ends_although_nobody_reads_the_console(guest_of: GuestOf, tmp_path: Path) -> None:
    """The line is full after some hundred bytes: the kernel waits once, and not for ever."""
    text = tmp_path / "text"
    text.write_text("no program")
    spec = guest_of({"initrd": text, "append": "x" * 1023}).spec
    ours, theirs = socket.socketpair()
    command = replace(spec, keep=False).arguments()
    command += ["-chardev", f"socket,id=console,fd={theirs.fileno()}", "-serial", "chardev:console"]
    with ours, theirs:
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        try:
            assert process.wait(60) == exitcodes.REFUSED
        finally:
            process.kill()
            process.wait()
        assert b"boot refused" not in ours.recv(65536), "the line was not full: nothing was tested"
