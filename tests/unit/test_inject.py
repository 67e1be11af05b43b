# SPDX-License-Identifier: MIT
"""Injection into the toy kernel: each event arrives where it should, or its absence is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conftest import toy_spec
from onestack.cpu import cpu_state, gate_address
from onestack.elf import Images
from onestack.errors import DeliveryError, GuestError, UsageError
from onestack.gdbstub import Step, Watchpoint
from onestack.inject import Injector, Irq, MachineCheck, Nmi, SerialInput
from onestack.machine import Machine
from onestack.patch import PatchFault
from onestack.registers import GENERAL


@pytest.fixture(scope="module")
def shared(toy_images: Images) -> Iterator[Injector]:
    with Machine(toy_spec(icount=0)) as machine:
        machine.console.expect("toy: ready")
        yield Injector(machine, toy_images)


@pytest.fixture
def own(toy_images: Images) -> Iterator[Injector]:
    with Machine(toy_spec(icount=0)) as machine:
        machine.console.expect("toy: ready")
        yield Injector(machine, toy_images)


@pytest.mark.parametrize("way", ["msi", "qmp"])
def test_nmi_strikes_exactly_there(shared: Injector, toy_images: Images, way: str) -> None:
    delivery = shared.inject(Nmi(way=way), at="syscall_entry+0x15")  # type: ignore[arg-type]
    assert delivery.vector == 2
    assert delivery.handler == toy_images.resolve("nmi_entry")
    assert delivery.saved == delivery.struck == toy_images.resolve("syscall_entry+0x15")
    assert not delivery.registers.changed(delivery.before, set(GENERAL) - {"rsp"})


def test_registers_are_the_same_after_the_nmi(shared: Injector) -> None:
    delivery = shared.inject(Nmi(), at="user_loop")
    shared.machine.run_to(delivery.struck)
    after = shared.machine.gdb.registers()
    assert not after.changed(delivery.before, (*GENERAL, "rip", "eflags", "cs", "ss", "gs_base"))


@pytest.mark.parametrize("vector", [0x21, 0x80, 0xFE])
def test_any_irq_vector(shared: Injector, vector: int, toy_images: Images) -> None:
    delivery = shared.inject(Irq(vector), at="user_loop")
    assert delivery.handler == toy_images.resolve("vector_stubs") + 16 * vector
    assert delivery.saved == toy_images.resolve("user_loop")


def test_irq_waits_for_if(shared: Injector, toy_images: Images) -> None:
    delivery = shared.inject(Irq(0x30), at="syscall_entry")
    sti = toy_images.resolve("syscall_entry")
    assert delivery.struck == sti
    assert delivery.saved > sti


def test_irq_vectors_that_cannot_be_sent() -> None:
    with pytest.raises(UsageError):
        Irq(13)


def test_masked_pin_is_told(shared: Injector) -> None:
    with pytest.raises(DeliveryError, match="pin 4 of the IOAPIC is masked"):
        shared.inject(SerialInput(), at="user_loop")


def test_nmi_by_qmp_with_lint1_masked_is_told(own: Injector) -> None:
    own.stop_at("syscall_entry")
    # LINT1 := masked, by the guest itself in ring 0: the APIC takes no writes from outside
    own.machine.gdb.write(own.images.resolve("trap_common"), bytes.fromhex("c7814003000000000100"))
    own.machine.gdb.write_register("rip", own.images.resolve("trap_common"))
    own.machine.gdb.write_register("rcx", 0xFEE00020)
    own.machine.gdb.step()
    with pytest.raises(DeliveryError, match="LINT1"):
        own.inject(Nmi(way="qmp"))


def test_nmi_that_does_not_arrive_is_told(own: Injector) -> None:
    with pytest.raises(DeliveryError, match="did not reach panic"):
        own.inject(Nmi(), at="user_null_after", arrives="panic", deadline=0.3)


def test_machine_check_without_mce_is_a_triple_fault(own: Injector) -> None:
    with pytest.raises(GuestError, match="triple fault"):
        own.inject(MachineCheck(), at="user_loop")


def test_machine_check_arrives(own: Injector, toy_images: Images) -> None:
    own.stop_at("user_loop")
    own.machine.gdb.write_register("cr4", own.machine.gdb.registers()["cr4"] | 1 << 6)
    delivery = own.inject(MachineCheck())
    assert delivery.vector == 18
    assert delivery.saved == toy_images.resolve("user_loop")


def test_stepping_by_count(shared: Injector, toy_images: Images) -> None:
    shared.stop_at("user_loop")
    image = toy_images.images[0]
    code = image.disassemble(toy_images.resolve("user_loop"), toy_images.resolve("user_null"))
    registers = shared.after_instructions(len(code))
    assert registers.pc == toy_images.resolve("user_null")


def test_step_modes(shared: Injector, toy_images: Images) -> None:
    shared.stop_at("user_loop")
    gdb = shared.machine.gdb
    gdb.set_step_mode(Step.HOLD_ALL)
    Nmi().fire(shared.machine)
    gdb.step()
    assert gdb.registers().pc == toy_images.resolve("user_loop") + 5
    gdb.set_step_mode(Step.TAKE_ALL | Step.NO_TIMER)
    gdb.step()
    assert gdb.registers().pc == toy_images.resolve("nmi_entry")
    gdb.set_step_mode(Step.HOLD_ALL)


def test_watchpoint(shared: Injector, toy_images: Images) -> None:
    counter = toy_images.resolve("percpu") + 16
    gdb = shared.machine.gdb
    shared.inject(Nmi(), at="user_loop")
    gdb.set_watchpoint(counter, 8, Watchpoint.WRITE)
    shared.machine.resume()
    assert gdb.wait_stop(5).watch == counter
    gdb.remove_watchpoint(counter, 8, Watchpoint.WRITE)


def test_tables(shared: Injector, toy_images: Images) -> None:
    shared.stop_at("user_loop")
    state = cpu_state(shared.machine)
    assert state.idt_base == toy_images.resolve("idt")
    assert state.task_base == toy_images.resolve("tss")
    assert state.long_mode
    assert not state.halted
    assert gate_address(shared.machine, 2) == toy_images.resolve("nmi_entry")


def test_physical_and_virtual_memory(shared: Injector, toy_images: Images) -> None:
    shared.stop_at("user_loop")
    address = toy_images.resolve("syscall_entry")
    there = toy_images.images[0].bytes_at(address, 16)
    assert shared.machine.gdb.read(address, 16) == there
    assert shared.machine.gdb.read_physical(address, 16) == there


def test_patch_is_planted_and_taken_back(shared: Injector, toy_images: Images) -> None:
    shared.stop_at("user_loop")
    fault = PatchFault("no count", "nmi_entry+0xa", b"", expect="inc")
    gdb = shared.machine.gdb
    count = toy_images.resolve("percpu") + 16
    with fault.applied(shared.machine, toy_images):
        before = gdb.read(count, 8)
        shared.inject(Nmi(), at="user_loop")
        shared.stop_at("user_null")
        assert gdb.read(count, 8) == before
    shared.inject(Nmi(), at="user_loop")
    shared.stop_at("user_null")
    assert gdb.read(count, 8) != before


def test_patch_beside_its_target_is_refused(shared: Injector, toy_images: Images) -> None:
    shared.stop_at("user_loop")
    with pytest.raises(UsageError, match="not swapgs"):
        PatchFault("x", "nmi_entry", b"", expect="swapgs").apply(shared.machine, toy_images)


def test_msi_reaches_one_cpu_only(toy_images: Images) -> None:
    with Machine(toy_spec(icount=0, cores=2)) as machine:
        machine.console.expect("toy: ready")
        delivery = Injector(machine, toy_images).inject(Nmi(cpu=0), at="user_loop")
        assert delivery.saved == toy_images.resolve("user_loop")
        assert machine.gdb.cpus() == [0, 1]
        assert cpu_state(machine, 1).halted
