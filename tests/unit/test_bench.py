# SPDX-License-Identifier: MIT
"""Figures: read from a console, counted by stepping, written by the format."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from conftest import TOY, toy_spec
from onestack import bench
from onestack.bench import BenchError, Metric
from onestack.campaign import Labels
from onestack.console import Console
from onestack.elf import Images
from onestack.inject import Injector
from onestack.machine import Machine, MachineSpec
from onestack.watch import Watch

SAID = (
    "hello\r\n"
    "bench: ipc.round_trip instructions 148 148.5 149 1000\r\n"
    "bench: threads.blocked count 310000 310000 310000 1\r\n"
    "bench: end\r\n"
)


class Talker:
    """Just enough of a machine to measure: a console that says something."""

    def __init__(self, said: str) -> None:
        ours, self.guest = socket.socketpair()
        self.spec = MachineSpec(kernel=TOY)
        self.console = Console(ours, Watch(), ())
        self.guest.sendall(said.encode())


def test_figures_from_the_console() -> None:
    machine = cast(Machine, Talker(SAID))
    targets = {"ipc.round_trip": 150.0, "threads.blocked": 300000.0}
    trip, threads = bench.measure(machine, targets=targets, labels=Labels("tcb", "ist", 1))
    assert trip == Metric("ipc.round_trip", "instructions", 148, 148.5, 149, 1000, "tcb", 1, 150)
    assert trip.met
    assert threads.met  # more is better of what is counted
    assert not replace(trip, mean=151).met
    assert not replace(threads, mean=299999).met
    assert replace(trip, target=None).met is None


def test_text_is_typed_first() -> None:
    talker = Talker(SAID)
    bench.measure(cast(Machine, talker), text="bench all")
    assert talker.guest.recv(100) == b"bench all\r"


def test_line_that_is_no_figure() -> None:
    with pytest.raises(BenchError, match=r"not a figure: 'ipc\.call 3'"):
        bench.parse("bench: ipc.call 3\r\nbench: end\r\n")


def test_no_figures_at_all() -> None:
    with pytest.raises(BenchError, match="no figures"):
        bench.measure(cast(Machine, Talker("bench: end\r\n")))


def test_file_is_as_the_format_says(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    first = Metric("a.b", "instructions", 1, 2.5, 3, 4, "tcb", 1, 5.0)
    bench.write([first], path, "7.2")
    bench.write([replace(first, entry="ist", target=None)], path, "7.2")
    bench.write([replace(first, mean=2.0)], path, "7.2")  # replaces the first
    content = json.loads(path.read_text())
    assert set(content) == {"schema", "commit", "qemu", "metrics"}
    one, two = content["metrics"]
    assert one == {
        "name": "a.b",
        "entry": "tcb",
        "cores": 1,
        "unit": "instructions",
        "min": 1,
        "mean": 2,
        "max": 3,
        "samples": 4,
        "target": 5,
    }
    assert two["mean"] == 2.5
    assert "target" not in two


def test_stepped_count_is_that_of_the_disassembly(toy_images: Images) -> None:
    image = toy_images.images[0]
    start, end = toy_images.resolve("user_loop"), toy_images.resolve("user_null")
    with Machine(toy_spec(icount=0)) as machine:
        counts = bench.count_between(Injector(machine, toy_images), "user_loop", "user_null")
    assert set(counts) == {len(image.disassemble(start, end))}
