# SPDX-License-Identifier: MIT
"""What `onestack step` does and shows, without a screen: a machine that stands still, looked at."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from onestack.cpu import cpu_state, gate_address
from onestack.elf import Images, disassemble
from onestack.errors import DeadlineError, GuestError, OnestackError
from onestack.gdbstub import Step
from onestack.inject import MACHINE_CHECK, NMI, Injection
from onestack.machine import HLT, Machine
from onestack.registers import GENERAL, Registers, name_in
from onestack.symbolize import Symbolizer

WORD = 8
STACK_REACH = 0x2000  # bytes below a stack's top that count as that stack, if nobody knows better
MOST_STEPS = 20000  # to the next entry or exit
SHOWN = ("rip", *GENERAL, "eflags", "cs", "ss", "fs_base", "gs_base", "cr2", "cr3")
# With the virtual clock standing still: what is injected arrives, a timer's interrupt does not.
STEP_MODE = Step.TAKE_ALL | Step.NO_TIMER
IDLE_STEPS = 3
ARRIVAL = 5.0  # seconds for an event to arrive


@dataclass(frozen=True)
class Stack:
    """A stack or save area: `size` bytes that end at `top`; `labels` name words by address."""

    name: str
    top: int
    size: int = STACK_REACH
    labels: Mapping[int, str] = field(default_factory=dict)

    def holds(self, sp: int) -> bool:
        """Whether a stack pointer is in it, or at its very top."""
        return self.top - self.size < sp <= self.top


class KernelView(Protocol):
    """What is known of a kernel: plugged in by `--view file.py:make`, make(images) -> this."""

    def facts(self, machine: Machine, cpu: int) -> Mapping[str, str]:
        """A few words about the core: nest, state, thread."""

    def stacks(self, machine: Machine, cpu: int) -> Sequence[Stack]:
        """Its stacks and save areas."""


class TssView:
    """The view of any 64-bit kernel: what its task state segment points to."""

    def __init__(self, images: Images) -> None:
        del images

    def facts(self, machine: Machine, cpu: int) -> Mapping[str, str]:
        """None."""
        del machine, cpu
        return {}

    def stacks(self, machine: Machine, cpu: int) -> Sequence[Stack]:
        """RSP0 and the IST entries that are set."""
        state = cpu_state(machine, cpu)
        if not state.long_mode:
            return []
        tss = machine.gdb.read(state.task_base, 0x5C, cpu)
        names = ["RSP0", *(f"IST{number}" for number in range(1, 8))]
        tops = [*struct.unpack_from("<Q", tss, 4), *struct.unpack_from("<7Q", tss, 36)]
        return [Stack(name, top) for name, top in zip(names, tops, strict=True) if top]


@dataclass(frozen=True)
class Word:
    """A word of a stack. `fresh`: just pushed or changed; `here`: where the stack pointer is."""

    address: int
    value: int
    label: str
    fresh: bool
    here: bool


@dataclass(frozen=True)
class StackShown:
    """A stack as it is shown: its words up to the top. `named`: they have names of their own."""

    name: str
    live: bool
    named: bool
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Line:
    """An instruction, or (without an address) the label or source line before it."""

    address: int | None
    text: str
    current: bool = False


@dataclass(frozen=True)
class Picture:
    """Everything at one moment. `changed` names registers that the last action changed."""

    registers: Registers
    changed: frozenset[str]
    facts: Mapping[str, str]
    stacks: tuple[StackShown, ...]
    code: tuple[Line, ...]
    where: str


class Stepper:
    """Moves one CPU of a machine and takes pictures of it."""

    def __init__(self, machine: Machine, images: Images, view: KernelView, cpu: int = 0) -> None:
        self.machine = machine
        self.images = images
        self.cpu = cpu
        self._view = view
        self._symbolizer = Symbolizer(images)
        self._before: Registers | None = None
        self._memory: dict[int, int] = {}
        self._pending: int | None = None  # a vector that was made pending
        self.running = False

    # ---- moving; each returns what to tell the user, or nothing

    def step(self) -> str:
        """Execute one instruction."""
        registers = self._registers()
        vector, self._pending = self._pending, None
        if vector is not None and (registers.interrupts or vector in (NMI, MACHINE_CHECK)):
            return self._arrival(vector)
        if self.machine.gdb.read(registers.pc, 1, self.cpu) == HLT:
            return "it would sleep: let it run (c), or inject something"
        self.machine.gdb.set_step_mode(STEP_MODE)
        for _ in range(IDLE_STEPS):  # QEMU spends one without an instruction to look for interrupts
            self.machine.gdb.step_over(self.cpu)
            if dict(self._registers()) != dict(registers):
                break
        return ""

    def _arrival(self, vector: int) -> str:
        """To the first instruction of a handler, before anything else is executed."""
        gate = gate_address(self.machine, vector, self.cpu)
        wanted = self.machine.gdb.breakpoints | {gate}
        here = self._registers().pc
        kept = set(self.machine.gdb.breakpoints)
        self.machine.gdb.change_breakpoints(wanted - {here})
        try:
            self.machine.gdb.cont()
            self.machine.gdb.wait_stop(ARRIVAL, f"arrival of vector {vector:#x}")
        except DeadlineError as error:
            self.machine.pause()
            return str(error)
        finally:
            if self.machine.alive and not self.machine.gdb.running:
                self.machine.gdb.change_breakpoints(kept)
        return ""

    def next_boundary(self) -> str:
        """Step until the CPU has entered the kernel or left it."""
        first = self._registers().cpl
        for count in range(1, MOST_STEPS + 1):
            if said := self.step():
                return said
            if self._registers().cpl != first:
                way = "left to user mode" if first < 3 else "entered the kernel"
                return f"{way} after {count} instructions"
        return f"still at privilege {first} after {MOST_STEPS} instructions"

    def inject(self, event: Injection) -> str:
        """Make an event pending; the next step shows it arrive."""
        vector = event.vector(self.machine)
        event.fire(self.machine)
        self._pending = vector
        return f"{event.name} is pending (vector {vector:#x}): step to see it arrive"

    def go(self) -> str:
        """Let it run."""
        self.machine.resume()
        self.running = True
        return "running; c stops it"

    def stop(self) -> str:
        """Stop it wherever it is."""
        self.machine.pause()
        self.running = False
        return "stopped"

    def poll(self) -> str:
        """While it runs: has it stopped or failed by itself? Says so; empty if it runs on."""
        try:
            self.machine.gdb.wait_stop(0.001)
        except DeadlineError:
            return ""
        except GuestError as error:
            self.running = False
            with suppress(OnestackError):  # what a reset left can still be looked at
                self.machine.pause()
            return str(error)
        self.running = False
        return "stopped at a breakpoint"

    # ---- looking

    def _registers(self) -> Registers:
        return self.machine.gdb.registers(self.cpu)

    def picture(self) -> Picture:
        """Look at the machine, which stands still."""
        registers = self._registers()
        before, self._before = self._before, registers
        changed = frozenset(registers.changed(before, SHOWN)) if before else frozenset()
        stacks = self._view.stacks(self.machine, self.cpu)
        return Picture(
            registers,
            changed,
            self._view.facts(self.machine, self.cpu),
            self._stacks(stacks, registers, before.sp if before else registers.sp),
            self._code(registers),
            str(self._symbolizer.place(registers.pc)),
        )

    def _stacks(
        self, stacks: Sequence[Stack], registers: Registers, old_sp: int
    ) -> tuple[StackShown, ...]:
        sp = registers.sp
        shown = []
        memory: dict[int, int] = {}
        known = list(stacks)
        if not any(stack.holds(sp) for stack in known):
            known.append(Stack("user" if registers.cpl == 3 else "unknown", sp + 6 * WORD, 0x100))
        for stack in known:
            live = stack.holds(sp)
            # What lies below where its stack pointer was, or all of a stack just switched to.
            old = old_sp if stack.holds(old_sp) else stack.top
            words = self._words(stack, sp, range(sp, old) if live else range(0), live=live)
            memory |= {word.address: word.value for word in words}
            shown.append(StackShown(stack.name, live, bool(stack.labels), words))
        self._memory = memory
        return tuple(shown)

    def _words(self, stack: Stack, sp: int, pushed: range, *, live: bool) -> tuple[Word, ...]:
        """What is in use of the live stack; all of a save area; else what has just changed."""
        depth = min(max(stack.size, WORD), 32 * WORD)
        start = stack.top - depth
        if live and not stack.labels:
            start = max(sp - 2 * WORD, start)
        try:
            content = self.machine.gdb.read(start, stack.top - start, self.cpu)
        except OnestackError:
            return ()
        words = []
        for offset in range(0, len(content) - WORD + 1, WORD):
            address = start + offset
            value = int.from_bytes(content[offset : offset + WORD], "little")
            fresh = address in pushed or self._memory.get(address, value) != value
            label = stack.labels.get(address, "")
            if not label and value > 0xFFFF:
                name = self.images.name(value)
                label = "" if name.startswith("0x") else name
            words.append(Word(address, value, label, fresh, live and address == sp))
        return tuple(words)

    def _code(self, registers: Registers, before: int = 3, after: int = 14) -> tuple[Line, ...]:
        """Instructions around the next one, with their source lines."""
        pc = registers.pc
        image = self.images.image_at(pc)
        bits = image.bits if image else 64
        symbol = image.lookup(pc) if image else None
        start = symbol.address if symbol and pc - symbol.address < 0x1000 else pc
        try:
            code = self.machine.gdb.read(start, pc - start + 15 * after, self.cpu)
        except OnestackError:
            return (Line(pc, "(not readable)", current=True),)
        found = list(disassemble(code, start, bits))
        at = next((i for i, one in enumerate(found) if one.address == pc), 0)
        lines: list[Line] = []
        last = None
        for one in found[max(0, at - before) : at + after]:
            name = self.images.name(one.address)
            if not lines or "+" not in name:
                lines.append(Line(None, f"{name}:"))
            source = self._symbolizer.place(one.address).source
            if source and source != last:
                lines.append(Line(None, f"{source}  {_source_text(source.file, source.line)}"))
            last = source
            lines.append(Line(one.address, one.text, one.address == pc))
        return tuple(lines)


@lru_cache(maxsize=64)
def _file(path: str) -> tuple[str, ...]:
    try:
        return tuple(Path(path).read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError:
        return ()


def _source_text(path: str, line: int) -> str:
    lines = _file(path)
    return lines[line - 1].strip() if 0 < line <= len(lines) else ""


def register_rows(picture: Picture) -> list[tuple[str, int, bool]]:
    """(name, value, changed) in the order in which they are shown."""
    r = picture.registers
    return [(name_in(name, r), r[name], name in picture.changed) for name in SHOWN if name in r]
