# SPDX-License-Identifier: MIT
"""What a sweep strikes with: one or several injections, at the boundary or at a handler's entry."""

from __future__ import annotations

from dataclasses import dataclass, replace

from onestack.errors import UsageError
from onestack.inject import MACHINE_CHECK, NMI, Injection, Irq, MachineCheck, Nmi

BREAKPOINT = 3


@dataclass(frozen=True)
class Shot:
    """One injection of an event. `on` None: at the boundary; else on arrival at that vector."""

    what: Injection
    on: int | None = None


@dataclass(frozen=True)
class Event:
    """Injections that belong together. All of them are owed.

    `plant` is the location of a one-byte instruction that changes nothing there, with the mnemonic
    `planted_over`; it is replaced by a breakpoint instruction for the whole sweep.
    """

    name: str
    shots: tuple[Shot, ...]
    plant: str = ""
    planted_over: str = "nop"

    def at_boundary(self) -> list[Shot]:
        """What is made pending at the boundary itself."""
        return [shot for shot in self.shots if shot.on is None]

    def on_arrival(self, vector: int) -> list[Shot]:
        """What is made pending when the handler of `vector` is entered."""
        return [shot for shot in self.shots if shot.on == vector]


def standard_events(irq: int = 0xF0, cpu: int = 0, breakpoint_at: str = "") -> dict[str, Event]:
    """The events that every path should survive, by name.

    `irq` is the vector of the plain interrupt. `breakpoint_at` is a one-byte nop in the NMI
    handler, for the event that needs one; without it that event is left out.
    """
    nmi, mc, fixed = Shot(Nmi(cpu)), Shot(MachineCheck(cpu)), Shot(Irq(irq, cpu))
    events = [
        Event("nmi", (nmi,)),
        Event("irq", (fixed,)),
        Event("mc", (mc,)),
        Event("nmi-then-mc", (nmi, replace(mc, on=NMI))),
        Event("mc-then-nmi", (mc, replace(nmi, on=MACHINE_CHECK))),
        Event("nmi-pair", (nmi, replace(nmi, on=NMI))),
        Event("nmi+irq", (nmi, fixed)),
    ]
    if breakpoint_at:
        # the second NMI comes in the breakpoint's handler, whose iretq unmasks it too early
        shots = (nmi, replace(nmi, on=BREAKPOINT))
        events.append(Event("nmi-with-breakpoint", shots, breakpoint_at))
    return {event.name: event for event in events}


def event_named(name: str, events: dict[str, Event]) -> Event:
    """Look an event up. UsageError names those there are."""
    if name not in events:
        raise UsageError(f"no event {name!r}", f"There are: {', '.join(events)}")
    return events[name]
