# SPDX-License-Identifier: MIT
"""A kernel's trace rings, read out of its memory, as a timeline for Perfetto or chrome://tracing.

Any kernel can have such rings: an array `trace_rings` of pointers, one a core, to the layout that
kernel/abi/trace.h describes. They are read through the gdbstub, also after a panic.
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onestack.elf import Images
from onestack.errors import OnestackError
from onestack.machine import Machine

MAGIC = 0x454341525453454F
HEADER = struct.Struct("<QIIQQQQQQ")
RECORD = struct.Struct("<QQQHBBBBH")
EXCEPTIONS = {
    0: "#DE", 1: "#DB", 2: "NMI", 3: "#BP", 4: "#OF", 5: "#BR", 6: "#UD", 7: "#NM", 8: "#DF",
    10: "#TS", 11: "#NP", 12: "#SS", 13: "#GP", 14: "#PF", 16: "#MF", 17: "#AC", 18: "#MC",
    19: "#XM",
}  # fmt: skip
# System calls after which another thread may go on with what the caller has sent.
MESSAGES = {"call", "send", "reply", "reply_receive", "signal"}


class TraceError(OnestackError):
    """There is no ring, or it is not as it should be."""


class Kind(enum.IntEnum):
    """What a record says; the values are the kernel's."""

    NONE = 0
    SYSCALL = 1
    IRQ = 2
    TRAP = 3
    IST = 4
    RETURN = 5
    EXIT = 6
    IDLE = 7


@dataclass(frozen=True)
class Record:
    """One record. `time` is in ticks of the ring's clock."""

    time: int
    thread: int
    value: int
    what: int
    kind: Kind
    nest: int
    state: int
    pending: int


@dataclass(frozen=True)
class Ring:
    """A core's records, the oldest first. `lost` are those that newer ones have overwritten."""

    core: int
    hz: int
    lost: int
    torn: int
    calls: tuple[str, ...]
    records: tuple[Record, ...]


def read_rings(machine: Machine, images: Images) -> list[Ring]:
    """The rings of all cores that have one. The machine stands still. TraceError: there is none."""
    if not any("trace_rings" in image.by_name for image in images.images):
        raise TraceError("the kernel has no trace_rings", "Give an ELF file with that symbol")
    where = images.range_of("trace_rings")
    pointers = machine.gdb.read(where.start, len(where))
    found = [
        _ring(machine, images, core, address)
        for core, (address,) in enumerate(struct.iter_unpack("<Q", pointers))
        if address
    ]
    if not found:
        raise TraceError("no core has a trace ring", "Boot the kernel with trace=1")
    return found


def _ring(machine: Machine, images: Images, core: int, address: int) -> Ring:
    header = machine.gdb.read(address, HEADER.size)
    magic, size, count, begun, hz_at, calls_at, call_count, _idle, _spare = HEADER.unpack(header)
    if magic != MAGIC or size != RECORD.size:
        raise TraceError(f"the trace ring of core {core} has another layout")
    raw = machine.gdb.read(address + HEADER.size, size * min(begun, count))
    rows = list(RECORD.iter_unpack(raw))
    first = begun % count if begun > count else 0
    rows = rows[first:] + rows[:first]
    records = tuple(_record(row) for row in rows if row[4] != Kind.NONE)
    calls = struct.iter_unpack("<Q", machine.gdb.read(calls_at, 8 * call_count))
    names = tuple(images.name(call).removeprefix("sys_") for (call,) in calls)
    hz = int.from_bytes(machine.gdb.read(hz_at, 8), "little")
    torn = len(rows) - len(records)
    return Ring(core, hz or 10**9, max(0, begun - count), torn, names, records)


def _record(row: tuple[int, ...]) -> Record:
    time, thread, value, what, kind, nest, state, pending, _spare = row
    return Record(time, thread, value, what, Kind(kind), nest, state, pending)


class _Lane:
    """One core's records to events: slices that lie inside each other as the entries do."""

    def __init__(self, ring: Ring, images: Images, states: Sequence[str]) -> None:
        self._ring = ring
        self._images = images
        self._states = states
        self._open: list[str] = []  # names of the slices that have begun
        self._call = ""
        self._caller = 0
        self._flows = ring.core << 32
        self.events: list[dict[str, Any]] = []

    def _event(self, phase: str, record: Record, name: str, **more: Any) -> None:
        time = record.time * 1_000_000 / self._ring.hz
        event = {"ph": phase, "pid": 0, "tid": self._ring.core, "ts": time, "name": name, **more}
        self.events.append(event)

    def _begin(self, record: Record, name: str) -> None:
        state = self._states[record.state] if record.state < len(self._states) else record.state
        args = {
            "thread": hex(record.thread),
            "value": self._images.name(record.value),
            "nest": record.nest,
            "state": state,
            "pending": hex(record.pending),
        }
        self._event("B", record, name, args=args)
        self._open.append(name)

    def _end(self, record: Record, down_to: int) -> None:
        """End the inner slices until `down_to` are open."""
        while len(self._open) > down_to:
            self._event("E", record, self._open.pop())

    def convert(self) -> list[dict[str, Any]]:
        """All of it."""
        for record in self._ring.records:
            self._one(record)
        if self._ring.records:
            self._end(self._ring.records[-1], 0)
        return self.events

    def _one(self, record: Record) -> None:
        kind = record.kind
        if kind is Kind.RETURN:
            self._end(record, max(1, record.nest - 1))
        elif kind in (Kind.EXIT, Kind.IDLE):
            self._end(record, 0)
            self._arrive(record)
            self._begin(record, "idle" if kind is Kind.IDLE else f"thread {record.thread:#x}")
        else:
            self._enter(record)
        nest = 0 if kind is Kind.EXIT else record.nest
        self._event("C", record, f"nest of core {self._ring.core}", args={"nest": nest})

    def _enter(self, record: Record) -> None:
        """An entry: it ends what user mode did, or lies inside the entry it interrupts."""
        self._end(record, 0 if record.nest <= 1 else record.nest - 1)
        if record.kind is Kind.SYSCALL:
            calls = self._ring.calls
            name = calls[record.what] if record.what < len(calls) else f"call {record.what}"
            self._call, self._caller = name, record.thread
        elif record.kind is Kind.IRQ:
            name = f"irq {record.what:#x}"
        else:
            name = EXCEPTIONS.get(record.what, f"exception {record.what}")
        self._begin(record, name)
        if record.kind is Kind.SYSCALL and name in MESSAGES:
            self._flows += 1
            self._event("s", record, name, cat="ipc", id=self._flows)
        if name == "NMI":
            self._event("i", record, "NMI", s="t")

    def _arrive(self, record: Record) -> None:
        """The end of an arrow, if what was sent lets another thread run."""
        if self._call in MESSAGES and record.kind is Kind.EXIT and record.thread != self._caller:
            self._event("f", record, self._call, cat="ipc", id=self._flows, bp="e")
        elif self._call in MESSAGES:
            self.events = [e for e in self.events if e["ph"] != "s" or e["id"] != self._flows]
        self._call = ""


def timeline(rings: Sequence[Ring], images: Images, states: Sequence[str] = ()) -> dict[str, Any]:
    """The Chrome trace event format: a lane for each core, arrows for messages."""
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 0, "name": "process_name", "args": {"name": "kernel"}}
    ]
    for ring in rings:
        name = {"name": f"core {ring.core}"}
        events.append({"ph": "M", "pid": 0, "tid": ring.core, "name": "thread_name", "args": name})
        events += _Lane(ring, images, states).convert()
    lost = {f"core {ring.core}": {"lost": ring.lost, "torn": ring.torn} for ring in rings}
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": lost}


def state_names(images: Images) -> tuple[str, ...]:
    """What the kernel calls its states, from its table `state_names`; empty if it has none."""
    for image in images.images:
        table = image.by_name.get("state_names")
        if table:
            return tuple(_strings(images, image.bytes_at(table.address, table.size)))
    return ()


def _strings(images: Images, pointers: bytes) -> Iterator[str]:
    for (address,) in struct.iter_unpack("<Q", pointers):
        image = images.image_at(address)
        text = image.bytes_at(address, 32) if image else b""
        yield text.partition(b"\0")[0].decode("ascii", "replace")


def write(machine: Machine, images: Images, path: Path) -> dict[str, Any]:
    """Read the rings of a machine that stands still and write the timeline; returns it."""
    content = timeline(read_rings(machine, images), images, state_names(images))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return content
