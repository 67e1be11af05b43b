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
from onestack.structs import Member, Structs

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
    "vector": 0x1C000,  # in entry model `ist` only
}
LAST_STACK = max(STACK_TOPS.values())
CANARY = b"kcatseno"  # THREAD_CANARY, as it lies in memory
TSS_HARDWARE_OFFSET = 4  # kernel/arch/segments.h
USER_STATE = 0
TCB_ALIGNMENT = 64  # of struct thread; where an entry model puts it in its memory is its own affair
PACKET = 0x700  # bytes that one gdb packet brings


@dataclass(frozen=True)
class Core:
    """What struct core says. `pending` are the recorded events that nobody has worked on."""

    nest: int
    state: int
    pending: int
    irq_pending: int
    current: int  # the end of the current thread's save area
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
        self._log = 0  # where the machine checks of the core that was read last are counted

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
        return self.core_from(machine, *machine.gdb.read_all(self.core_pieces(cpu), cpu), cpu=cpu)

    def core_pieces(self, cpu: int = 0) -> list[tuple[int, int]]:
        """What to read for core_from()."""
        address = self.core_address(cpu)
        return [
            (address, self.structs.offset("core", "gdt")),
            (self._log or address, 16),
        ]

    def core_from(
        self, machine: Machine, raw: bytes | None, log: bytes | None, *, cpu: int = 0
    ) -> Core:
        """What those pieces say."""
        assert raw is not None

        def value(path: str) -> int:
            member = self._core_member(path)
            return int.from_bytes(raw[member.offset :][: member.size], "little")

        if log is None or value("mcheck") != self._log:
            self._log = value("mcheck")
            log = machine.gdb.read(self._log, 16, cpu)
        return Core(
            nest=value("nest"),
            state=value("state"),
            pending=value("pending"),
            irq_pending=value("irq_pending"),
            current=value("current_end") or value("tss.rsp0"),
            irqs=value("irq_count"),
            nmis=value("nmi_count"),
            nmis_worked=value("nmi_worked"),
            mchecks=int.from_bytes(log[:8], "little"),
            mchecks_worked=int.from_bytes(log[8:], "little"),
        )

    @functools.lru_cache(maxsize=64)  # noqa: B019  (a few live as long as the process)
    def _core_member(self, path: str) -> Member:
        return self.structs.member("core", path)

    @functools.lru_cache(maxsize=64)  # noqa: B019
    def _thread_member(self, path: str) -> Member:
        return self.structs.member("thread", path)

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
            at = ram.find(CANARY * 2)
            while at >= 0:
                if (at - offset) % TCB_ALIGNMENT == 0:
                    found.append(DIRECT_MAP + at - offset)
                at = ram.find(CANARY * 2, at + 8)
        dump.unlink()
        return found

    def thread_pieces(self, addresses: Sequence[int]) -> list[tuple[int, int]]:
        """What to read for threads_from(): neighbours by one packet."""
        pieces: list[tuple[int, int]] = []
        for address in addresses:
            start = pieces[-1][0] if pieces else address
            if pieces and start <= address and address + self.thread_size - start <= PACKET:
                pieces[-1] = (start, address + self.thread_size - start)
            else:
                pieces.append((address, self.thread_size))
        return pieces

    def threads_from(
        self,
        addresses: Sequence[int],
        pieces: Sequence[tuple[int, int]],
        raw: Sequence[bytes],
    ) -> list[bytes]:
        """The TCBs' contents in what was read."""
        return [
            content[address - start :][: self.thread_size]
            for address in addresses
            for (start, size), content in zip(pieces, raw, strict=True)
            if start <= address and address + self.thread_size <= start + size
        ]

    def threads(self, machine: Machine, addresses: Sequence[int], cpu: int = 0) -> list[bytes]:
        """The TCBs' contents."""
        pieces = self.thread_pieces(addresses)
        raw = [content or b"" for content in machine.gdb.read_all(pieces, cpu)]
        return self.threads_from(addresses, pieces, raw)

    def field(self, thread: bytes, path: str) -> int:
        """A member of a TCB's content."""
        member = self._thread_member(path)
        return int.from_bytes(thread[member.offset :][: member.size], "little")

    def reply_piece(self, at: int) -> tuple[int, int]:
        """What to read for is_reply_to()."""
        return at, self.structs.size("reply")

    def is_reply_to(self, raw: bytes, thread: int) -> bool:
        """Whether this content is a saved reply for which this thread waits."""
        kind = self.structs.member("reply", "object.type")
        caller = self.structs.member("reply", "caller")
        values = [int.from_bytes(raw[one.offset :][: one.size], "little") for one in (kind, caller)]
        return values == [self.structs.enumerators("object_type")["OBJ_REPLY"], thread]
