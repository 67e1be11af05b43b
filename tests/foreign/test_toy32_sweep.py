# SPDX-License-Identifier: MIT
"""A 32-bit kernel that masks LINT1: its holes, and each kind of end that a guest can come to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conftest import TOP
from onestack import kernelfile
from onestack.campaign import Campaign, Part, PartResult
from onestack.elf import Image, Images
from onestack.errors import DeliveryError
from onestack.events import Event, Shot, standard_events
from onestack.inject import Injector, Nmi
from onestack.machine import Machine
from onestack.oracle import Outcome
from onestack.patch import PatchFault
from onestack.path import PathError

TOML = TOP / "tests/foreign/toy32.toml"
ROOM = 8  # bytes of nops at nmi_room


def sweep(path: str, *faults: PatchFault, event: str = "nmi", limit: int = 0) -> PartResult:
    kernel = kernelfile.load(TOML)
    named = {one.name: one for one in kernel.paths}
    target = replace(kernel.target, faults=faults, patience=1.0)
    part = Part(named[path], standard_events()[event])
    [result] = Campaign(target, [part], limit=limit).run()
    assert not result.unreached
    return result


def fault(code: str, at: str = "nmi_room", length: int = ROOM) -> PatchFault:
    return PatchFault("planted", at, bytes.fromhex(code), length=length)


@pytest.fixture(scope="module")
def images() -> Images:
    return Images.load(TOP / "build/foreign/toy32.elf")


def places(result: PartResult, images: Images) -> list[str]:
    return [images.name(cell.boundary.address) for cell in result.failures]


def test_gs_holes_of_the_system_call(images: Images) -> None:
    result = sweep("null")
    entry = ["syscall_entry", *(f"syscall_entry+{at}" for at in ("0x2", "0x3", "0x8"))]
    assert places(result, images) == [*entry, "syscall_entry+0x18"]
    assert {cell.detail for cell in result.failures} == {
        "1 byte of user_tls changed from user_tls+0x0"
    }


def test_gs_holes_of_an_interrupt(images: Images) -> None:
    found = places(sweep("irq"), images)
    assert found[0] == "vector_stubs+0x300"
    assert found[-2:] == ["trap_common+0x1e", "trap_common+0x21"]  # after `pop %gs`
    assert len(found) == 9


def test_an_irq_does_no_harm() -> None:
    for path in ("null", "irq"):
        result = sweep(path, event="irq")
        assert result.outcomes() == {"survived": len(result.cells)}


def test_a_lost_register_is_named_as_in_32_bit_code() -> None:
    result = sweep("null", fault("31f6"), limit=3)  # xor %esi, %esi
    assert len(result.failures) == len(result.cells)
    assert all("esi is 0x0, not 0x44444444" in cell.detail for cell in result.failures)


def test_a_changed_segment_register_is_found() -> None:
    result = sweep("null", fault("8edb"), limit=1)  # mov %ebx, %ds: at `int`, 0x1111
    assert result.outcomes() == {"panic": 1}
    # in ring 0: mov $0x10, %ecx would show; ES = the kernel's data segment
    result = sweep("null", fault("061607" + "07"), limit=3)  # push %es, push %ss, pop, pop
    assert result.outcomes() == {"survived": 2, "corrupted": 1}


def test_bytes_of_the_user_stack(images: Images) -> None:
    below = (images.resolve("user_stack_top") - 64).to_bytes(4, "little").hex()
    result = sweep("null", fault("c605" + below + "5a"), limit=2)  # movb $0x5a, ...
    assert [cell.detail for cell in result.failures] == [
        "1 byte of user stack changed from esp-0x40"
    ] * 2


def test_a_killed_process_and_a_panic(images: Images) -> None:
    """The NMI returns to an invalid instruction: in user mode, then in the kernel."""
    address = images.resolve("user_ud2").to_bytes(4, "little")
    result = sweep("null", fault("c7442404" + address.hex()))  # movl $user_ud2, 4(%esp)
    assert result.outcomes() == {"panic": len(result.cells) - 1, "killed": 1}
    [killed] = [cell for cell in result.cells if cell.outcome is Outcome.KILLED]
    assert images.name(killed.boundary.address) == "user_null"
    assert killed.detail.startswith("toy32: process killed: vector 00000006 eip")


def test_halted_reset_and_hanging() -> None:
    assert sweep("null", fault("faf4"), limit=1).failures[0].detail.startswith("halted with IF=0")
    hang = sweep("null", fault("ebfe"), limit=1).failures[0]
    assert (hang.outcome, hang.detail) == (Outcome.HANG, "runs on at nmi_room")
    # lidt with an empty table, then ud2
    reset = sweep("null", fault("0f011d" + "00000000" + "0f0b", length=8 + 1), limit=1)
    assert reset.outcomes() == {"reset": 1}


def test_masked_lint1_is_said_and_msi_gets_through() -> None:
    kernel = kernelfile.load(TOML)
    images = Images.load(*kernel.target.elfs)
    with Machine(kernel.target.spec) as machine:
        machine.console.expect(kernel.target.ready)
        injector = Injector(machine, images)
        with pytest.raises(DeliveryError, match=r"LINT1 of CPU 0 is masked.*Inject by MSI"):
            injector.inject(Nmi(way="qmp"))
        delivery = injector.inject(Nmi())
        assert images.name(delivery.handler) == "nmi_entry"
        assert delivery.saved == delivery.struck


def test_what_is_assumed_is_said() -> None:
    said = "; ".join(sweep("null", limit=1).assumptions)
    assert "time is the count of instructions" in said
    assert "an event's work is not judged" in said


def test_other_code_than_the_file_says() -> None:
    kernel = kernelfile.load(TOML)
    moved = PatchFault("other build", "user_null", b"\x90\x90")

    def replace_code(machine: Machine, images: Images, path: object) -> None:
        assert path == kernel.paths[0]
        machine.pause()
        moved.apply(machine, images)
        machine.resume()

    target = replace(kernel.target, setup=replace_code)
    event = Event("nmi", (Shot(Nmi()),))
    with pytest.raises(PathError, match="other code at user_null"):
        Campaign(target, [Part(kernel.paths[0], event)]).run()
    assert Image(TOP / "build/foreign/toy32.elf").bits == 32
