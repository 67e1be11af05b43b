# SPDX-License-Identifier: MIT
"""A client of QEMU's gdbstub (the remote serial protocol), without policy.

CPUs are numbered from 0 here and from 1 on the wire. Addresses are virtual, in the address space
that the chosen CPU has loaded, unless a name says physical.
"""

from __future__ import annotations

import enum
import re
import select
import socket
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from onestack.deadline import Deadline
from onestack.errors import OnestackError, ProtocolError
from onestack.registers import Layout, Registers, layout_from_xml
from onestack.watch import Watch

REPLY_TIMEOUT = 10.0  # seconds for QEMU to answer what needs no guest
RETRIES = 3  # of a packet with a wrong checksum
CHUNK = 0x700  # bytes of memory in one packet; QEMU's buffer takes 4096 characters
SIGINT, SIGTRAP = 2, 5
STOP = re.compile(rb"^(?:T[0-9a-f]{2}|S[0-9a-f]{2}$)")


class GdbError(OnestackError):
    """The stub answered a command with an error, or does not know it."""


class Watchpoint(enum.IntEnum):
    """Kinds of watchpoint; the values are the protocol's."""

    WRITE = 2
    READ = 3
    ACCESS = 4


class Step(enum.IntFlag):
    """What a single step holds back. QEMU's default is both."""

    TAKE_ALL = 1
    NO_IRQ = 2  # interrupts of any kind, NMI too
    NO_TIMER = 4  # the virtual clock stands still
    HOLD_ALL = 7


@dataclass(frozen=True)
class Stop:
    """Why and where the guest stopped.

    `signal` is 5 at a breakpoint, a step or a watchpoint, 2 after interrupt(), else the reason for
    which QEMU paused the machine. `watch` is the watched address if a watchpoint was hit.
    """

    signal: int
    cpu: int
    watch: int | None = None


def encode(payload: bytes) -> bytes:
    """Frame a packet. Commands of ours have no byte that needs escaping."""
    return b"$%s#%02x" % (payload, sum(payload) & 0xFF)


def decode(body: bytes) -> bytes:
    """Undo escapes and run lengths. ProtocolError if the body ends in the middle of one."""
    if b"}" not in body and b"*" not in body:
        return body
    out = bytearray()
    i = 0
    while i < len(body):
        byte = body[i]
        if byte not in b"}*":
            out.append(byte)
            i += 1
            continue
        if i + 1 == len(body) or (byte == ord("*") and (not out or body[i + 1] < 32)):
            raise ProtocolError(f"malformed gdb packet {body[:60]!r}")
        if byte == ord("}"):
            out.append(body[i + 1] ^ 0x20)
        else:
            out += out[-1:] * (body[i + 1] - 29)
        i += 2
    return bytes(out)


def parse_stop(packet: bytes) -> Stop:
    """Take a stop reply apart. ProtocolError if it is none."""
    if not STOP.match(packet):
        raise ProtocolError(f"not a stop reply: {packet[:60]!r}")
    cpu, watch = 0, None
    try:
        for pair in packet[3:].rstrip(b";").split(b";"):
            name, _, value = pair.partition(b":")
            if name == b"thread":
                cpu = int(value, 16) - 1
            elif name.endswith(b"watch"):
                watch = int(value, 16)
    except ValueError as error:
        raise ProtocolError(f"malformed stop reply: {packet[:60]!r}") from error
    return Stop(int(packet[1:3], 16), cpu, watch)


class GdbStub:
    """One session. The guest is stopped when it begins.

    While `running`, only wait_stop() and interrupt() may be called.
    """

    def __init__(self, connected: socket.socket, watch: Watch, deadline: Deadline) -> None:
        self._socket = connected
        self._socket.setblocking(False)
        self._fd = connected.fileno()
        self._watch = watch
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._buffer = bytearray()
        self._owed = b""  # an acknowledgement that goes out with the next packet
        self._cpu: int | None = None  # to which register and memory packets now refer
        self._sstep: Step | None = None
        self._queued: list[bytes] = []
        self._unanswered = 0  # queued packets that were sent
        self._bad_checksums = 0
        self.running = False
        self.breakpoints: set[int] = set()
        supported = self._command(b"qSupported:xmlRegisters=i386", deadline)
        if b"qXfer:features:read+" not in supported:
            raise ProtocolError("the gdbstub does not describe its registers")
        self.layout: Layout = layout_from_xml(self._annex)

    # ---- packets

    def _send(self, payload: bytes) -> None:
        """Send a packet behind those that are queued, which are acknowledged unseen."""
        data = b"+".join(encode(packet) for packet in (*self._queued, payload))
        self._unanswered += len(self._queued)
        self._queued.clear()
        self._transmit(self._owed + data)

    def _transmit(self, data: bytes) -> None:
        self._owed = b""
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                select.select([], [self._fd], [])
            except (BrokenPipeError, ConnectionResetError):
                self._lost()

    def _fill(self) -> None:
        """Read what is there, at least one byte."""
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._lost()
        self._buffer += data

    def _lost(self) -> NoReturn:
        """The stub has gone: QEMU is ending, and the watch will say how."""
        self._watch.wait(None, Deadline(1.0), "end of QEMU after the gdbstub closed")
        raise ProtocolError("the gdbstub closed the connection")

    def _packet(self) -> bytes | None:
        """Take one packet out of the buffer; None if there is no whole one.

        A packet with a wrong checksum is taken out and asked for again.
        """
        buffer = self._buffer
        while buffer[:1] == b"+":
            del buffer[0]
        if not buffer:
            return None
        if buffer[:1] == b"-":
            raise ProtocolError("the gdbstub did not understand a packet of ours")
        if buffer[:1] != b"$":
            raise ProtocolError(f"not a gdb packet: {bytes(buffer[:60])!r}")
        end = buffer.find(b"#")
        if end < 0 or len(buffer) < end + 3:
            return None
        body, given = bytes(buffer[1:end]), bytes(buffer[end + 1 : end + 3])
        del buffer[: end + 3]
        if b"%02x" % (sum(body) & 0xFF) != given.lower():
            self._bad_checksums += 1
            if self._bad_checksums > RETRIES:
                raise ProtocolError(f"gdb packets with wrong checksums, last {body[:60]!r}")
            self._transmit(b"-")
            return None
        self._owed = b"+"
        packet = decode(body)
        if self._unanswered and not STOP.match(packet):
            self._unanswered -= 1
            if packet != b"OK":
                raise GdbError(f"the gdbstub refuses a packet that was queued: {packet[:60]!r}")
            return self._packet()
        return packet

    def _command(self, payload: bytes, deadline: Deadline | None = None) -> bytes:
        """Send a packet and return the answer to it."""
        if self.running:
            raise ProtocolError(f"gdb command {payload[:20]!r} while the guest runs")
        self._bad_checksums = 0
        self._send(payload)
        return self._answer(payload, deadline or Deadline(REPLY_TIMEOUT))

    def _answer(self, payload: bytes, deadline: Deadline) -> bytes:
        """Wait for the answer to a packet that was sent."""
        while True:
            while (packet := self._packet()) is None:
                if not self._poll.poll(deadline.remaining * 1000):
                    raise deadline.error(f"answer of the gdbstub to {payload[:20]!r}")
                self._fill()
            if payload == b"?" or not STOP.match(packet):
                return packet
            # the machine was stopped by somebody else (QMP): old news

    def _checked(self, payload: bytes) -> bytes:
        """Send a packet; GdbError unless the answer is a good one."""
        answer = self._command(payload)
        if not answer:
            raise GdbError(f"the gdbstub does not know {payload[:40].decode()}")
        if len(answer) == 3 and answer[:1] == b"E":
            raise GdbError(f"the gdbstub refuses {payload[:40].decode()}: {answer.decode()}")
        return answer

    def _ok(self, payload: bytes) -> None:
        answer = self._checked(payload)
        if answer != b"OK":
            raise ProtocolError(f"{answer[:60]!r} in answer to {payload[:40]!r}")

    def _hex(self, payload: bytes, size: int | None = None) -> bytes:
        """Send a packet whose answer is hexadecimal, of `size` bytes if that is known."""
        answer = self._checked(payload)
        try:
            data = bytes.fromhex(answer.decode("ascii"))
        except ValueError as error:
            raise ProtocolError(f"{answer[:60]!r} in answer to {payload[:40]!r}") from error
        if size is not None and len(data) != size:
            raise ProtocolError(f"{len(data)} bytes for {size} in answer to {payload[:40]!r}")
        return data

    def _annex(self, name: str) -> str:
        """Fetch a file of the target description."""
        data = bytearray()
        while True:
            answer = self._checked(b"qXfer:features:read:%s:%x,7f0" % (name.encode(), len(data)))
            data += answer[1:]
            if answer[:1] == b"l":
                return data.decode()
            if answer[:1] != b"m" or len(answer) == 1:
                raise ProtocolError(f"malformed part of {name}: {answer[:60]!r}")

    # ---- registers and memory

    def _select(self, cpu: int) -> None:
        if self._cpu != cpu:
            self._queued.append(b"Hg%x" % (cpu + 1))
            self._cpu = cpu

    def cpus(self) -> list[int]:
        """The numbers of all CPUs."""
        found: list[int] = []
        answer = self._checked(b"qfThreadInfo")
        while answer[:1] == b"m":
            found += [int(number, 16) - 1 for number in answer[1:].split(b",")]
            answer = self._checked(b"qsThreadInfo")
        if answer != b"l":
            raise ProtocolError(f"malformed thread list: {answer[:60]!r}")
        return found

    def registers(self, cpu: int = 0) -> Registers:
        """Read all registers of a CPU."""
        self._select(cpu)
        raw = self._hex(b"g")
        field = self.layout["rip"]
        if len(raw) < field.offset + field.size:
            raise ProtocolError(f"only {len(raw)} bytes of registers")
        return Registers(self.layout, raw)

    def write_register(self, name: str, value: int, cpu: int = 0) -> None:
        """Set one register, for instance `rip`."""
        self._select(cpu)
        field = self.layout[name]
        self._ok(b"P%x=%s" % (field.number, value.to_bytes(field.size, "little").hex().encode()))

    def read(self, address: int, size: int, cpu: int = 0) -> bytes:
        """Read virtual memory. GdbError if any of it is not mapped."""
        self._select(cpu)
        parts = (
            self._hex(b"m%x,%x" % (address + at, min(CHUNK, size - at)), min(CHUNK, size - at))
            for at in range(0, size, CHUNK)
        )
        return b"".join(parts)

    def read_all(self, wanted: Sequence[tuple[int, int]], cpu: int = 0) -> list[bytes | None]:
        """Read pieces of virtual memory, (address, size), by one round trip.

        None for a piece that is not all mapped. A piece is at most CHUNK bytes.
        """
        if not wanted:
            return []
        self._select(cpu)
        self._bad_checksums = 0
        *before, last = [b"m%x,%x" % piece for piece in wanted]
        self._queued += before
        self._send(last)
        self._unanswered -= len(before)  # of those, unlike of others, the answers are wanted
        found: list[bytes | None] = []
        for _, size in wanted:
            answer = self._answer(b"m", Deadline(REPLY_TIMEOUT))
            found.append(None if len(answer) == 3 else bytes.fromhex(answer.decode("ascii")))
            if found[-1] is not None and len(found[-1]) != size:
                raise ProtocolError(f"{len(found[-1])} bytes for {size}")
        return found

    def write(self, address: int, data: bytes, cpu: int = 0) -> None:
        """Write virtual memory, read-only pages too. GdbError if any of it is not mapped."""
        self._select(cpu)
        for at in range(0, len(data), CHUNK):
            part = data[at : at + CHUNK]
            self._ok(b"M%x,%x:%s" % (address + at, len(part), part.hex().encode()))

    @contextmanager
    def _physical(self) -> Iterator[None]:
        self._ok(b"Qqemu.PhyMemMode:1")
        try:
            yield
        finally:
            self._ok(b"Qqemu.PhyMemMode:0")

    def read_physical(self, address: int, size: int) -> bytes:
        """Read physical memory."""
        with self._physical():
            return self.read(address, size, self._cpu or 0)

    def write_physical(self, address: int, data: bytes) -> None:
        """Write physical memory. A doubleword at 0xfeexxxxx is an MSI."""
        with self._physical():
            self.write(address, data, self._cpu or 0)

    def post_physical(self, address: int, data: bytes) -> None:
        """Likewise, up to CHUNK bytes; goes out with the next command, without a round trip."""
        write = b"M%x,%x:%s" % (address, len(data), data.hex().encode())
        self._queued += [b"Qqemu.PhyMemMode:1", write, b"Qqemu.PhyMemMode:0"]

    # ---- break, step, go

    def set_breakpoint(self, address: int) -> None:
        """Stop any CPU before it executes the instruction at `address`. Idempotent."""
        if address not in self.breakpoints:
            self._ok(b"Z0,%x,1" % address)
            self.breakpoints.add(address)

    def remove_breakpoint(self, address: int) -> None:
        """Undo set_breakpoint(). Idempotent."""
        if address in self.breakpoints:
            self._ok(b"z0,%x,1" % address)
            self.breakpoints.discard(address)

    def change_breakpoints(self, wanted: AbstractSet[int]) -> None:
        """Make `wanted` the breakpoints. Goes out with the next command, without a round trip."""
        for address in self.breakpoints - wanted:
            self._queued.append(b"z0,%x,1" % address)
        for address in wanted - self.breakpoints:
            self._queued.append(b"Z0,%x,1" % address)
        self.breakpoints = set(wanted)

    def set_watchpoint(self, address: int, size: int, kind: Watchpoint) -> None:
        """Stop any CPU after it touched these bytes."""
        self._ok(b"Z%d,%x,%x" % (kind, address, size))

    def remove_watchpoint(self, address: int, size: int, kind: Watchpoint) -> None:
        """Undo set_watchpoint()."""
        self._ok(b"z%d,%x,%x" % (kind, address, size))

    def set_step_mode(self, mode: Step) -> None:
        """Choose what a single step holds back from now on."""
        if mode != self._sstep:
            self._ok(b"Qqemu.sstep=%x" % mode)
            self._sstep = mode

    def _go(self, payload: bytes) -> None:
        if self.running:
            raise ProtocolError(f"gdb command {payload!r} while the guest runs")
        self._send(payload)
        self.running = True

    def step(
        self, cpu: int = 0, deadline: Deadline | float = REPLY_TIMEOUT, *, others: bool = False
    ) -> Stop:
        """Execute one instruction of a CPU; the others stand still unless `others`."""
        self._go(b"vCont;s:%x%s" % (cpu + 1, b";c" if others else b""))
        return self.wait_stop(deadline, "end of a single step")

    def cont(self, cpu: int | None = None) -> None:
        """Let all CPUs run, at once, from where they are; or one, while the others stand still.

        A breakpoint at the current instruction stops the guest again without executing it:
        see step_over().
        """
        self._go(b"c" if cpu is None else b"vCont;c:%x" % (cpu + 1))

    def step_over(self, cpu: int = 0, deadline: Deadline | float = REPLY_TIMEOUT) -> Stop:
        """Execute one instruction of a CPU even if there is a breakpoint on it."""
        address = self.registers(cpu).pc
        hidden = address in self.breakpoints
        if hidden:
            self.remove_breakpoint(address)
        try:
            return self.step(cpu, deadline)
        finally:
            if hidden and not self.running:
                self.set_breakpoint(address)

    def interrupt(self, deadline: Deadline | float = REPLY_TIMEOUT) -> Stop:
        """Stop the guest wherever it is. Harmless if a breakpoint was quicker, or a reset."""
        if not self.running:
            return parse_stop(self._command(b"?"))
        self._transmit(self._owed + b"\x03")
        return self._next_stop(Deadline.of(deadline), "stop of the guest")

    def wait_stop(self, deadline: Deadline | float, what: str = "stop of the guest") -> Stop:
        """Wait until the guest stops. GuestError if it fails first, DeadlineError if it runs on."""
        stop = self._next_stop(Deadline.of(deadline), what)
        if stop.signal not in (SIGINT, SIGTRAP):  # QEMU has ended it; an event on QMP says why
            self._watch.wait(None, Deadline(1.0), f"reason for signal {stop.signal}")
        return stop

    def _next_stop(self, deadline: Deadline, what: str) -> Stop:
        self._bad_checksums = 0
        while (packet := self._packet()) is None:
            self._watch.wait(self._fd, deadline, what)
            self._fill()
        self.running = False
        self._cpu = None  # QEMU now refers to the CPU that stopped
        return parse_stop(packet)

    def detach(self) -> None:
        """Remove all breakpoints and let the guest run without us."""
        self._ok(b"D")
        self.breakpoints.clear()

    def close(self) -> None:
        """Close the connection. The machine is not told."""
        self._socket.close()
