# SPDX-License-Identifier: MIT
"""Who says whether the guest has survived: the protocol, and the oracle for kernels not known."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from onestack import exitcodes
from onestack.elf import Images
from onestack.errors import Failure, GuestError, OnestackError
from onestack.events import Event
from onestack.machine import Machine
from onestack.path import Boundary, Path
from onestack.registers import FLAG_RF, GENERAL, SEGMENTS, Registers, name_in


class Outcome(enum.StrEnum):
    """What became of the guest after an event at a boundary."""

    SURVIVED = "survived"
    LOST = "lost"
    CORRUPTED = "corrupted"
    PANIC = "panic"
    RESET = "reset"
    HANG = "hang"
    KILLED = "killed"  # the kernel lives and has ended the user program


@dataclass(frozen=True)
class Verdict:
    """An outcome and, if it is a failure, what exactly happened, on one line."""

    outcome: Outcome
    detail: str = ""


SURVIVED = Verdict(Outcome.SURVIVED)


def verdict_of(error: GuestError) -> Verdict:
    """The outcome of a guest that failed by itself."""
    if error.kind is Failure.EXITED:
        status = error.status or 0
        if status == exitcodes.PANIC or (status & 1 and status > 1):
            return Verdict(Outcome.PANIC, f"the guest ended QEMU with {error.detail}")
        raise error
    outcomes = {Failure.RESET: Outcome.RESET, Failure.KILLED: Outcome.KILLED}
    return Verdict(outcomes.get(error.kind, Outcome.PANIC), error.detail)


@dataclass
class View:
    """What an oracle sees of one round. The machine stands still whenever it is asked.

    `boundary` and `before` (the registers there) are None in a round without an event. `registers`
    are those of the path's CPU where the machine stands. `arrived` has the vectors whose handlers
    the event has reached so far, `owed` what is still missing.
    """

    machine: Machine
    path: Path
    event: Event | None = None
    boundary: Boundary | None = None
    before: Registers | None = None
    registers: Registers | None = None
    arrived: list[int] = field(default_factory=list)
    owed: list[int] = field(default_factory=list)


class Oracle(Protocol):
    """Judges rounds. It may keep state from one call to the next within a round."""

    @property
    def name(self) -> str:
        """For reports and for telling old results from new."""

    def learn(self, view: View, registers: Registers) -> None:
        """See the end of an undisturbed round; there are several of them before the first event."""

    def assumptions(self) -> Sequence[str]:
        """What it takes for granted or cannot judge, in sentences, once it has learned."""

    def strike(self, view: View) -> None:
        """A round's boundary is reached; the event is injected next."""

    def stops(self, view: View) -> frozenset[int]:
        """Addresses at which it wants to be asked next, besides the path's end."""

    def stop(self, view: View, registers: Registers) -> Verdict | None:
        """One of those addresses is reached. None: go on."""

    def end(self, view: View, registers: Registers) -> Verdict | None:
        """The path's end is reached. None: survived, so far."""

    def halted(self, view: View, registers: Registers) -> Verdict:
        """The CPU sleeps, IF=1, and nothing will wake it."""


@dataclass(frozen=True)
class _End:
    """What is compared at a path's end."""

    registers: dict[str, int]
    memory: tuple[bytes, ...]


@dataclass
class UserOracle:
    """Compares what user mode sees: registers, stack and memory at the path's end.

    It knows nothing of the kernel. What differs between undisturbed rounds is not judged, and
    `assumptions` says so. `stack` bytes on both sides of the user's stack pointer are compared
    (below it lies the red zone), and `memory`, ranges as for Images.range_of. `fail` has
    locations at which a self-checking user program reports that it has found something wrong.
    """

    images: Images = field(repr=False)
    stack: int = 256
    memory: tuple[str, ...] = ()
    fail: tuple[str, ...] = ()
    registers: tuple[str, ...] = (*GENERAL, "eflags", *SEGMENTS, "fs_base", "gs_base")
    name: str = "user"
    _learned: list[_End] = field(default_factory=list, repr=False)

    def _read(self, view: View, registers: Registers) -> _End:
        values = {name: registers[name] for name in self.registers if name in registers}
        values["eflags"] = values.get("eflags", 0) & ~FLAG_RF
        gdb, cpu = view.machine.gdb, view.path.cpu
        ranges = [self.images.range_of(where) for where in self.memory]
        ranges.insert(0, range(registers.sp - self.stack, registers.sp + self.stack))
        memory = []
        for where in ranges:
            try:
                memory.append(gdb.read(where.start, len(where), cpu))
            except OnestackError:  # the stack's end: half a window is better than none
                memory.append(b"")
        return _End(values, tuple(memory))

    def learn(self, view: View, registers: Registers) -> None:
        """Keep the state at the end."""
        self._learned.append(self._read(view, registers))

    def _unstable(self) -> list[str]:
        first, *others = self._learned
        return [
            n for n in first.registers if any(o.registers[n] != first.registers[n] for o in others)
        ]

    def assumptions(self) -> Sequence[str]:
        """What varies and is therefore not judged."""
        said = [
            f"{name} differs between undisturbed rounds: not judged" for name in self._unstable()
        ]
        first, *others = self._learned
        for number, where in enumerate((f"stack within {self.stack} bytes", *self.memory)):
            size = len(first.memory[number])
            varying = sum(
                any(o.memory[number][i : i + 1] != first.memory[number][i : i + 1] for o in others)
                for i in range(size)
            )
            if not size:
                said.append(f"{where} is not readable: not judged")
            elif varying:
                said.append(
                    f"{where}: {varying} bytes differ between undisturbed rounds: not judged"
                )
        said.append("an event's work is not judged, only that its handler was entered")
        return said

    def strike(self, view: View) -> None:
        """Nothing to remember."""

    def stops(self, view: View) -> frozenset[int]:
        """Where the user program reports a fault."""
        del view
        return frozenset(self.images.resolve(where) for where in self.fail)

    def stop(self, view: View, registers: Registers) -> Verdict | None:
        """The user program has found a fault."""
        del view
        where = self.images.name(registers.pc)
        return Verdict(Outcome.CORRUPTED, f"the user program's own check failed, at {where}")

    def end(self, view: View, registers: Registers) -> Verdict | None:
        """Compare with the undisturbed rounds."""
        now, reference = self._read(view, registers), self._learned[0]
        unstable = self._unstable()
        found = [
            f"{name_in(name, registers)} is {now.registers[name]:#x}, not {value:#x}"
            for name, value in reference.registers.items()
            if name not in unstable and now.registers[name] != value
        ]
        starts = [registers.sp - self.stack]
        starts += [self.images.range_of(where).start for where in self.memory]
        names = ("user stack", *self.memory)
        for number, (name, start) in enumerate(zip(names, starts, strict=True)):
            wrong = self._wrong_bytes(now.memory[number], number)
            if wrong:
                base = registers.sp if number == 0 else start
                what = name_in("rsp", registers) if number == 0 else name
                place = f"from {what}{start + wrong[0] - base:+#x}"
                bytes_ = "1 byte" if len(wrong) == 1 else f"{len(wrong)} bytes"
                found.append(f"{bytes_} of {name} changed {place}")
        return Verdict(Outcome.CORRUPTED, "; ".join(found)) if found else None

    def _wrong_bytes(self, now: bytes, number: int) -> list[int]:
        """Offsets that differ from every undisturbed round and are the same in all of those."""
        seen = [end.memory[number] for end in self._learned]
        return [
            i
            for i in range(min(len(now), *map(len, seen)))
            if len({s[i] for s in seen}) == 1 and now[i] != seen[0][i]
        ]

    def halted(self, view: View, registers: Registers) -> Verdict:
        """A user loop never sleeps for ever."""
        del view
        where = self.images.name(registers.pc)
        return Verdict(Outcome.HANG, f"halted with IF=1 at {where}")
