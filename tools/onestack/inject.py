# SPDX-License-Identifier: MIT
"""Events from outside: what to inject, when, and whether it has arrived.

The machine is stopped at an instruction, the event is made pending, and the machine goes on: the
event is then taken before that instruction. `Injector` sees to it that it did arrive, because
several ways to inject do nothing, silently, if the guest is not ready for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from onestack.cpu import gate_address, ioapic_vector, lint1_is_nmi
from onestack.deadline import Deadline
from onestack.elf import Images
from onestack.errors import DeadlineError, DeliveryError, Failure, GuestError, UsageError
from onestack.gdbstub import Step
from onestack.machine import Machine
from onestack.registers import Registers

MSI_BASE = 0xFEE00000
MSI_NMI = 4 << 8
NMI, MACHINE_CHECK = 2, 18
COM1_PIN, KEYBOARD_PIN, SCI_PIN = 4, 1, 9
# A recoverable machine check: valid, uncorrected, enabled, address and misc valid.
MC_STATUS = 0xBD00000000000134
MC_GLOBAL_STATUS = 5  # RIPV, MCIP


class Injection(Protocol):
    """An event that can be made pending while the machine stands still."""

    @property
    def name(self) -> str:
        """What it is, for reports."""

    @property
    def cpu(self) -> int:
        """The CPU on which it should arrive."""

    def vector(self, machine: Machine) -> int:
        """The vector on which it will arrive. DeliveryError if the guest is not ready for it."""

    def fire(self, machine: Machine) -> None:
        """Make it pending."""


def msi(machine: Machine, cpu: int, data: int) -> None:
    """Write a message to a CPU's local APIC, as a PCI device would; at the latest as it goes on."""
    machine.gdb.post_physical(MSI_BASE | cpu << 12, data.to_bytes(4, "little"))


@dataclass(frozen=True)
class Nmi:
    """A non-maskable interrupt: by MSI to one CPU, or by QMP `inject-nmi` to all."""

    cpu: int = 0
    way: Literal["msi", "qmp"] = "msi"
    name: str = "nmi"

    def vector(self, machine: Machine) -> int:
        """Always 2."""
        if self.way == "qmp" and not lint1_is_nmi(machine, self.cpu):
            raise DeliveryError(
                f"inject-nmi would do nothing: LINT1 of CPU {self.cpu} is masked or no NMI",
                "Inject by MSI",
            )
        return NMI

    def fire(self, machine: Machine) -> None:
        """Make it pending."""
        if self.way == "msi":
            msi(machine, self.cpu, MSI_NMI)
        else:
            machine.qmp.execute("inject-nmi")


@dataclass(frozen=True)
class Irq:
    """A fixed, edge-triggered interrupt with any vector from 16 up, to one CPU, by MSI."""

    number: int
    cpu: int = 0
    name: str = "irq"

    def __post_init__(self) -> None:
        """Refuse vectors that a local APIC refuses."""
        if not 16 <= self.number <= 255:
            raise UsageError(f"vector {self.number} cannot be sent", "Use 16 to 255")

    def vector(self, machine: Machine) -> int:
        """The one given."""
        del machine
        return self.number

    def fire(self, machine: Machine) -> None:
        """Make it pending. It waits for IF=1 and a low enough priority."""
        msi(machine, self.cpu, self.number)


@dataclass(frozen=True)
class MachineCheck:
    """A machine check on one CPU. With CR4.MCE clear, or another in progress: a triple fault."""

    cpu: int = 0
    bank: int = 1
    status: int = MC_STATUS
    global_status: int = MC_GLOBAL_STATUS
    address: int = 0x1234
    misc: int = 0x8C
    name: str = "mc"

    def vector(self, machine: Machine) -> int:
        """Always 18."""
        del machine
        return MACHINE_CHECK

    def fire(self, machine: Machine) -> None:
        """Make it pending. GuestError if it is the machine's end."""
        values = (self.status, self.global_status, self.address, self.misc)
        line = f"mce {self.cpu} {self.bank} " + " ".join(f"{v:#x}" for v in values)
        said = machine.qmp.hmp(line)
        if "triple fault" in said:  # QEMU resets a running machine; one that stands still goes on
            raise GuestError(Failure.RESET, f"triple fault: {said}")


@dataclass(frozen=True)
class _Pin:
    """An interrupt that comes through a pin of the IOAPIC."""

    cpu: int = 0
    pin: int = 0

    def vector(self, machine: Machine) -> int:
        """Where the IOAPIC routes the pin."""
        vector = ioapic_vector(machine, self.pin)
        if vector is None:
            raise DeliveryError(
                f"pin {self.pin} of the IOAPIC is masked", "The guest does not listen yet"
            )
        return vector


@dataclass(frozen=True)
class SerialInput(_Pin):
    """Characters that arrive on COM1."""

    text: str = "x"
    pin: int = COM1_PIN
    name: str = "com1"

    def fire(self, machine: Machine) -> None:
        """Type them."""
        machine.console.send(self.text)


@dataclass(frozen=True)
class SendKey(_Pin):
    """A key on the PS/2 keyboard, by QEMU's name for it (`a`, `ret`, `ctrl`).

    QEMU drops what is typed while the machine stands still, so it does not strike at an exact
    instruction: it is typed just after the machine has gone on.
    """

    live: ClassVar[bool] = True
    key: str = "a"
    pin: int = KEYBOARD_PIN
    name: str = "key"

    def fire(self, machine: Machine) -> None:
        """Press and release it."""
        machine.qmp.execute("send-key", keys=[{"type": "qcode", "data": self.key}])


@dataclass(frozen=True)
class Powerdown(_Pin):
    """The power button: an SCI, level triggered."""

    pin: int = SCI_PIN
    name: str = "powerdown"

    def fire(self, machine: Machine) -> None:
        """Press it."""
        machine.qmp.execute("system_powerdown")


def _live(event: Injection) -> bool:
    """Whether it can only be made pending while the machine runs."""
    return getattr(event, "live", False)


@dataclass(frozen=True)
class Delivery:
    """Proof that an event arrived: the CPU stands at its handler's first instruction.

    `struck` is where the machine stood when the event was made pending, `before` the registers
    there, `saved` the return address that the CPU has pushed.
    """

    vector: int
    handler: int
    struck: int
    saved: int
    before: Registers
    registers: Registers


def saved_rip(machine: Machine, registers: Registers, vector: int, cpu: int = 0) -> int:
    """The return address in the frame of a CPU that has just entered the handler of `vector`."""
    has_error_code = vector in (8, 10, 11, 12, 13, 14, 17, 21, 29, 30)
    size = 8 if registers["efer"] & 1 << 10 else 4
    stack = registers.sp + size * has_error_code
    return int.from_bytes(machine.gdb.read(stack, size, cpu), "little")


class Injector:
    """Injects into one machine, and checks.

    `images` resolves symbols; without it only addresses are understood.
    """

    def __init__(self, machine: Machine, images: Images | None = None) -> None:
        self.machine = machine
        self.images = images or Images([])

    def stop_at(self, location: str | int, deadline: Deadline | float = 10.0) -> Registers:
        """Run until a CPU is about to execute `location`; its registers."""
        stop = self.machine.run_to(self.images.resolve(location), deadline)
        return self.machine.gdb.registers(stop.cpu)

    def after_instructions(self, count: int, cpu: int = 0) -> Registers:
        """Step `count` instructions of a stopped CPU, holding interrupts back; its registers."""
        self.machine.gdb.set_step_mode(Step.HOLD_ALL)
        for _ in range(count):
            self.machine.gdb.step_over(cpu)
        return self.machine.gdb.registers(cpu)

    def inject(
        self,
        event: Injection,
        *,
        at: str | int | None = None,
        arrives: str | int | None = None,
        deadline: Deadline | float = 10.0,
    ) -> Delivery:
        """Inject at a location, or where the machine stands; wait until it has arrived.

        The machine stands at the handler's first instruction then. That is the address in the
        IDT's gate, unless `arrives` names another place. DeliveryError if it is not reached.
        """
        machine = self.machine
        deadline = Deadline.of(deadline)
        if at is not None:
            self.stop_at(at, deadline)
        elif machine.gdb.running:
            machine.pause()
        before = machine.gdb.registers(event.cpu)
        vector = event.vector(machine)
        handler = (
            gate_address(machine, vector, event.cpu)
            if arrives is None
            else self.images.resolve(arrives)
        )
        hidden = machine.gdb.breakpoints & {before.pc} - {handler}
        for address in hidden:
            machine.gdb.remove_breakpoint(address)
        if not _live(event):
            event.fire(machine)
        try:
            registers = self._arrival(event, handler, deadline)
        finally:
            if machine.alive and not machine.gdb.running:
                for address in hidden:
                    machine.gdb.set_breakpoint(address)
        saved = saved_rip(machine, registers, vector, event.cpu)
        return Delivery(vector, handler, before.pc, saved, before, registers)

    def _arrival(self, event: Injection, handler: int, deadline: Deadline) -> Registers:
        """Let the machine go until the event's CPU is at the handler."""
        gdb = self.machine.gdb
        if gdb.registers(event.cpu).pc == handler:  # of the one before, which holds this one back
            gdb.set_step_mode(Step.HOLD_ALL)
            gdb.step_over(event.cpu)
        mine = handler not in gdb.breakpoints
        gdb.set_breakpoint(handler)
        try:
            gdb.cont()
            if _live(event):
                event.fire(self.machine)
            stop = gdb.wait_stop(deadline, f"arrival of {event.name}")
        except DeadlineError as error:
            gdb.interrupt()
            where = self.images.name(gdb.registers(event.cpu).pc)
            raise DeliveryError(
                f"{event.name} did not reach {self.images.name(handler)} within "
                f"{deadline.seconds:g} s; CPU {event.cpu} is at {where}"
            ) from error
        finally:
            if mine and self.machine.alive and not gdb.running:
                gdb.remove_breakpoint(handler)
        registers = gdb.registers(event.cpu)
        if stop.cpu != event.cpu or registers.pc != handler:
            where = self.images.name(gdb.registers(stop.cpu).pc)
            raise DeliveryError(
                f"{event.name}: CPU {stop.cpu} stopped at {where}, before its arrival",
                "Remove other breakpoints, or inject elsewhere",
            )
        return registers
