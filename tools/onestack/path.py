# SPDX-License-Identifier: MIT
"""Paths through a kernel, found by stepping them, and the boundaries at which to strike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, Self

from onestack.cpu import gate_address
from onestack.elf import Images
from onestack.errors import OnestackError
from onestack.gdbstub import Step, Watchpoint
from onestack.inject import Injection
from onestack.machine import HLT, Machine
from onestack.registers import Registers

STEP_TIMEOUT = 10.0  # seconds
REP_WRITES = (b"\xa4", b"\xa5", b"\xaa", b"\xab")  # movs, stos
OTHERS_EVERY = 4  # steps
SKIP_OVER = 16  # repetitions fewer than this are stepped
FLAG_DF = 1 << 10
PAGE = 0x1000


class PathError(OnestackError):
    """A path does not lead where it should."""


@dataclass(frozen=True)
class Path:
    """A way through the guest: from an instruction that it comes to again and again, to another.

    `start` is where the guest stands before each round; `after`, if given, is reached first (for
    a start inside the kernel that other paths share). `end` has the locations where the path is
    over, as a rule the user instruction after. A `stimulus` is made pending at `start`: the path
    then begins at the first instruction of its handler. With `via`, that is made pending at
    `start` first, and the stimulus at the location where it has led to. Only addresses in `scope`
    (ranges as for Images.range_of, default: all) are boundaries. A `hlt` is the last one of a
    path; a path that ends in sleep unless an event wakes it is not `undisturbed`.
    """

    name: str
    start: str
    end: tuple[str, ...]
    stimulus: Injection | None = None
    via: tuple[Injection, str] | None = None
    after: str = ""
    scope: tuple[str, ...] = ()
    cpu: int = 0
    undisturbed: bool = True
    max_instructions: int = 20000


@dataclass(frozen=True)
class Context:
    """Where the kernel says it is. What a kernel does not have is None or empty."""

    nest: int | None = None
    state: str = ""
    stack: str = ""


class Probe(Protocol):
    """Tells the context of a CPU that stands still."""

    def __call__(self, machine: Machine, registers: Registers) -> Context:
        """Read it from the guest's memory."""


@dataclass(frozen=True)
class StackProbe:
    """The probe for a kernel of which nothing is known: names the stack by its place.

    `stacks` are named ranges (as for Images.range_of); elsewhere the 8 KiB around the stack
    pointer stand for the stack.
    """

    images: Images
    stacks: dict[str, str] = field(default_factory=dict)

    def __call__(self, machine: Machine, registers: Registers) -> Context:
        """Name the stack in use."""
        del machine
        for name, where in self.stacks.items():
            if registers.sp - 1 in self.images.range_of(where):
                return Context(stack=name)
        if registers.cpl == 3:
            return Context(stack="user")
        return Context(stack=f"{(registers.sp - 1) & ~0x1FFF:#x}")


class Marks(NamedTuple):
    """What tells one visit of an instruction from another, in every boot of a kernel.

    `sp` is the place in its page only: where that page is may differ from boot to boot.
    """

    address: int
    sp: int
    cpl: int
    interrupts: bool

    @classmethod
    def of(cls, registers: Registers) -> Self:
        """Of a CPU that stands still."""
        return cls(registers.pc, registers.sp % PAGE, registers.cpl, registers.interrupts)


@dataclass(frozen=True)
class Boundary:
    """A visit of an instruction on a path: an event strikes before it is executed.

    `hit` counts the visits with the same marks from the path's start, from 1; `step` counts
    instructions. Boundaries with equal `key` are visits of a loop.
    """

    step: int
    address: int
    hit: int
    sp: int
    cpl: int
    interrupts: bool
    context: Context

    @property
    def key(self) -> tuple[int, int | None, str, bool, str]:
        """(address, nest, state, IF, stack)."""
        place = self.context
        return (self.address, place.nest, place.state, self.interrupts, place.stack)

    @property
    def marks(self) -> Marks:
        """What a stop must have to be a visit of this boundary."""
        return Marks(self.address, self.sp % PAGE, self.cpl, self.interrupts)


def begin(machine: Machine, images: Images, path: Path, handler: int | None = None) -> Registers:
    """From the path's start, where the machine stands: deliver the stimulus, if there is one.

    `handler` is where it arrives, if the caller knows.
    """
    if path.stimulus is None:
        return machine.gdb.registers(path.cpu)
    if path.via:
        _go_by(machine, images, path, path.via[0], images.resolve(path.via[1]))
    if handler is None:
        handler = gate_address(machine, path.stimulus.vector(machine), path.cpu)
    return _go_by(machine, images, path, path.stimulus, handler)


def _go_by(machine: Machine, images: Images, path: Path, what: Injection, where: int) -> Registers:
    """Make something pending; the path's CPU must come to `where` next."""
    gdb = machine.gdb
    gdb.change_breakpoints({where})
    what.fire(machine)
    gdb.cont()
    machine.wait_for(path.cpu, STEP_TIMEOUT, f"the stimulus of path {path.name}")
    registers = gdb.registers(path.cpu)
    if registers.pc != where:
        there = images.name(registers.pc)
        raise PathError(f"path {path.name}: its stimulus led to {there}, not to {where:#x}")
    return registers


def skip_repeats(machine: Machine, registers: Registers, count: int, cpu: int = 0) -> int:
    """At a `rep movs` or `rep stos`: execute `count` of its repetitions at once.

    By a watchpoint on the last byte they write, so that it takes one stop and not `count`. The
    CPU stands at the same instruction again. Returns how many were executed: 0 if it is another
    instruction, or if there are not that many. PathError if something else happened meanwhile.
    """
    gdb = machine.gdb
    code = gdb.read(registers.pc, 4, cpu)
    opcode = code.lstrip(b"\xf2\xf3\x66\x67\x48")[:1]
    if code[0] not in b"\xf2\xf3" or opcode not in REP_WRITES or registers["rcx"] <= count:
        return 0
    wide = 8 if b"\x48" in code[:3] else 2 if b"\x66" in code[:3] else 4
    size = 1 if opcode in b"\xa4\xaa" else wide
    backwards = registers["eflags"] & FLAG_DF
    last = registers["rdi"] + (count - 1) * (-size if backwards else size)
    gdb.change_breakpoints(frozenset())
    gdb.set_watchpoint(last, size, Watchpoint.WRITE)
    gdb.cont()
    gdb.wait_stop(STEP_TIMEOUT, "repetitions of a string instruction")
    gdb.remove_watchpoint(last, size, Watchpoint.WRITE)
    after = gdb.registers(cpu)
    if after.pc != registers.pc or registers["rcx"] - after["rcx"] != count:
        raise PathError(f"repetitions at {registers.pc:#x} were interrupted")
    return count


def steps(
    machine: Machine, images: Images, path: Path, handler: int | None = None
) -> Iterator[tuple[int, Registers, int]]:
    """Step the path once from its start, where the machine stands: all its visits in order.

    Each is (number, registers, how often something with these marks was visited); the machine
    stands there. After the last it stands at the path's end, or still at a `hlt`. PathError if it
    comes to neither within `max_instructions`. `handler` is as for begin().
    """
    ends = {images.resolve(end) for end in path.end}
    hits: dict[Marks, int] = defaultdict(int)
    gdb = machine.gdb
    registers = begin(machine, images, path, handler)
    gdb.change_breakpoints(frozenset())  # others that come to one would end our step before it is
    gdb.set_step_mode(Step.HOLD_ALL)
    step = 0
    while step < path.max_instructions:
        pc = registers.pc
        if step and pc in ends:
            return
        marks = Marks.of(registers)
        hits[marks] += 1
        yield step, registers, hits[marks]
        image = images.image_at(pc)  # asking the guest takes a round trip more for each step
        if (image.bytes_at(pc, 1) if image else gdb.read(pc, 1, path.cpu)) == HLT:
            return
        # the path may wait for others, so they run now and then; to stop them takes its time
        others = machine.spec.cores > 1 and step % OTHERS_EVERY == 0
        gdb.step(path.cpu, STEP_TIMEOUT, others=others)
        registers = gdb.registers(path.cpu)
        step += 1
        if registers.pc == pc and registers["rcx"] > SKIP_OVER and hits[marks] > 1:
            # the first, second and last repetition are enough
            skipped = skip_repeats(machine, registers, registers["rcx"] - 2, path.cpu)
            hits[marks] += skipped
            step += skipped
            registers = gdb.registers(path.cpu)
    raise PathError(
        f"path {path.name} does not reach {' or '.join(path.end)} within "
        f"{path.max_instructions} instructions; it is at {images.name(registers.pc)}"
    )


def record(machine: Machine, images: Images, path: Path, probe: Probe) -> list[Boundary]:
    """Step the path once; its boundaries in order."""
    scope = [images.range_of(where) for where in path.scope]
    visits = []
    for step, registers, hit in steps(machine, images, path):
        pc = registers.pc
        if not scope or any(pc in where for where in scope):
            seen = (registers.sp, registers.cpl, registers.interrupts)
            visits.append(Boundary(step, pc, hit, *seen, probe(machine, registers)))
    return visits


def select(visits: Iterable[Boundary]) -> list[Boundary]:
    """The boundaries to strike at: of equal keys (loops, rep) the first, second and last visit."""
    groups: dict[tuple[int, int | None, str, bool, str], list[Boundary]] = defaultdict(list)
    for visit in visits:
        groups[visit.key].append(visit)
    chosen = {visit.step: visit for group in groups.values() for visit in (*group[:2], group[-1])}
    return [chosen[step] for step in sorted(chosen)]
