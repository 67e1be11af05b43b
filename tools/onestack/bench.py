# SPDX-License-Identifier: MIT
"""Counting guest instructions: figures that the guest prints, and paths that the harness steps.

Under `-icount shift=0,sleep=off` RDTSC advances by one for each instruction, so a guest can
measure itself exactly. It prints one line for each metric, and at last an end line:

    bench: NAME UNIT MIN MEAN MAX SAMPLES
    bench: end

RDTSC counts the instructions of all CPUs together: for one operation's figure use one CPU.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

from onestack.campaign import Labels
from onestack.errors import OnestackError
from onestack.gdbstub import Step
from onestack.inject import Injector
from onestack.machine import Machine
from onestack.results import merge

LINE = re.compile(
    r"^bench: (?P<name>[\w.]+) (?P<unit>[a-z_]+) (?P<min>\d+) (?P<mean>\d+(?:\.\d+)?) "
    r"(?P<max>\d+) (?P<samples>\d+)\r?$",
    re.MULTILINE,
)
ANY_LINE = re.compile(r"^bench: (?!end\b(?!\w))(.*)$", re.MULTILINE)


class BenchError(OnestackError):
    """A guest printed no figures, or such as cannot be read."""


@dataclass(frozen=True)
class Metric:
    """One figure. `entry` and `cores` say of which guest, `target` what it should be at most."""

    name: str
    unit: str
    min: float
    mean: float
    max: float
    samples: int
    entry: str = ""
    cores: int = 1
    target: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met by the mean; None without a target.

        A name that counts what fits (`threads.blocked`) has its target as a minimum.
        """
        if self.target is None:
            return None
        return self.mean >= self.target if self.unit == "count" else self.mean <= self.target


def parse(console: str) -> list[Metric]:
    """All figures in a console log. BenchError for a line that is meant to be one and is not."""
    found = [
        Metric(
            m["name"], m["unit"], int(m["min"]), float(m["mean"]), int(m["max"]), int(m["samples"])
        )
        for m in LINE.finditer(console)
    ]
    if len(found) != len(ANY_LINE.findall(console)):
        bad = next(line for line in ANY_LINE.findall(console) if not LINE.match(f"bench: {line}"))
        raise BenchError(
            f"not a figure: {bad.strip()!r}", "Print: bench: NAME UNIT MIN MEAN MAX SAMPLES"
        )
    return found


def measure(
    machine: Machine,
    *,
    text: str = "",
    end: str = r"(?m)^bench: end\r?\n",
    within: float = 120.0,
    targets: Mapping[str, float] | None = None,
    labels: Labels | None = None,
) -> list[Metric]:
    """Type `text` to a running guest, if there is any, and take its figures up to the end line."""
    if text:
        machine.console.send_line(text)
    machine.console.expect(end, within)
    metrics = parse(machine.console.before)
    if not metrics:
        raise BenchError("the guest printed no figures")
    labels = labels or Labels(cores=machine.spec.cores)
    wanted = targets or {}
    return [
        replace(m, entry=labels.entry, cores=labels.cores, target=wanted.get(m.name))
        for m in metrics
    ]


def count_between(
    injector: Injector, start: str | int, end: str | int, *, rounds: int = 3, cpu: int = 0
) -> tuple[int, int, int]:
    """Step from `start` to `end` several times; fewest, mean and most instructions between them.

    Interrupts are held back and the clock stands still: what is counted is the path alone. The
    instruction at `end` is not counted, that at `start` is.
    """
    gdb = injector.machine.gdb
    address = injector.images.resolve(end)
    counts = []
    for _ in range(rounds):
        injector.stop_at(start)
        gdb.set_step_mode(Step.HOLD_ALL)
        count = 0
        while True:
            gdb.step_over(cpu)
            count += 1
            if gdb.registers(cpu).pc == address:
                break
            if count > 1_000_000:
                raise BenchError(f"{end} is not reached from {start} within {count} instructions")
        counts.append(count)
    return min(counts), round(sum(counts) / len(counts)), max(counts)


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def as_json(metric: Metric) -> dict[str, Any]:
    """A metric's entry in bench.json."""
    entry: dict[str, Any] = {
        "name": metric.name,
        "entry": metric.entry,
        "cores": metric.cores,
        "unit": metric.unit,
        "min": _number(metric.min),
        "mean": _number(metric.mean),
        "max": _number(metric.max),
        "samples": metric.samples,
    }
    if metric.target is not None:
        entry["target"] = _number(metric.target)
    return entry


def write(metrics: Sequence[Metric], path: FilePath, qemu: str) -> None:
    """Write bench.json; other metrics of the same commit and QEMU in it stay."""
    merge(path, qemu, "metrics", [as_json(m) for m in metrics], ("name", "entry", "cores"))
