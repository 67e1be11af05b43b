# SPDX-License-Identifier: MIT
"""Exceptions inside the handler of an NMI, #MC or #DB, raised between any two of its instructions.

`Nest` walks the guest into a handler, `Inner` raises one more in it by changing the code that is
about to run, and `Nest.back` judges its return: registers and the handler's stack as they were.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kernel_state import CORE_AREAS, STACK_TOPS, KernelState

from onestack.deadline import Deadline
from onestack.elf import Images
from onestack.errors import DeadlineError, GuestError
from onestack.gdbstub import Step
from onestack.inject import Injector, MachineCheck, Nmi
from onestack.machine import Machine
from onestack.registers import FLAG_RF, GENERAL, Registers

PATIENCE = 20.0  # seconds for what takes some hundred instructions
LONGEST = 1000  # instructions in a handler
# Of C's instructions in a handler one in so many is struck; ONESTACK_NESTED_EVERY=1: all.
EVERY = int(os.environ.get("ONESTACK_NESTED_EVERY", "6"))
INT3 = b"\xcc"
LOAD_FROM_0 = b"\x8b\x04\x25\x00\x00\x00\x00"  # mov 0, %eax
SET_DR0, SET_DR7 = b"\x0f\x23\xc0", b"\x0f\x23\xf8"  # mov %rax, %dr0 / %dr7
DR7_EXECUTE_0 = 0x2  # DR0 is enabled, for execution


class Lost(Exception):  # noqa: N818  (an outcome, not an error)
    """The handler did not go on as it was."""


@dataclass(frozen=True)
class Spot:
    """A handler between two of its instructions, with what is on its stack."""

    registers: Registers
    stack: bytes

    @property
    def pc(self) -> int:
        """The instruction that is next."""
        return self.registers.pc


def differences(before: Registers, after: Registers) -> list[str]:
    """Registers that are not what they were, the resume flag aside.

    In ring 0 nothing needs SS; the CPU clears it when it takes an IST stack, and lretq leaves it.
    """
    names = [
        *GENERAL,
        "rip",
        "cs",
        "fs_base",
        "gs_base",
        "cr3",
        *["ss"] * (before.cpl == 3),
    ]
    changed = after.changed(before, names)
    if (before["eflags"] ^ after["eflags"]) & ~FLAG_RF:
        changed.append("eflags")
    return changed


@dataclass
class Nest:
    """A guest of user/tests/sweep, stopped in a handler."""

    machine: Machine
    images: Images
    state: KernelState
    injector: Injector
    opens: bool = False  # exceptions inside the NMI's handler let the next NMI in (nmi=move)

    # ---- going from place to place

    @staticmethod
    def snapshot(walk: str, where: str) -> str:
        """What start() keeps."""
        return f"{walk}-{where}"

    def start(self, walk: str, where: str) -> Registers:
        """Be at a place of a walk, the same each time: there is a snapshot of it."""
        machine, snapshot = self.machine, self.snapshot(walk, where)
        if machine.gdb.running:
            machine.pause()
        there = machine.qmp.hmp("info snapshots")
        if snapshot not in there:
            if "ready" not in there:
                machine.save("ready")
            machine.load("ready")
            machine.resume()
            machine.console.send_line(walk)
            machine.console.expect(rf"sweep: {walk}\s")
            machine.pause()
            self.come_to(f"sweep_{walk}")  # others make system calls, too
            if where != f"sweep_{walk}":
                self.come_to(where)
            machine.save(snapshot)
        machine.load(snapshot)
        machine.console.forget()
        return machine.gdb.registers()

    def address(self, place: str | int) -> int:
        """Of a symbol or an address."""
        return self.images.resolve(place)

    def come_to(self, *places: str | int) -> Registers:
        """Go on to the first of these. The one where it stands does not count."""
        gdb = self.machine.gdb
        gdb.change_breakpoints(set())
        gdb.set_step_mode(Step.HOLD_ALL)
        wanted = {self.address(place) for place in places}
        if gdb.registers().pc in wanted:
            gdb.step()
        gdb.change_breakpoints(wanted)
        gdb.cont()
        try:
            gdb.wait_stop(Deadline(PATIENCE), " or ".join(map(str, places)))
        except DeadlineError:
            gdb.interrupt()
            raise
        registers = gdb.registers()
        gdb.change_breakpoints(set())
        return registers

    def arrive(self, vector: int) -> Registers:
        """On to the first instruction of a vector that is due at once."""
        try:
            return self.come_to(f"vector_{vector}")
        except DeadlineError:
            raise Lost(f"vector {vector} did not arrive") from None

    def mnemonic(self, address: int) -> str:
        """Of the instruction there."""
        instruction = self.images.instruction(address)
        return instruction.mnemonic if instruction else ""

    def assembly(self, address: int) -> bool:
        """Whether an instruction is one of the entry assembly's."""
        first, last = self.address("__text_start"), self.address("vector_255")
        return first <= address <= last

    def chosen(self, trail: list[int]) -> list[int]:
        """All of the entry assembly's instructions, of C's each EVERY-th."""
        return [at for i, at in enumerate(trail) if self.assembly(at) or i % EVERY == 0]

    def spot(self) -> Spot:
        """Where it stands now. What the handler has pushed lies between RSP and its stack's top."""
        registers = self.machine.gdb.registers()
        core = CORE_AREAS
        tops = [core + top for top in STACK_TOPS.values() if core + top > registers.sp >= core]
        stack = self.machine.gdb.read(registers.sp, min(tops) - registers.sp) if tops else b""
        return Spot(registers, stack)

    def trail(self, last: str) -> list[int]:
        """Step to the first such instruction; each address on the way, once, in order."""
        gdb = self.machine.gdb
        gdb.set_step_mode(Step.HOLD_ALL)
        found: dict[int, None] = {}
        for _ in range(LONGEST):
            pc = gdb.registers().pc
            found[pc] = None
            if self.mnemonic(pc) == last:
                return list(found)
            gdb.step()
        raise AssertionError(f"no {last} within {LONGEST} instructions")

    def back(self, spot: Spot) -> None:
        """Go on until the handler does; Lost if a second NMI is quicker, or anything differs."""
        places = (spot.pc,) if self.opens else (spot.pc, "vector_2")
        self.come_to(*places)
        now = self.spot()
        for _ in range(4):  # what came inside may share the code
            if now.pc == spot.pc and now.registers.sp != spot.registers.sp:
                self.come_to(*places)
                now = self.spot()
        if now.pc != spot.pc:
            raise Lost("an NMI came inside, onto the frame of the one before")
        if changed := differences(spot.registers, now.registers):
            raise Lost(f"changed: {' '.join(changed)}")
        if now.stack != spot.stack:
            raise Lost("another frame on the stack")

    # ---- code that is about to run, changed

    @contextmanager
    def patched(self, code: bytes) -> Iterator[int]:
        """`code` in place of what is next, for a while; its address."""
        gdb = self.machine.gdb
        address = gdb.registers().pc
        original = gdb.read(address, len(code))
        gdb.write(address, code)
        try:
            yield address
        finally:
            gdb.write(address, original)

    def set_debug(self, address: int, control: int) -> None:
        """Ring 0 sets DR0 and DR7."""
        gdb = self.machine.gdb
        before = gdb.registers()
        gdb.set_step_mode(Step.HOLD_ALL)
        with self.patched(SET_DR0 + SET_DR7):
            for value in (address, control):
                gdb.write_register("rax", value)
                gdb.step()
        gdb.write_register("rax", before["rax"])
        gdb.write_register("rip", before.pc)


Inner = Callable[[Nest, Spot], None]


def breakpoint_here(nest: Nest, spot: Spot) -> None:
    """#BP by an int3 over the next instruction, which is put back while it is handled."""
    with nest.patched(INT3):
        nest.arrive(3)
        frame = nest.come_to("ktrap_kernel")["rcx"]
        rip = frame + nest.state.structs.offset("frame", "rip")
        nest.machine.gdb.write(rip, spot.pc.to_bytes(8, "little"))
    nest.back(spot)


def page_fault_here(nest: Nest, spot: Spot) -> None:
    """#PF by a load from address 0; what handles it is left out, as it would be a panic."""
    gdb = nest.machine.gdb
    with nest.patched(LOAD_FROM_0):
        nest.arrive(14)
        registers = nest.come_to("ktrap_kernel")
    gdb.write_register("rip", int.from_bytes(gdb.read(registers.sp, 8), "little"))
    gdb.write_register("rsp", registers.sp + 8)
    nest.back(spot)


def debug_here(nest: Nest, spot: Spot) -> None:
    """#DB by a breakpoint in DR7 on the next instruction."""
    nest.set_debug(spot.pc, DR7_EXECUTE_0)
    nest.arrive(1)
    nest.back(spot)
    nest.set_debug(0, 0)


def machine_check_here(nest: Nest, spot: Spot) -> None:
    """#MC before the next instruction."""
    MachineCheck().fire(nest.machine)
    nest.arrive(18)
    nest.back(spot)


def nmi_here(nest: Nest, spot: Spot, inner: Inner) -> None:
    """An NMI before the next instruction, and something in its handler."""
    Nmi().fire(nest.machine)
    nest.arrive(2)
    nest.come_to("kist_kernel")
    inner(nest, nest.spot())
    nest.back(spot)


INNER: dict[str, Inner] = {
    "#BP": breakpoint_here,
    "#PF": page_fault_here,
    "#DB": debug_here,
    "#MC": machine_check_here,
}


def outcome(attempt: Callable[[], None]) -> str:
    """What became of it: "" if all went well."""
    try:
        attempt()
    except Lost as lost:
        return str(lost)
    except (GuestError, DeadlineError) as error:
        return str(error).splitlines()[0]
    return ""
