# SPDX-License-Identifier: MIT
"""The debug build's checks of locks: silent in a long run, loud at each planted fault."""

from __future__ import annotations

import pytest
from abi import TYPES
from kernel_state import CORE_AREA_SIZE, CORE_AREAS

from onestack.elf import Images
from onestack.inject import Injector, Irq, Nmi
from onestack.machine import Machine
from onestack.structs import Structs

RET, NOP = b"\xc3", b"\x90"
UNBOUND = 0xE0  # a device's vector that nobody has
DONE = r"leak: 2 rounds, 0 bytes of the account, 0 of the machine, 0 wrong"


def planted(machine: Machine, images: Images, symbol: str, offset: int, code: bytes) -> str:
    """The panic that comes of CODE written at SYMBOL."""
    machine.run_to(images.resolve("kernel_main"))
    machine.gdb.write(images.resolve(symbol) + offset, code)
    machine.resume()
    with machine.console.failure_expected():
        machine.console.expect(r"panic: [^\n]*\n", 60.0)
        return machine.console.after


@pytest.mark.machine(debug=True, cores=2, append="run=leak 2")
def test_a_run_breaks_no_rule(machine: Machine, images: Images) -> None:
    """And what it was has been measured: the longest hold."""
    at_the_end = machine.run_to(images.resolve("process_exit"), 180.0)
    machine.console.expect(DONE)
    structs = Structs(images.images[0].path)

    def figure(name: str) -> int:
        at = CORE_AREAS + at_the_end.cpu * CORE_AREA_SIZE + structs.offset("core", f"locks.{name}")
        return int.from_bytes(machine.gdb.read(at, 8), "little")

    assert figure("count") == 0
    assert figure("taken") > 1000
    assert figure("longest") > 0
    assert images.image_at(figure("longest_at")) is images.images[0]


@pytest.mark.machine(debug=True, append="run=leak 2", paused=True)
def test_a_planted_inversion_is_found(machine: Machine, images: Images) -> None:
    """Replies before threads: what saves a reply takes them the other way round."""
    said = planted(machine, images, "type_ranks", TYPES["REPLY"], b"\1")
    assert "lock order: " in said


@pytest.mark.machine(debug=True, cores=2, append="run=leak 2", paused=True)
def test_a_lock_that_is_waited_for_with_interrupts_off_is_found(
    machine: Machine, images: Images
) -> None:
    """System calls never turn them on again."""
    start = images.resolve("syscall_slow")
    code = images.images[0].disassemble(start, start + 0x80)
    offset = next(one.address for one in code if one.mnemonic == "sti") - start
    assert "is waited for with IF=0" in planted(machine, images, "syscall_slow", offset, NOP)


@pytest.mark.machine(debug=True, append="run=leak 2", paused=True)
def test_a_lock_that_is_held_at_an_exit_is_found(machine: Machine, images: Images) -> None:
    """Nobody notes that locks are given up."""
    assert "is held" in planted(machine, images, "lock_given", 0, RET)


@pytest.mark.machine(debug=True, append="run=leak 2", paused=True)
@pytest.mark.parametrize(
    ("event", "handler", "nest"),
    [
        pytest.param(Irq(UNBOUND), "kintr_handler", 2, id="interrupt"),
        pytest.param(Nmi(), "", 1, id="nmi"),
    ],
)
def test_a_lock_in_a_handler_is_found(
    machine: Machine, injector: Injector, event: Irq | Nmi, handler: str, nest: int
) -> None:
    """In a system call an event strikes; its handler goes on as if it had called for memory."""
    injector.stop_at("sys_memory_create", 60.0)
    injector.inject(event, deadline=60.0)
    if handler:
        injector.stop_at(handler, 60.0)
    machine.gdb.write_register("rip", injector.images.resolve("frames_take"))
    machine.resume()
    with machine.console.failure_expected():
        machine.console.expect(r"panic: [^\n]*\n", 60.0)
        assert f"is taken in a nested entry, nest {nest}" in machine.console.after
