# SPDX-License-Identifier: MIT
"""Planted faults: code bytes of the running guest, changed from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from onestack.elf import Images, disassemble
from onestack.errors import UsageError
from onestack.machine import Machine

NOP = b"\x90"
INT3 = b"\xcc"


@dataclass(frozen=True)
class PatchFault:
    """Replace the instruction at `location` by `code`, filled up with nops.

    `code` must fit into `length` bytes: whole instructions, so that those after it keep their
    addresses; 0 means the one instruction there. `expect` is the mnemonic that must be there,
    so that a fault is never planted beside its target unnoticed.
    """

    name: str
    location: str
    code: bytes
    expect: str = ""
    length: int = 0

    def apply(self, machine: Machine, images: Images, cpu: int = 0) -> bytes:
        """Write the fault into the stopped guest; return what was there.

        UsageError if it does not fit or if something else is there.
        """
        address = images.resolve(self.location)
        image = images.image_at(address)
        code = machine.gdb.read(address, 16, cpu)
        there = next(disassemble(code, address, image.bits if image else 64), None)
        if there is None or (self.expect and there.mnemonic != self.expect):
            found = there.text if there else "no instruction"
            raise UsageError(f"fault {self.name}: {found!r} at {self.location}, not {self.expect}")
        length = self.length or len(there.data)
        if len(self.code) > length:
            raise UsageError(f"fault {self.name}: {len(self.code)} bytes do not fit into {length}")
        original = machine.gdb.read(address, length, cpu)
        machine.gdb.write(address, self.code.ljust(length, NOP), cpu)
        return original

    @contextmanager
    def applied(self, machine: Machine, images: Images, cpu: int = 0) -> Iterator[None]:
        """Plant the fault for a while."""
        original = self.apply(machine, images, cpu)
        try:
            yield
        finally:
            if machine.alive and not machine.gdb.running:
                machine.gdb.write(images.resolve(self.location), original, cpu)
