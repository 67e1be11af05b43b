# SPDX-License-Identifier: MIT
"""Trace rings to a timeline: lanes, nesting, arrows; and the format's checker on planted faults."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from trace_format import violations

from onestack.elf import Images
from onestack.trace import Kind, Record, Ring, timeline

STATES = ("user", "parmchk", "syscall", "ipc", "contin", "intr", "idle")
SYSCALL, INTR = 2, 5
ALICE, BOB, DUMMY = 0x1000, 0x2000, 0x3000
CALLS = ("null", "call")

Row = tuple[Kind, int, int, int, int]  # kind, thread, what, nest, state

ROWS: list[Row] = [
    (Kind.IDLE, DUMMY, 0, 1, SYSCALL),
    (Kind.IRQ, DUMMY, 0xF1, 2, INTR),  # nested in idle
    (Kind.RETURN, DUMMY, 0xF1, 2, INTR),
    (Kind.EXIT, ALICE, 0, 1, SYSCALL),
    (Kind.IST, ALICE, 2, 1, INTR),  # an NMI at SYSCALL's first instruction: ring 0, nest 0
    (Kind.RETURN, ALICE, 2, 1, INTR),
    (Kind.SYSCALL, ALICE, 1, 1, SYSCALL),
    (Kind.IRQ, ALICE, 0x31, 2, INTR),
    (Kind.TRAP, ALICE, 3, 3, INTR),
    (Kind.RETURN, ALICE, 3, 3, INTR),
    (Kind.RETURN, ALICE, 0x31, 2, INTR),
    (Kind.EXIT, BOB, 0, 1, SYSCALL),
    (Kind.SYSCALL, BOB, 0, 1, SYSCALL),
    (Kind.EXIT, BOB, 0, 1, SYSCALL),
]


def ring(rows: list[Row] = ROWS, core: int = 0) -> Ring:
    records = [
        Record(1000 + 10 * at, thread, 0, what, kind, nest, state, 0)
        for at, (kind, thread, what, nest, state) in enumerate(rows)
    ]
    return Ring(core, 10**6, 0, 0, CALLS, tuple(records))


def converted(*rings: Ring) -> dict[str, Any]:
    content = timeline(rings, Images([]), STATES)
    assert violations(content) == []
    return content


def lane(content: dict[str, Any], name: str, core: int = 0) -> list[dict[str, Any]]:
    events = content["traceEvents"]
    [tid] = [
        event["tid"]
        for event in events
        if (event["pid"], event["name"]) == (core + 1, "thread_name")
        and event["args"]["name"] == name
    ]
    return [event for event in events if event.get("tid") == tid and event["ph"] != "M"]


def slices(events: list[dict[str, Any]]) -> list[tuple[str, int, float, float]]:
    """(name, depth, start, end) in the order of their starts."""
    stack: list[int] = []
    out: list[list[Any]] = []
    for event in events:
        if event["ph"] == "B":
            stack.append(len(out))
            out.append([event["name"], len(stack) - 1, event["ts"], None])
        elif event["ph"] == "E":
            out[stack.pop()][3] = event["ts"]
    return [(name, depth, start, end) for name, depth, start, end in out]


def test_entries_lie_inside_each_other() -> None:
    assert slices(lane(converted(ring()), "entries")) == [
        ("idle", 0, 1000, 1030),
        ("irq 0xf1", 1, 1010, 1020),
        ("thread 0x1000", 0, 1030, 1060),
        ("NMI", 1, 1040, 1050),
        ("call", 0, 1060, 1110),
        ("irq 0x31", 1, 1070, 1100),
        ("#BP", 2, 1080, 1090),
        ("thread 0x2000", 0, 1110, 1120),
        ("null", 0, 1120, 1130),
        ("thread 0x2000", 0, 1130, 1130),
    ]


def test_states_are_what_they_are_after_each_record() -> None:
    assert [(name, start) for name, _, start, _ in slices(lane(converted(ring()), "state"))] == [
        ("idle", 1000),
        ("intr", 1010),
        ("idle", 1020),
        ("user", 1030),
        ("intr", 1040),
        ("user", 1050),
        ("syscall", 1060),
        ("intr", 1070),
        ("syscall", 1100),
        ("user", 1110),
        ("syscall", 1120),
        ("user", 1130),
    ]


def test_nest_goes_down_again() -> None:
    counters = [event for event in converted(ring())["traceEvents"] if event["ph"] == "C"]
    assert [event["args"]["nest"] for event in counters] == [
        *(1, 2, 1),  # idle
        *(0, 1, 0),  # the NMI at nest 0
        *(1, 2, 3, 2, 1),
        *(0, 1, 0),
    ]


def test_interrupts_and_nmis_have_lanes_of_their_own() -> None:
    content = converted(ring())
    assert [event["name"] for event in lane(content, "IRQ")] == ["irq 0xf1", "irq 0x31"]
    assert [(event["name"], event["ts"]) for event in lane(content, "NMI")] == [("NMI", 1040)]


def test_an_arrow_from_the_call_to_whom_it_lets_run() -> None:
    content = converted(ring())
    arrows = [event for event in content["traceEvents"] if event["ph"] in "sf"]
    assert [(event["ph"], event["ts"]) for event in arrows] == [("s", 1060), ("f", 1110)]
    rows = [*ROWS]
    rows[11] = (Kind.EXIT, ALICE, 0, 1, SYSCALL)  # nobody else was waiting
    assert not [event for event in converted(ring(rows))["traceEvents"] if event["ph"] in "sf"]


def test_each_core_is_a_process_with_its_lanes() -> None:
    content = converted(ring(), ring(core=1))
    names = [e["args"]["name"] for e in content["traceEvents"] if e["name"] == "process_name"]
    assert names == ["core 0", "core 1"]
    assert slices(lane(content, "entries", 0)) == slices(lane(content, "entries", 1))
    arrows = {event["id"] for event in content["traceEvents"] if event["ph"] == "s"}
    assert len(arrows) == 2


# Two cores: ALICE on core 0 wakes BOB on core 1. (time, kind, thread, value, what, nest)
Event = tuple[int, Kind, int, int, int, int]
SENDER: list[Event] = [
    (0, Kind.SYSCALL, ALICE, 0, 1, 1),
    (10, Kind.WAKE, ALICE, BOB, 0, 1),
    (11, Kind.IPI, ALICE, 1, 0xF1, 1),
    (12, Kind.IPI, ALICE, 1, 0xF2, 1),
    (40, Kind.EXIT, ALICE, 0, 0, 1),
]
RECEIVER: list[Event] = [
    (5, Kind.IDLE, DUMMY, 0, 0, 1),
    (20, Kind.IRQ, DUMMY, 0, 0xF1, 2),
    (21, Kind.RETURN, DUMMY, 0, 0xF1, 2),
    (30, Kind.EXIT, BOB, 0, 0, 1),
]


def arrows(sender: list[Event], receiver: list[Event], lost: int = 0) -> list[tuple[Any, ...]]:
    """(category, from core, time, to core, time) of each arrow."""
    rings = [
        Ring(core, 10**6, lost, 0, CALLS, tuple(
            Record(time, thread, value, what, kind, nest, SYSCALL, 0)
            for time, kind, thread, value, what, nest in events
        ))
        for core, events in enumerate((sender, receiver))
    ]  # fmt: skip
    events = converted(*rings)["traceEvents"]
    ends = {(e["cat"], e["id"], e["ph"]): e for e in events if e["ph"] in "sf"}
    return sorted(
        (category, tail["pid"] - 1, tail["ts"], head["pid"] - 1, head["ts"])
        for (category, flow, phase), tail in ends.items()
        if phase == "s"
        for head in [ends[category, flow, "f"]]
    )


def test_arrows_between_cores() -> None:
    assert arrows(SENDER, RECEIVER) == [("ipi", 0, 11, 1, 20), ("wake", 0, 10, 1, 30)]


def test_interrupts_that_came_as_one() -> None:
    twice = [*SENDER[:3], (15, Kind.IPI, ALICE, 1, 0xF1, 1), SENDER[4]]
    assert arrows(twice, RECEIVER)[:2] == [("ipi", 0, 11, 1, 20), ("ipi", 0, 15, 1, 20)]
    later = [*SENDER[:3], (25, Kind.IPI, ALICE, 1, 0xF1, 1), SENDER[4]]  # none for it any more
    assert arrows(later, RECEIVER)[:1] == arrows(SENDER, RECEIVER)[:1]


def test_a_thread_that_is_woken_by_its_own_core_has_no_arrow() -> None:
    own = [*RECEIVER[:3], (25, Kind.WAKE, DUMMY, BOB, 0, 1), RECEIVER[3]]
    assert arrows([SENDER[0], SENDER[4]], own) == []


def test_no_arrow_from_before_what_was_lost() -> None:
    """Whose interrupt or exit that was, newer records may have overwritten."""
    late = [(12, Kind.IDLE, DUMMY, 0, 0, 1), *RECEIVER[1:]]
    assert arrows(SENDER, late, lost=1) == []
    assert len(arrows(SENDER, late)) == 2


def test_no_arrow_from_outside_of_all_slices() -> None:
    assert arrows(SENDER[1:], RECEIVER) == []  # that ring begins within the entry


def test_a_fault_that_the_kernel_recovers_from_has_no_return() -> None:
    rows: list[Row] = [
        (Kind.EXIT, ALICE, 0, 1, SYSCALL),
        (Kind.SYSCALL, ALICE, 0, 1, SYSCALL),
        (Kind.TRAP, ALICE, 14, 2, INTR),
        (Kind.EXIT, ALICE, 0, 1, SYSCALL),
    ]
    found = slices(lane(converted(ring(rows)), "entries"))
    assert [(name, depth) for name, depth, _, _ in found] == [
        ("thread 0x1000", 0),
        ("null", 0),
        ("#PF", 1),
        ("thread 0x1000", 0),
    ]


def test_a_ring_that_begins_or_ends_within_entries() -> None:
    for first in range(len(ROWS)):
        for last in range(first, len(ROWS) + 1):
            converted(ring(ROWS[first:last]))


# ---- the checker finds what is planted


def find(content: dict[str, Any], phase: str) -> dict[str, Any]:
    found: dict[str, Any] = next(e for e in content["traceEvents"] if e["ph"] == phase)
    return found


def drop(content: dict[str, Any], phase: str) -> None:
    content["traceEvents"].remove(find(content, phase))


def arrow_head_before_its_slice(content: dict[str, Any]) -> None:
    """As our first timelines had it: Perfetto showed none of their arrows."""
    find(content, "f")["ts"] = 999


def swap(content: dict[str, Any]) -> None:
    find(content, "s")["ph"] = "f"


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda c: drop(c, "B"), "closes what is not open"),
        (lambda c: drop(c, "s"), "not one tail and one head"),
        (swap, "not one tail and one head"),
        (arrow_head_before_its_slice, "an arrow's end in no slice"),
        (lambda c: find(c, "f").pop("bp"), "not bound to what encloses it"),
        (lambda c: find(c, "C")["args"].update(nest="2"), "a counter that is no number"),
        (lambda c: find(c, "B").pop("tid"), "no time or lane"),
        (lambda c: find(c, "E").update(ts=5000), "time runs back"),
        (lambda c: find(c, "i").update(s="x"), "scope of an instant"),
        (lambda c: find(c, "M").update(name="x"), "unknown metadata"),
        (lambda c: find(c, "B").update(ph="?"), "phase '?'"),
        (lambda c: c.pop("traceEvents"), "no array"),
        (lambda c: c["traceEvents"].pop(), "never closed"),
    ],
)
def test_a_planted_fault_is_found(plant: Callable[[dict[str, Any]], object], said: str) -> None:
    content = copy.deepcopy(converted(ring()))
    plant(content)
    assert any(said in line for line in violations(content)), violations(content)
