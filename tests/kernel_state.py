# SPDX-License-Identifier: MIT
"""Onestack's own state as the gdbstub shows it: the core, and every TCB there is."""

from __future__ import annotations

import functools
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onestack.elf import Images
from onestack.machine import Machine
from onestack.structs import Structs

# kernel/arch/layout.h
DIRECT_MAP = 0xFFFF800000000000
CORE_AREAS = 0xFFFFFFFFC0000000
CORE_AREA_SIZE = 0x20000
STACK_SIZE = 0x2000
# Where the stacks end in a core's area.
STACK_TOPS = {
    "kernel": 0x8000,
    "NMI": 0xC000,
    "#DF": 0x10000,
    "#MC": 0x14000,
    "#DB": 0x18000,
}
LAST_STACK = max(STACK_TOPS.values())
CANARY = b"kcatseno"  # THREAD_CANARY, as it lies in memory
TSS_HARDWARE_OFFSET = 4  # kernel/arch/segments.h
USER_STATE = 0
PACKET = 0x700  # bytes that one gdb packet brings


@dataclass(frozen=True)
class Core:
    """What struct core says. `pending` are the recorded events that nobody has worked on."""

    nest: int
    state: int
    pending: int
    irq_pending: int
    rsp0: int
    irqs: int
    nmis: int
    nmis_worked: int
    mchecks: int
    mchecks_worked: int


@functools.cache
def _structs(kernel: Path) -> Structs:
    return Structs(kernel)


class KernelState:
    """Reads it. `kernel` is the kernel's ELF file, with debug information."""

    def __init__(self, kernel: Path, images: Images) -> None:
        self.images = images
        self.structs = _structs(kernel)
        self.thread_size = self.structs.size("thread")

    @functools.cached_property
    def save_area_end(self) -> int:
        """Where RSP0 points in a TCB (E2)."""
        frame = self.structs.member("thread", "frame")
        return frame.offset + frame.size

    def core_address(self, cpu: int) -> int:
        """Of struct core."""
        return CORE_AREAS + cpu * CORE_AREA_SIZE

    def tss_address(self, cpu: int) -> int:
        """Of the part of struct tss that the CPU knows."""
        return self.core_address(cpu) + self.structs.offset("core", "tss") + TSS_HARDWARE_OFFSET

    def core(self, machine: Machine, cpu: int = 0) -> Core:
        """Read struct core, and the log of machine checks that it points to."""
        address = self.core_address(cpu)
        size = self.structs.offset("core", "gdt")
        raw = machine.gdb.read(address, size, cpu)

        def value(path: str) -> int:
            member = self.structs.member("core", path)
            return int.from_bytes(raw[member.offset :][: member.size], "little")

        log = machine.gdb.read(value("mcheck"), 16, cpu)
        return Core(
            nest=value("nest"),
            state=value("state"),
            pending=value("pending"),
            irq_pending=value("irq_pending"),
            rsp0=value("tss.rsp0"),
            irqs=value("irq_count"),
            nmis=value("nmi_count"),
            nmis_worked=value("nmi_worked"),
            mchecks=int.from_bytes(log[:8], "little"),
            mchecks_worked=int.from_bytes(log[8:], "little"),
        )

    def thread_addresses(self, machine: Machine) -> list[int]:
        """All TCBs, found by their canaries in the machine's whole RAM, in the direct map."""
        dump = machine.folder / "ram"
        size = machine.spec.memory << 20
        machine.qmp.execute("pmemsave", val=0, size=size, filename=str(dump))
        offset = self.structs.offset("thread", "canary")
        found = []
        with (
            dump.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as ram,
        ):
            at = ram.find(CANARY * 3)
            while at >= 0:
                if (at - offset) % self.thread_size == 0:
                    found.append(DIRECT_MAP + at - offset)
                at = ram.find(CANARY * 3, at + 8)
        dump.unlink()
        return found

    def threads(self, machine: Machine, addresses: Sequence[int], cpu: int = 0) -> list[bytes]:
        """The TCBs' contents, neighbours by one packet."""
        contents: list[bytes] = []
        first = 0
        while first < len(addresses):
            start = addresses[first]
            last = first
            while (
                last + 1 < len(addresses)
                and addresses[last + 1] + self.thread_size - start <= PACKET
            ):
                last += 1
            raw = machine.gdb.read(start, addresses[last] + self.thread_size - start, cpu)
            contents += [raw[a - start :][: self.thread_size] for a in addresses[first : last + 1]]
            first = last + 1
        return contents

    def field(self, thread: bytes, path: str) -> int:
        """A member of a TCB's content."""
        member = self.structs.member("thread", path)
        return int.from_bytes(thread[member.offset :][: member.size], "little")
