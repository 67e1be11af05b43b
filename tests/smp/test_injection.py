# SPDX-License-Identifier: MIT
"""NMIs and interrupts sent to one core: that core takes it, once, and no other notices."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from agent import READY
from kernel_state import KernelState

from onestack.deadline import Deadline
from onestack.elf import Images
from onestack.inject import Injector, Irq, Nmi
from onestack.machine import Machine

pytestmark = [
    pytest.mark.machine(append="run=agent", ready=READY, shared=True),
    pytest.mark.cores(2, 4),
]
UNBOUND = 0xE0  # a device's vector that nobody has
ROUNDS = 8


@dataclass(frozen=True)
class Counts:
    """What a core has counted."""

    irqs: int
    nmis: int
    worked: int


def counts(machine: Machine, images: Images) -> list[Counts]:
    state = KernelState(images.images[0].path, images)
    cores = (state.core(machine, cpu) for cpu in range(machine.spec.cores))
    return [Counts(core.irqs, core.nmis, core.nmis_worked) for core in cores]


def settled(machine: Machine, images: Images) -> list[Counts]:
    """The counts, once all cores are idle again; the machine stands still."""
    idle = range(images.resolve("idle_hlt"), images.resolve("idle_hlt") + 2)
    deadline, moment = Deadline(60.0), 0.0
    while True:
        machine.resume()
        time.sleep(moment)
        machine.pause()
        if all(machine.gdb.registers(cpu).pc in idle for cpu in machine.gdb.cpus()):
            return counts(machine, images)
        deadline.check("rest of all cores")
        moment = min(2 * moment + 0.0001, 0.1)  # a busy host must get round to each of them


def rested(machine: Machine, images: Images) -> list[Counts]:
    """The same, once no timer is left to fire that was set for a slice while the guest came up."""
    found = settled(machine, images)
    while True:
        machine.resume()
        time.sleep(0.1)
        machine.pause()
        now = settled(machine, images)
        if now == found:
            return found
        found = now


@pytest.mark.parametrize("kind", ["nmi", "irq"])
def test_one_core_takes_it_once(
    machine: Machine, images: Images, injector: Injector, kind: str
) -> None:
    machine.pause()
    before = rested(machine, images)
    for cpu in range(machine.spec.cores):
        for _ in range(ROUNDS):
            injector.inject(Nmi(cpu) if kind == "nmi" else Irq(UNBOUND, cpu))
        after = settled(machine, images)
        own = before[cpu]
        nmis, irqs = (ROUNDS, 0) if kind == "nmi" else (0, ROUNDS)
        expected = Counts(own.irqs + irqs, own.nmis + nmis, own.worked + nmis)
        assert after == [*before[:cpu], expected, *before[cpu + 1 :]]
        before = after
    machine.resume()
