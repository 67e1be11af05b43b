# SPDX-License-Identifier: MIT
"""A kernel's trace rings, read out of its memory, as a timeline for Perfetto or chrome://tracing.

Any kernel can have such rings: an array `trace_rings` of pointers, one a core, to the layout that
kernel/abi/trace.h describes. They are read through the gdbstub, also after a panic.
"""

from __future__ import annotations

import enum
import json
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onestack.elf import Images
from onestack.errors import OnestackError
from onestack.inject import NMI
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
    IPI = 8
    WAKE = 9


INSIDE = {Kind.IPI, Kind.WAKE}  # of something that happens within an entry


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


class Lane(enum.IntEnum):
    """The lanes of a core, in the order in which they are shown."""

    ENTRIES = 0  # slices inside each other, as the entries lie
    STATE = 1
    IRQ = 2
    NMI = 3


USER, IDLE = "user", "idle"  # states that a record of leaving the kernel implies


@dataclass(frozen=True)
class _Open:
    """A slice that has begun: an entry, or what user mode or idle does until the next one."""

    name: str
    state: str
    nest: int
    vector: int | None = None


@dataclass(frozen=True)
class _End:
    """One end of an arrow between cores: "s" where it begins, "f" where it points to."""

    phase: str
    category: str
    flow: int


# A core and the number of one of its records.
_Point = tuple[int, int]


def crossings(rings: Sequence[Ring]) -> dict[_Point, list[_End]]:
    """The arrows between cores, by the records that they begin and end at.

    From an interrupt that was sent to the next one by its vector there; those that the CPU has made
    one of all point to it. And from where a thread was told to go on to where it next does.
    """
    ends: dict[_Point, list[_End]] = defaultdict(list)
    waiting: dict[tuple[Kind, int, int], list[tuple[int, _Point]]] = defaultdict(list)
    flows = 0
    for record, point in _by_time(rings):
        core = point[0]
        if record.kind is Kind.IPI:
            waiting[Kind.IPI, record.value, record.what].append((record.time, point))
            continue
        if record.kind is Kind.WAKE:
            waiting[Kind.WAKE, record.value, 0] = [(record.time, point)]
            continue
        if record.kind is Kind.IRQ:
            category, tails = "ipi", waiting.pop((Kind.IPI, core, record.what), [])
        elif record.kind is Kind.EXIT:
            category, tails = "wake", waiting.pop((Kind.WAKE, record.thread, 0), [])
        else:
            continue
        ring = next(ring for ring in rings if ring.core == core)
        since = ring.records[0].time if ring.lost else 0  # what they point to may be among the lost
        for time, tail in tails:
            if tail[0] != core and time >= since:
                flows += 1
                ends[tail].append(_End("s", category, flows))
                ends[point].append(_End("f", category, flows))
    return ends


def _by_time(rings: Sequence[Ring]) -> list[tuple[Record, _Point]]:
    """All records that lie in a slice or begin one: a ring may begin in the middle of an entry."""
    found = []
    for ring in rings:
        inside = False
        for at, record in enumerate(ring.records):
            inside |= record.kind is not Kind.RETURN and record.kind not in INSIDE
            if inside:
                found.append((record, (ring.core, at)))
    return sorted(found, key=lambda one: one[0].time)


class _Core:
    """One core's records to events."""

    def __init__(
        self,
        ring: Ring,
        images: Images,
        states: Sequence[str],
        arrows: Mapping[_Point, Sequence[_End]],
    ) -> None:
        self._ring = ring
        self._arrows = arrows
        self._images = images
        self._states = states
        self._open: list[_Open] = []
        self._state = ""
        self._sent: Record | None = None  # the message that the last system call was
        self._flows = ring.core << 32
        self.events = list(self._names())

    def _names(self) -> Iterator[dict[str, Any]]:
        pid = self._ring.core + 1  # 0 has a meaning of its own to viewers
        core = f"core {self._ring.core}"
        yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": core}}
        yield {"ph": "M", "pid": pid, "name": "process_sort_index", "args": {"sort_index": pid}}
        for lane in Lane:
            head = {"ph": "M", "pid": pid, "tid": self._tid(lane)}
            name = lane.name if lane in (Lane.IRQ, Lane.NMI) else lane.name.lower()
            yield {**head, "name": "thread_name", "args": {"name": name}}
            yield {**head, "name": "thread_sort_index", "args": {"sort_index": int(lane)}}

    def _tid(self, lane: Lane) -> int:
        return (self._ring.core + 1) * 10 + lane

    def _event(self, phase: str, lane: Lane, record: Record, name: str, **more: Any) -> None:
        time = record.time * 1_000_000 / self._ring.hz
        where = {"pid": self._ring.core + 1, "tid": self._tid(lane)}
        self.events.append({"ph": phase, **where, "ts": time, "name": name, **more})

    def _begin(self, record: Record, entry: _Open) -> None:
        args = {
            "thread": hex(record.thread),
            "value": self._images.name(record.value),
            "nest": entry.nest,
            "state": entry.state,
            "pending": hex(record.pending),
        }
        self._event("B", Lane.ENTRIES, record, entry.name, args=args)
        self._open.append(entry)

    def _end(self, record: Record, down_to: int) -> None:
        """End the inner slices until `down_to` are open."""
        while len(self._open) > down_to:
            self._event("E", Lane.ENTRIES, record, self._open.pop().name)

    def _tell(self, record: Record) -> None:
        """Nest and state as they are after a record."""
        state = self._open[-1].state if self._open else ""
        nest = self._open[-1].nest if self._open else record.nest
        if state != self._state:
            if self._state:
                self._event("E", Lane.STATE, record, self._state)
            if state:
                self._event("B", Lane.STATE, record, state)
            self._state = state
        self._event("C", Lane.ENTRIES, record, "nest", args={"nest": nest})

    def convert(self) -> list[dict[str, Any]]:
        """All of it."""
        for at, record in enumerate(self._ring.records):
            if record.kind is Kind.RETURN:
                self._return(record)
            elif record.kind in (Kind.EXIT, Kind.IDLE):
                self._leave(record)
            elif record.kind not in INSIDE:
                self._enter(record)
            if record.kind not in INSIDE:
                self._tell(record)
            for end in self._arrows.get((self._ring.core, at), ()):
                more: dict[str, Any] = {"bp": "e"} if end.phase == "f" else {}
                more |= {"cat": end.category, "id": end.flow}
                self._event(end.phase, Lane.ENTRIES, record, end.category, **more)
        if self._ring.records:
            last = self._ring.records[-1]
            self._end(last, 0)
            if self._state:
                self._event("E", Lane.STATE, last, self._state)
        return self.events

    def _return(self, record: Record) -> None:
        """From the innermost entry by that vector; what it began in goes on."""
        at = [i for i, one in enumerate(self._open) if i and one.vector == record.what]
        self._end(record, at[-1] if at else max(1, record.nest - 1))

    def _leave(self, record: Record) -> None:
        """To user mode or to idle: all entries are over."""
        self._end(record, 0)
        if record.kind is Kind.IDLE:
            self._begin(record, _Open("idle", IDLE, 1))
        else:
            self._begin(record, _Open(f"thread {record.thread:#x}", USER, 0))
        self._arrive(record)

    def _enter(self, record: Record) -> None:
        """An entry: it ends what user mode did, or lies inside what it interrupts."""
        # At SYSCALL's first instruction an NMI finds ring 0 and nest 0: it lies in the thread.
        outermost = record.nest <= 1 and record.kind is not Kind.IST
        self._end(record, 0 if outermost else max(1, record.nest - 1))
        state = self._states[record.state] if record.state < len(self._states) else "?"
        vector = None if record.kind is Kind.SYSCALL else record.what
        self._begin(record, _Open(self._name(record), state, record.nest, vector))
        if record.kind is Kind.SYSCALL:
            self._sent = record if self._name(record) in MESSAGES else None
        elif record.kind is Kind.IRQ:
            self._event("i", Lane.IRQ, record, self._name(record), s="t")
        elif record.what == NMI:
            self._event("i", Lane.NMI, record, "NMI", s="t")

    def _name(self, record: Record) -> str:
        if record.kind is Kind.SYSCALL:
            calls = self._ring.calls
            return calls[record.what] if record.what < len(calls) else f"call {record.what}"
        if record.kind is Kind.IRQ:
            return f"irq {record.what:#x}"
        return EXCEPTIONS.get(record.what, f"exception {record.what}")

    def _arrive(self, record: Record) -> None:
        """An arrow, if what was sent has let another thread run on this core.

        Both ends lie in slices that have begun: a viewer finds them by their times.
        """
        sent, self._sent = self._sent, None
        if sent and record.kind is Kind.EXIT and record.thread != sent.thread:
            self._flows += 1
            arrow = {"cat": "ipc", "id": self._flows}
            self._event("s", Lane.ENTRIES, sent, self._name(sent), **arrow)
            self._event("f", Lane.ENTRIES, record, self._name(sent), **arrow, bp="e")


def timeline(rings: Sequence[Ring], images: Images, states: Sequence[str] = ()) -> dict[str, Any]:
    """The Chrome trace event format: for each core its lanes and its nest; arrows for messages."""
    arrows = crossings(rings)
    events = [event for ring in rings for event in _Core(ring, images, states, arrows).convert()]
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
