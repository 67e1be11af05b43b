# SPDX-License-Identifier: MIT
"""N8: a core that comes up gets no NMI before its tables are there, and loses none after that."""

from __future__ import annotations

import pytest
from kernel_state import KernelState

from onestack.cpu import cpu_state, lint1_is_nmi
from onestack.elf import Images
from onestack.gdbstub import Step
from onestack.inject import Injector, Nmi
from onestack.machine import Machine

OTHER = 1  # the core that core 0 starts
CLOSE, FAR = 30, 20  # so many instructions one by one, then each so many-th
PATIENCE = 20.0  # seconds


def run_other_to(machine: Machine, address: int) -> None:
    """Until the other core is there; core 0 may come by before it."""
    while machine.run_to(address, PATIENCE).cpu != OTHER:
        pass


def strike_to(injector: Injector, end: int, close: int) -> int:
    """NMIs from here to a place: before each of `close` instructions, then each FAR-th."""
    gdb = injector.machine.gdb
    struck = 0
    while (pc := gdb.registers(OTHER).pc) != end:
        assert injector.inject(Nmi(cpu=OTHER)).saved == pc
        struck += 1
        run_other_to(injector.machine, pc)
        gdb.set_step_mode(Step.HOLD_ALL)
        for _ in range(1 if struck < close else FAR):
            gdb.step(OTHER)
            if gdb.registers(OTHER).pc == end:
                break
    return struck


@pytest.mark.machine(cores=2, memory=64, paused=True)
def test_nmis_at_a_core_from_the_first_instruction_on(
    machine: Machine, images: Images, injector: Injector
) -> None:
    kernel = images.images[0]
    state = KernelState(kernel.path, images)
    load = kernel.symbol("segments_load")
    [loaded] = [
        each.end
        for each in kernel.disassemble(load.address, load.address + load.size)
        if each.mnemonic == "ltr"
    ]
    run_other_to(machine, load.address)
    assert not lint1_is_nmi(machine, OTHER)
    run_other_to(machine, loaded)
    tables = cpu_state(machine, OTHER)
    assert tables.idt_base == images.resolve("idt")
    assert tables.task_base == state.tss_address(OTHER)
    struck = strike_to(injector, images.resolve("lapic_init"), CLOSE)
    assert struck > CLOSE
    assert not lint1_is_nmi(machine, OTHER)
    struck += strike_to(injector, images.resolve("smp_set_online"), 0)
    machine.resume()
    machine.console.expect("onestack> ", PATIENCE)
    answer = machine.console.run("nmi", "onestack> ")
    assert answer.splitlines()[1] == f"core {OTHER}: {struck} nmis, {struck} worked on"
    assert lint1_is_nmi(machine, OTHER)
