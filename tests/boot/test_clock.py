# SPDX-License-Identifier: MIT
"""The frequencies that the kernel measures at boot are right, whatever the host does meanwhile."""

from __future__ import annotations

import os
import random
import signal
import struct
import time

import pytest
from boot_kernel import run_to

from onestack.elf import Images
from onestack.machine import Machine
from onestack.pytest_plugin import GuestOf

LAPIC_HZ = 1e9  # of QEMU's LAPIC timer, undivided


def measured(machine: Machine, images: Images) -> tuple[int, int]:
    """Boot to the prompt and read TSC and LAPIC frequency, the first fields of struct clock."""
    machine.console.expect("onestack> ", 30)
    machine.pause()
    tsc, lapic = struct.unpack("<QQ", machine.gdb.read(images.resolve("machine_clock"), 16))
    return tsc, lapic


@pytest.mark.machine(icount=0)
def test_under_icount(machine: Machine, images: Images) -> None:
    """One instruction is one nanosecond and one tick of the TSC there."""
    tsc, lapic = measured(machine, images)
    assert tsc == pytest.approx(1e9, rel=1e-3)
    assert lapic == pytest.approx(LAPIC_HZ, rel=1e-3)


def test_while_the_host_takes_the_cpu_away(guest_of: GuestOf) -> None:
    """QEMU is stopped in the middle of it, its clocks run on: the PIT may pass zero unseen."""
    guest = guest_of({})
    images = Images.load(*guest.elfs)
    with Machine(guest.spec) as machine:
        usual, _ = measured(machine, images)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(8):
        with Machine(guest.spec, paused=True) as machine:
            run_to(machine, images, "clock_init")
            machine.resume()
            time.sleep(chance.uniform(0, 0.004))  # most of the measurement takes 2 to 4 ms
            os.kill(machine.pid, signal.SIGSTOP)
            time.sleep(chance.uniform(0.03, 0.2))
            os.kill(machine.pid, signal.SIGCONT)
            tsc, lapic = measured(machine, images)
        assert tsc == pytest.approx(usual, rel=3e-3)
        assert lapic == pytest.approx(LAPIC_HZ, rel=3e-3)
