# SPDX-License-Identifier: MIT
"""How many kernel instructions each core executes for one operation (plugins/spans.c).

RDTSC under `-icount` counts the instructions of all CPUs together; this counts them apart.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from onestack import plugins
from onestack.elf import Image, Instruction
from onestack.errors import UsageError

MAX_CPUS = 256
HEAD = struct.Struct("<3Q")
COUNTS = struct.Struct(f"<{MAX_CPUS}Q")
ARMED_TO_LEAVE, ARMED_TO_END, CLOSED = 1, 2, 5


@dataclass(frozen=True)
class Span:
    """One operation: where it began, and each core's instructions in the kernel."""

    begin: int
    cpu: int
    executed: tuple[int, ...]

    @property
    def acting(self) -> int:
        """Those of the core on which it began."""
        return self.executed[self.cpu]

    @property
    def others(self) -> int:
        """Those of all others meanwhile."""
        return sum(self.executed) - self.acting


def instruction_at(image: Image, address: int) -> Instruction:
    """The instruction at an address."""
    return image.disassemble(address, address + 15)[0]


class Counter:
    """The plugin for one machine; `arguments` are for its MachineSpec. FOLDER keeps its files."""

    def __init__(
        self, begins: Iterable[Instruction], ends: Iterable[Instruction], folder: Path
    ) -> None:
        plugin = plugins.build("spans", folder)
        marks = [("begin", one) for one in begins] + [("end", one) for one in ends]
        lines = [f"{kind} {one.address:x} {one.data.hex()}\n" for kind, one in marks]
        (folder / "marks").write_text("".join(lines))
        self._file = folder / "span"
        self.arguments = ("-plugin", f"{plugin},out={self._file},marks={folder / 'marks'}")

    def arm(self, begin: int = 0, *, leg: bool = False) -> None:
        """The next operation counts, or the next that begins at this address; to its end.

        With `leg` until the core on which it begins is in user mode again, or halts.
        """
        with self._file.open("r+b", buffering=0) as file:
            file.seek(8)
            file.write(begin.to_bytes(8, "little"))
            file.seek(0)
            file.write((ARMED_TO_LEAVE if leg else ARMED_TO_END).to_bytes(8, "little"))

    def span(self) -> Span:
        """What was counted. UsageError if the operation has not begun, or has not ended."""
        content = self._file.read_bytes()
        state, begin, cpu = HEAD.unpack_from(content)
        if state != CLOSED:
            raise UsageError("the operation has not come to its end")
        return Span(begin, cpu, COUNTS.unpack_from(content, HEAD.size))
