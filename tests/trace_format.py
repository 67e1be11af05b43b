# SPDX-License-Identifier: MIT
"""The Trace Event Format's rules, as far as our timelines use it, and what Perfetto needs besides.

Perfetto's own importer was what these were compared with: an arrow's end that no slice encloses is
dropped there, and counted as `flow_no_enclosing_slice`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

PHASES = set("BEisfCM")
METADATA = {"process_name", "process_sort_index", "thread_name", "thread_sort_index"}
NEEDED = {"s": {"id", "cat"}, "f": {"id", "cat"}, "i": {"s"}, "C": {"args"}, "M": {"args"}}

Event = Mapping[str, Any]
Lane = tuple[int, int]


def violations(content: Mapping[str, Any]) -> list[str]:
    """What is wrong with a timeline, one line each."""
    events = content.get("traceEvents")
    if not isinstance(events, list):
        return ["no array traceEvents"]
    found = [f"{why}: {event}" for event in events for why in _alone(event)]
    return found or [*_slices(events), *_flows(events)]


def _alone(event: Event) -> Iterator[str]:
    """What is wrong with an event by itself."""
    phase = event.get("ph")
    if phase not in PHASES:
        yield f"phase {phase!r}"
        return
    if missing := {"name", "pid", *NEEDED.get(phase, ())} - set(event):
        yield f"no {', '.join(sorted(missing))}"
    if not all(isinstance(event.get(key, 0), int) for key in ("pid", "tid")):
        yield "pid or tid is no number"
    if phase == "M":
        if event["name"] not in METADATA:
            yield "unknown metadata"
        return
    if not isinstance(event.get("ts"), Real) or event["ts"] < 0 or "tid" not in event:
        yield "no time or lane"
    if phase == "C" and not all(isinstance(value, Real) for value in event["args"].values()):
        yield "a counter that is no number"
    if phase == "i" and event["s"] not in ("t", "p", "g"):
        yield "scope of an instant"


def _in_time(events: list[Event]) -> dict[Lane, list[Event]]:
    """Each lane's events as a viewer has them: sorted by time, those of one time as written."""
    lanes: dict[Lane, list[Event]] = defaultdict(list)
    for event in events:
        if event["ph"] != "M":
            lanes[event["pid"], event["tid"]].append(event)
    return {lane: sorted(found, key=lambda event: event["ts"]) for lane, found in lanes.items()}


def _slices(events: list[Event]) -> Iterator[str]:
    """Slices are closed in order, in the order of the file as in that of time."""
    last: dict[Lane, float] = {}
    for lane, found in _in_time(events).items():
        stack: list[str] = []
        for event in found:
            if event["ph"] == "B":
                stack.append(event["name"])
            elif event["ph"] == "E" and (not stack or stack.pop() != event["name"]):
                yield f"closes what is not open: {event}"
            elif event["ph"] in "sf" and not stack:
                yield f"an arrow's end in no slice: {event}"
        if stack:
            yield f"never closed in lane {lane}: {stack}"
    for event in events:
        if event["ph"] in "BEiC":
            lane = (event["pid"], event["tid"])
            if event["ts"] < last.get(lane, 0):
                yield f"time runs back: {event}"
            last[lane] = event["ts"]


def _flows(events: list[Event]) -> Iterator[str]:
    """Each arrow has one tail and, not before it, one head."""
    ends: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in events:
        if event["ph"] in "sf":
            ends[event["cat"], event["id"]].append(event)
    for key, both in ends.items():  # in either order: a file has one core after the other
        tails, heads = ([event for event in both if event["ph"] == phase] for phase in "sf")
        if (len(tails), len(heads)) != (1, 1):
            yield f"arrow {key} is not one tail and one head"
        elif heads[0]["ts"] < tails[0]["ts"] or heads[0].get("bp") != "e":
            yield f"arrow {key} runs back, or is not bound to what encloses it"
