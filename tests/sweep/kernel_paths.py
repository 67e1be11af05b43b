# SPDX-License-Identifier: MIT
"""The paths through Onestack that are swept, walked by user/tests/sweep, and the events."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kernel_oracle import Rules

from onestack.cpu import ioapic_vector
from onestack.elf import Images
from onestack.errors import DeliveryError
from onestack.events import Event, standard_events
from onestack.inject import Irq, msi
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
        """Where the guest has routed the line."""
        vector = ioapic_vector(machine, self.pin)
        if vector is None:
            raise DeliveryError(f"nobody has bound line {self.pin}")
        return vector

    def fire(self, machine: Machine) -> None:
        """Send it."""
        msi(machine, self.cpu, self.vector(machine))


@dataclass(frozen=True)
class _Walk:
    """A path, the loop of user/tests/sweep that comes by it, and how its end is judged."""

    path: Path
    walk: str
    rules: Rules


def _call(name: str, end: str = "", walk: str = "") -> _Walk:
    """From a system call to the instruction after it, or to where another thread goes on."""
    label = name.replace("-", "_")
    ends = (f"sweep_{end or label}_after",)
    return _Walk(Path(name, f"sweep_{label}", ends), walk or label, Rules())


def _fault(name: str, walk: str = "", *, after: str = "") -> _Walk:
    """From an instruction that faults to the one after it: every register is kept."""
    label = name.replace("-", "_")
    path = Path(name, f"sweep_{label}", (f"sweep_{after or label}_after",))
    return _Walk(path, walk or label, Rules(all_registers=True))


def _interrupt(path: Path, walk: str, *, kept: bool = False, sleeper: str = "") -> _Walk:
    """From an interrupt's handler on, wherever it struck."""
    return _Walk(path, walk, Rules(kept, sleeper))


_DEVICE, _TIMER = Line(DEVICE_LINE), Irq(TIMER_VECTOR)
_SPIN = ("sweep_spin",)
_WALKS = (
    # system calls: the fast ways, a slow one, pointers good and bad
    _call("null"),
    _call("slow"),
    _call("post"),
    _call("info"),
    _call("bad-pointer"),
    _call("map"),
    # messages, between two spaces; the second pair is 5,000 bytes each way
    _call("call", end="reply"),
    _call("reply", end="call", walk="call"),
    _call("copy", end="copy_back"),
    _call("copy-back", end="copy", walk="copy"),
    # waits, and what ends them
    _call("yield", end="yield_back"),
    _call("block", end="signal"),
    _call("signal", end="block", walk="block"),
    _call("sleep"),
    # interrupts: from user code, in a system call, in idle; the timer
    _interrupt(Path("irq", *_SPIN, _SPIN, stimulus=_DEVICE), "spin", kept=True),
    _interrupt(Path("timer", *_SPIN, _SPIN, stimulus=_TIMER), "spin", kept=True),
    _interrupt(
        Path("irq-kernel", "syscall_dispatch", ("sweep_slow_after",), _DEVICE, after="sweep_slow"),
        "slow",
    ),
    _interrupt(
        Path("irq-idle", "idle_check", ("sweep_device_after",), _DEVICE),
        "idle",
        sleeper="sweep_nap_after",
    ),
    # exceptions, through the thread's own handler and back
    _fault("divide"),
    _fault("debug"),
    _fault("breakpoint"),
    _fault("opcode"),
    _fault("stack-fault"),
    _fault("protection"),
    _fault("software"),
    _fault("page-fault"),
    # the way back alone; the fault endpoint; missed pages, by a fault and in a system call
    _fault("handler-return", "opcode", after="opcode"),
    _fault("fault"),
    _fault("touch", "pager"),
    _call("pager-call"),
    # a thread's life: start, first use of the FPU, end
    _Walk(Path("start", "sweep_start", ("sweep_fpu",)), "young", Rules()),
    _fault("fpu", "young"),
    _Walk(Path("end", "sweep_end", ("sweep_start_after",)), "young", Rules()),
)

PATHS = {each.path.name: each.path for each in _WALKS}
WALKS = {each.path.name: each.walk for each in _WALKS}
RULES = {each.path.name: each.rules for each in _WALKS}


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
