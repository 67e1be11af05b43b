# SPDX-License-Identifier: MIT
"""The kernel's trace rings: free when off, complete when on, readable after a panic."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trace_format import violations

from onestack import artefacts
from onestack.deadline import Deadline
from onestack.elf import Image, Images
from onestack.errors import GuestError
from onestack.inject import NMI
from onestack.machine import Machine
from onestack.trace import (
    INSIDE,
    Kind,
    TraceError,
    crossings,
    read_rings,
    state_names,
    timeline,
    write,
)

PROMPT = "onestack> "
ON = {"append": "trace=1", "ready": PROMPT}


@pytest.mark.machine(ready=PROMPT)
def test_without_the_option_the_kernel_is_as_it_was_linked(
    machine: Machine, images: Images
) -> None:
    """Not one byte of code differs, so not one instruction more is executed."""
    machine.pause()
    kernel = images.images[0]
    text = range(images.resolve("__text_start"), images.resolve("__text_end"))
    assert machine.gdb.read(text.start, len(text)) == kernel.bytes_at(text.start, len(text))
    with pytest.raises(TraceError, match="Boot the kernel with trace=1"):
        read_rings(machine, images)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(e, marks=pytest.mark.machine(entry=e, **ON))
        for e in ("tcb", "percpu", "ist", "perthread")
    ],
)
def test_every_entry_has_its_exit(
    machine: Machine, images: Images, entry: str, tmp_path: Path
) -> None:
    assert entry
    said = machine.console.run("run regs", PROMPT, 60.0)
    assert " 0 differences" in said  # the hooks keep every register
    machine.pause()
    [ring] = read_rings(machine, images)
    kinds = Counter(record.kind for record in ring.records)
    assert ring.lost == ring.torn == 0
    assert kinds[Kind.SYSCALL] > 100
    assert kinds[Kind.IRQ] > 0
    follow_the_entries(ring.records)
    write(machine, images, tmp_path / "trace.json")
    assert violations(json.loads((tmp_path / "trace.json").read_text())) == []


def follow_the_entries(records: Any) -> None:
    """Outermost entries come from user mode or idle, nested ones inside others, and time runs."""
    nest, user, time = 1, False, 0
    for record in records:
        assert record.time >= time
        time = record.time
        if record.kind in (Kind.EXIT, Kind.IDLE):
            nest, user = 1, record.kind is Kind.EXIT
            continue
        if record.kind is Kind.RETURN:
            assert record.nest == nest
            nest -= 1
            continue
        if record.nest == 1:
            assert user, record
            nest = 1
        else:
            nest = record.nest
        user = False


@pytest.mark.machine(**ON)
def test_idle_and_what_ends_it(machine: Machine, images: Images) -> None:
    deadline = Deadline(20.0)
    while not deadline.expired:
        machine.pause()
        [ring] = read_rings(machine, images)
        if ring.records[-1].kind is Kind.IDLE:
            break
        machine.resume()
    idle = ring.records[-1]
    machine.resume()
    machine.console.run("echo awake", PROMPT)
    machine.pause()
    [ring] = read_rings(machine, images)
    after = ring.records[ring.records.index(idle) + 1]
    assert (after.kind, after.nest) == (Kind.IRQ, 2)  # nested in idle, whose nest is 1


@pytest.mark.machine(**ON)
def test_names_states_and_arrows(machine: Machine, images: Images) -> None:
    machine.console.run("echo arrows", PROMPT)
    machine.pause()
    rings = read_rings(machine, images)
    assert {"call", "reply_receive", "null"} <= set(rings[0].calls)
    states = state_names(images)
    assert states[:2] == ("user", "parmchk")
    events = timeline(rings, images, states)["traceEvents"]
    arrows = Counter(event["ph"] for event in events if event.get("cat") == "ipc")
    assert arrows["f"] > 0
    assert {event["args"]["state"] for event in events if "state" in event.get("args", ())} <= set(
        states
    )


@pytest.mark.machine(**ON)
def test_nmis_wherever_they_strike(machine: Machine, images: Images) -> None:
    machine.console.send_line("run busy 1")
    machine.console.expect("busy: ready", 30.0)
    kinds: set[Kind] = set()
    for _ in range(20):  # it may have had no time between them
        for _ in range(200):
            machine.qmp.execute("inject-nmi")
        machine.pause()
        [ring] = read_rings(machine, images)
        kinds = {record.kind for record in ring.records if record.what == NMI}
        if kinds >= {Kind.IST, Kind.TRAP}:
            break
        machine.resume()
    assert kinds >= {Kind.IST, Kind.TRAP}  # in the kernel and in user mode
    assert violations(timeline([ring], images, state_names(images))) == []
    machine.resume()
    machine.console.expect(PROMPT, 60.0)
    assert re.search(r"busy: \d+ looks, 0 differences", machine.console.text)


RESCHEDULE, SHOOTDOWN = 0xF1, 0xF2  # sent by other cores only


@pytest.mark.machine(cores=2, **ON)
def test_arrows_between_cores(machine: Machine, images: Images) -> None:
    """What a core is interrupted by, another has sent; whom it wakes goes on over there."""
    machine.console.run("run spread", PROMPT, 60.0)
    machine.pause()
    rings = read_rings(machine, images)
    assert [(ring.lost, ring.torn) for ring in rings] == [(0, 0)] * 2
    for ring in rings:
        follow_the_entries([record for record in ring.records if record.kind not in INSIDE])
    content = timeline(rings, images, state_names(images))
    assert violations(content) == []
    arrows = crossings(rings)
    tails = {point for point, ends in arrows.items() if ends[0].phase == "s"}
    for ring in rings:
        merged = True  # a sender that comes just before the record counts to the one recorded
        for at, record in enumerate(ring.records):
            if record.kind is Kind.IRQ and record.what in (RESCHEDULE, SHOOTDOWN):
                heads = [end for end in arrows.get((ring.core, at), ()) if end.category == "ipi"]
                assert heads or merged, record
                merged = len(heads) > 1
    sent = Counter(
        (record.kind, (ring.core, at) in tails)
        for ring in rings
        for at, record in enumerate(ring.records)
        if record.kind in INSIDE
    )
    assert sent[Kind.IPI, True] >= 10 > sent[Kind.IPI, False]
    assert sent[Kind.WAKE, True] >= 2


@pytest.mark.machine(**ON)
def test_hooks_are_put_in_place_of_whole_instructions(machine: Machine, images: Images) -> None:
    """The kernel looks for calls byte by byte: no other instruction may look like one."""
    machine.pause()
    kernel = images.images[0]
    entry = range(images.resolve("__entry_start"), images.resolve("__entry_end"))
    text = range(entry.start, images.resolve("__text_end"))
    linked = kernel.bytes_at(text.start, len(text))
    now = machine.gdb.read(text.start, len(text))
    changed = {text[at] for at in range(len(text)) if linked[at] != now[at]} - set(entry)
    hooked = {
        address
        for name in ("lapic_send", "mail_post")
        for instruction in code(kernel, text)
        if instruction.mnemonic in ("call", "jmp")
        and instruction.operands == hex(images.resolve(name))
        for address in range(instruction.address + 1, instruction.end)
    }
    assert len(changed) > 20
    assert changed <= hooked


def code(kernel: Image, text: range) -> Iterator[Any]:
    """The functions' instructions."""
    starts = sorted({s.address for s in kernel.symbols if s.code and s.address in text})
    for start, stop in zip(starts, [*starts[1:], text.stop], strict=True):
        yield from kernel.disassemble(start, stop)


@pytest.mark.machine(append="trace=1", ready=PROMPT, debug_exit=False)
def test_after_a_panic(machine: Machine, images: Images) -> None:
    machine.pause()
    address = images.resolve("sys_clock")
    machine.gdb.write(address, b"\x0f\x0b")  # ud2
    machine.resume()
    machine.console.send_line("run regs")
    with pytest.raises(GuestError, match="panic: exception 6"):
        machine.console.expect(f"{PROMPT}$", 30.0)
    machine.pause()
    [ring] = read_rings(machine, images)
    *_, call, trap = [r for r in ring.records if r.kind is not Kind.RETURN]
    assert (call.kind, ring.calls[call.what]) == (Kind.SYSCALL, "clock")
    assert (trap.kind, trap.what, trap.value) == (Kind.TRAP, 6, address)


@pytest.mark.machine(append="trace=1", ready=PROMPT, debug_exit=False)
def test_a_failed_test_keeps_it(machine: Machine, images: Images, tmp_path: Path) -> None:
    machine.console.send_line("panic")
    with pytest.raises(GuestError, match="panic"):
        machine.console.expect(f"{PROMPT}$", 30.0)
    kept = artefacts.save(machine, tmp_path, images)
    assert tmp_path / "trace.json" in kept
    content = json.loads((tmp_path / "trace.json").read_text())
    assert violations(content) == []
    assert len(content["traceEvents"]) > 100
