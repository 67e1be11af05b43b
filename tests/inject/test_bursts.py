# SPDX-License-Identifier: MIT
"""A thousand NMIs and a thousand interrupts while user programs look at their registers."""

from __future__ import annotations

import re

import pytest
from kernel_state import KernelState

from onestack.elf import Images
from onestack.inject import Injector, Irq, Nmi
from onestack.machine import Machine

pytestmark = pytest.mark.machine(append="run=busy", ready="busy: ready")
BURST = 1000
TOTALS = re.compile(
    r"busy: (\d+) looks, (\d+) differences, (\d+) planted ones missed, "
    r"(\d+) nmis, (\d+) worked, (\d+) irqs"
)


def totals(machine: Machine) -> dict[str, int]:
    """End the program; what it says it saw."""
    machine.resume()
    machine.console.send_line("")
    machine.console.expect(TOTALS.pattern, 60)
    found = machine.console.match
    names = ("looks", "differences", "missed", "nmis", "worked", "irqs")
    return {name: int(found[i + 1]) for i, name in enumerate(names)}


def check(seen: dict[str, int]) -> None:
    assert seen["differences"] == 0
    assert seen["missed"] == 0
    assert seen["looks"] > 0
    assert seen["nmis"] == seen["worked"]


def test_a_thousand_nmis_one_by_one(machine: Machine, injector: Injector) -> None:
    """Each sent where the guest happens to be once the one before it has entered its handler."""
    for _ in range(BURST):
        injector.inject(Nmi())
        machine.resume()
    machine.pause()
    seen = totals(machine)
    check(seen)
    assert seen["nmis"] == BURST


def test_a_thousand_nmis_at_once(machine: Machine) -> None:
    """Faster than they are handled, so that some fall together (N6)."""
    for _ in range(BURST):
        machine.qmp.execute("inject-nmi")
    machine.pause()
    seen = totals(machine)
    check(seen)
    assert 0 < seen["nmis"] <= BURST


def test_a_thousand_interrupts(machine: Machine, images: Images, injector: Injector) -> None:
    """Over all vectors from 32 on, wherever the guest is."""
    state = KernelState(images.images[0].path, images)
    machine.pause()
    before = state.core(machine).irqs
    for number in range(BURST):
        injector.inject(Irq(32 + number % 224))
        machine.resume()
    machine.pause()
    assert state.core(machine).irqs - before >= BURST
    seen = totals(machine)
    check(seen)
    assert seen["irqs"] >= BURST


def test_a_thousand_of_both(machine: Machine, injector: Injector) -> None:
    for number in range(BURST):
        machine.pause()
        Irq(32 + number % 224).fire(machine)
        injector.inject(Nmi())
        machine.resume()
    machine.pause()
    seen = totals(machine)
    check(seen)
    assert seen["nmis"] == BURST
    assert seen["irqs"] > 0
