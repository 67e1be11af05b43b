# SPDX-License-Identifier: MIT
"""The paths through Onestack that are swept, walked by user/tests/sweep, and the events."""

from __future__ import annotations

import fnmatch
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from kernel_oracle import Rules

from onestack.cpu import ioapic_vector
from onestack.elf import Images
from onestack.errors import DeliveryError, UsageError
from onestack.events import Event, standard_events
from onestack.inject import Injection, Irq, msi
from onestack.machine import Machine
from onestack.path import Path

TIMER_VECTOR = 0xF0  # kernel/arch/vectors.h
EVENT_LINE, DEVICE_LINE = 5, 7  # user/tests/sweep/sweep.h


@dataclass(frozen=True)
class Line:
    """An interrupt line of the IOAPIC, sent as a message with whatever vector it has."""

    pin: int
    cpu: int = 0
    name: str = "irq"

    def vector(self, machine: Machine) -> int:
        """Where the guest has routed the line, once and for all."""
        known = _routed.setdefault(machine, {})
        vector = known.get(self.pin) or ioapic_vector(machine, self.pin)
        if vector is None:
            raise DeliveryError(f"nobody has bound line {self.pin}")
        known[self.pin] = vector
        return vector

    def fire(self, machine: Machine) -> None:
        """Send it."""
        msi(machine, self.cpu, self.vector(machine))


# Asking costs more than all the rest of a round.
_routed: weakref.WeakKeyDictionary[Machine, dict[int, int]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Both:
    """Two interrupts at the same instruction; the first is the one of the higher class."""

    first: Injection
    second: Injection
    cpu: int = 0
    name: str = "irq+irq"

    def vector(self, machine: Machine) -> int:
        """The first one's."""
        return self.first.vector(machine)

    def fire(self, machine: Machine) -> None:
        """Make both pending."""
        self.second.fire(machine)
        self.first.fire(machine)


@dataclass(frozen=True)
class _Walk:
    """A path, the loop of user/tests/sweep that comes by it, and how its end is judged."""

    path: Path
    walk: str
    rules: Rules = field(default_factory=Rules)


def _call(name: str, end: str = "", walk: str = "", *, sliced: bool = False) -> _Walk:
    """From a system call to the instruction after it, or to where another thread goes on."""
    label = name.replace("-", "_")
    start, ends = f"sweep_{label}", (f"sweep_{end or label}_after",)
    return _Walk(Path(name, start, ends), walk or label, Rules(sliced=start if sliced else ""))


def _fault(name: str, walk: str = "", *, after: str = "", stacks: tuple[str, ...] = ()) -> _Walk:
    """From an instruction that faults to the one after it: every register is kept."""
    label = name.replace("-", "_")
    path = Path(name, f"sweep_{label}", (f"sweep_{after or label}_after",))
    return _Walk(path, walk or label, Rules(all_registers=True, stacks=stacks))


def _in_call(name: str, what: Injection) -> _Walk:
    """From the handler of an interrupt that struck a system call."""
    start, end = "syscall_dispatch", ("sweep_slow_after",)
    return _Walk(Path(name, start, end, what, after="sweep_slow"), "slow")


def _interrupt(path: Path, walk: str, *, kept: bool = False, sleeper: str = "") -> _Walk:
    """From an interrupt's handler on, wherever it struck."""
    return _Walk(path, walk, Rules(kept, sleeper))


_DEVICE, _TIMER = Line(DEVICE_LINE), Irq(TIMER_VECTOR)
_SPIN = ("sweep_spin",)
_IN_CALL = {
    "start": "syscall_dispatch",
    "end": ("sweep_slow_after",),
    "after": "sweep_slow",
}
_YOUNG = "sweep_young..sweep_end+0x4"  # behind its system call, too
_GROUPS = {
    # the fast ways, a slow one, pointers good and bad
    "syscall": (
        _call("null"),
        _call("shadow"),
        _call("slow"),
        _call("post"),
        _call("info"),
        _call("bad-pointer"),
        _call("map"),
        _call("unmap", walk="map"),
    ),
    # messages, between two spaces; the second pair is 5,000 bytes each way, the third 32; then an
    # answer by a capability, a message whose second page is missing, and a copy that is cancelled
    # while its driver waits for a page
    "ipc": (
        _call("call", end="reply"),
        _call("reply", end="call", walk="call"),
        _call("copy", end="copy_back"),
        _call("copy-back", end="copy", walk="copy"),
        _call("small", end="small_back"),
        _call("small-back", end="small", walk="small"),
        _call("save"),
        _call("answer-saved", walk="save"),
        _call("miss", end="copy_back"),
        _call("cancel", end="driver"),
    ),
    # waits, and what ends them; yield is the plain switch to another space; bound is a receive that
    # a notification ends
    "wait": (
        _call("yield", end="yield_back", sliced=True),
        _call("block", end="signal"),
        _call("signal", end="block", walk="block"),
        _call("sleep"),
        _call("bound", end="signal"),
        _Walk(Path("bound-signal", "sweep_signal", ("sweep_bound_after",)), "bound"),
    ),
    # From user code; inside the outermost interrupt; in a system call, alone (depth 1) and with
    # another that comes in its handler (depth 2: IF=0 there, so it waits for the IRETQ); in idle.
    "irq": (
        _interrupt(Path("irq", *_SPIN, _SPIN, stimulus=_DEVICE), "spin", kept=True),
        _interrupt(Path("timer", *_SPIN, _SPIN, stimulus=_TIMER), "spin", kept=True),
        _interrupt(
            Path(
                "irq-irq",
                *_SPIN,
                _SPIN,
                stimulus=_TIMER,
                via=(_DEVICE, "kintr_user"),
            ),
            "spin",
            kept=True,
        ),
        _in_call("irq-kernel", _DEVICE),
        _in_call("irq-kernel-2", Both(_TIMER, _DEVICE)),
        _interrupt(
            Path("irq-idle", "idle_check", ("sweep_device_after",), _DEVICE),
            "idle",
            sleeper="sweep_nap_after",
        ),
    ),
    # Exceptions, through the thread's own handler and back; the way back alone; the fault
    # endpoint; missed pages, by a fault and in a system call. TCG raises no #XM and no #AC:
    # tests/boot/test_bochs.py has them.
    "exception": (
        _fault("divide"),
        _fault("debug", stacks=("#DB",)),
        _fault("breakpoint"),
        _fault("opcode"),
        _fault("stack-fault"),
        _fault("protection"),
        _fault("software"),
        _fault("x87"),
        _fault("page-fault"),
        _fault("handler-return", "opcode", after="opcode"),
        _fault("fault"),
        _fault("touch", "pager"),
        _call("pager-call"),
    ),
    # a thread's life: start, first use of the FPU, end
    "thread": (
        _Walk(Path("start", "sweep_start", ("sweep_fpu",)), "young", Rules(mortal=_YOUNG)),
        _Walk(
            Path("fpu", "sweep_fpu", ("sweep_fpu_after",)),
            "young",
            Rules(all_registers=True, mortal=_YOUNG),
        ),
        _Walk(Path("end", "sweep_end", ("sweep_start_after",)), "young", Rules(mortal=_YOUNG)),
    ),
    # the end of others: capabilities derived from one, memory with its mapping, a process
    "object": (
        _call("revoke"),
        _call("delete"),
        _Walk(
            Path("space-end", "sweep_space_end", ("sweep_space_end_after",)),
            "space_end",
            Rules(mortal="0x0..0x1"),  # a thread that was never started
        ),
    ),
}
_WALKS = [walk for group in _GROUPS.values() for walk in group]

PATHS = {each.path.name: each.path for each in _WALKS}
WALKS = {each.path.name: each.walk for each in _WALKS}
RULES = {each.path.name: each.rules for each in _WALKS}
GROUPS = {name: [each.path.name for each in group] for name, group in _GROUPS.items()}


def matching(wanted: Iterable[str], names: Iterable[str], what: str) -> list[str]:
    """Those of `names` that a name, pattern or (of paths) group in `wanted` means, in order.

    UsageError for one that means none.
    """
    names, found = list(names), set()
    for pattern in wanted:
        these = GROUPS.get(pattern, []) if what == "path" else []
        these = these or fnmatch.filter(names, pattern)
        if not these:
            groups = f"; groups: {', '.join(GROUPS)}" if what == "path" else ""
            raise UsageError(f"no {what} {pattern!r}", f"There are: {', '.join(names)}{groups}")
        found |= set(these)
    return [name for name in names if name in found]


def events(images: Images) -> dict[str, Event]:
    """The standard ones, with a line that has been bound for the plain interrupt.

    The breakpoint in the NMI's handler takes the place of its `cld`.
    """
    line = Line(EVENT_LINE)
    start = images.resolve("entry_ist")
    [cld] = [
        instruction.address
        for instruction in images.images[0].disassemble(start, start + 64)
        if instruction.mnemonic == "cld"
    ]
    found = {}
    for name, event in standard_events(breakpoint_at=f"{cld:#x}").items():
        shots = tuple(
            replace(shot, what=line) if isinstance(shot.what, Irq) else shot for shot in event.shots
        )
        found[name] = replace(event, shots=shots, planted_over="cld")
    return found
