# SPDX-License-Identifier: MIT
"""Run the user program `bench` and tell its figures beside their targets and the peers'.

    python tests/bench/figures.py ENTRY...     into build/bench.json, and a table
    python tests/bench/figures.py --record     make the figures of `tcb` the baseline

Everything runs under `-icount shift=0,sleep=off`, so a figure is an exact number of guest
instructions and two runs give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from onestack import bench
from onestack.bench import Metric
from onestack.campaign import Labels
from onestack.gdbstub import Step
from onestack.inject import Injector, Irq
from onestack.machine import Machine, MachineSpec

TOP = Path(__file__).resolve().parents[2]
OUTPUT = TOP / "build/bench.json"
BASELINE = Path(__file__).with_name("baseline.json")
UNBOUND = 0xE0  # a device's vector (kernel/arch/vectors.h), the last to be given to a line
SAMPLES = 10
WITHIN = 180.0  # seconds; it takes about ten

# design: at most so many; of what is counted, at least.
TARGETS: dict[str, float] = {
    "syscall.null": 36,
    "ipc.call": 75,
    "ipc.reply_receive": 77,
    "ipc.round_trip": 150,
    "ipc.round_trip.fpu": 175,
    "ipc.round_trip.80B": 300,
    "notify.switch": 180,
    "notify.no_switch": 80,
    "entry.irq_round_trip": 100,
    "irq.to_user": 170,
    "irq.to_user.longest": 2500,
    "fault.to_handler": 200,
    "fault.round_trip": 420,
    "yield.process": 100,
    "thread.bytes": 512,
    "threads.blocked": 300_000,
}

# seL4, built for one core / for several, by its own benchmark in the same way.
PEERS = {
    "syscall.null": "89",
    "ipc.call": "184 / 266",
    "ipc.reply_receive": "211 / 299",
    "ipc.round_trip": "395 / 565",
    "ipc.round_trip.fpu": "423 / 602",
    "ipc.round_trip.80B": "1572 / 1806",
    "notify.switch": "509 / 617",
    "notify.no_switch": "353 / 427",
    "irq.to_user": "356 / 500",
    "fault.to_handler": "606 / 713",
    "fault.round_trip": "1303 / 1539",
    "yield.process": "270 / 390",
    "thread.bytes": "2048 and more",
}


def spec(entry: str, parts: Sequence[str] = ()) -> MachineSpec:
    """The machine that is measured: one core, the release kernel with entry model ENTRY."""
    build = TOP / "build"
    return MachineSpec(
        kernel=build / f"{entry}-ist-release/kernel.elf",
        initrd=build / "user/init.elf",
        append=" ".join(["run=bench", *parts]),
        icount=0,
        sleep=False,
    )


def count_round_trip(machine: Machine, injector: Injector) -> int:
    """Instructions from an interrupt of user code that nobody is bound to until it goes on."""
    gdb = machine.gdb
    machine.pause()
    while not gdb.registers()["cs"] & 3:
        machine.resume()
        machine.pause()
    delivery = injector.inject(Irq(UNBOUND))
    gdb.set_step_mode(Step.HOLD_ALL)
    count = 0
    while True:
        gdb.step_over()
        count += 1
        registers = gdb.registers()
        if registers["cs"] & 3:
            break
    machine.resume()
    assert registers.pc == delivery.saved, "somebody else runs: it was not the only event"
    return count


def measure_entry(entry: str) -> list[Metric]:
    """What an interrupt costs that does nothing but come and go, counted step by step."""
    with Machine(spec(entry, ["spin"])) as machine:
        machine.console.expect_exact("bench spins", WITHIN)
        injector = Injector(machine)
        counts = [count_round_trip(machine, injector) for _ in range(SAMPLES)]
    mean = sum(counts) / len(counts)
    name = "entry.irq_round_trip"
    labels = (entry, 1, TARGETS[name])
    return [Metric(name, "instructions", min(counts), mean, max(counts), len(counts), *labels)]


def measure(entry: str, parts: Sequence[str] = ()) -> tuple[list[Metric], str]:
    """The figures of one entry model (of all parts of bench, or these), and QEMU's version."""
    with Machine(spec(entry, parts)) as machine:
        labels = Labels(entry=entry)
        return bench.measure(machine, within=WITHIN, targets=TARGETS, labels=labels), (
            machine.version
        )


def compiler() -> str:
    """What the kernel was compiled by: figures depend on it."""
    command = ["gcc", "-dumpfullversion"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return f"gcc {done.stdout.strip()}"


def baseline() -> dict[str, float]:
    """Recorded figures for this compiler, by metric; empty if there are none."""
    known: dict[str, dict[str, float]] = json.loads(BASELINE.read_text())
    return known.get(compiler(), {})


def comparable(metric: Metric) -> bool:
    """Whether a rise means a dearer operation; lateness depends on where interrupts fall."""
    sampled = metric.name.startswith("irq.late.") or metric.name.endswith(".longest")
    return metric.unit != "count" and not sampled


def record(metrics: Sequence[Metric]) -> None:
    """Make these figures the baseline of this compiler."""
    known = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    known[compiler()] = {m.name: m.mean for m in metrics if comparable(m)}
    BASELINE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def row(metric: Metric) -> str:
    """One line of the table."""
    verdict = {None: "", True: "met", False: "MISSED"}[metric.met]
    target = "" if metric.target is None else f"{metric.target:g}"
    figure = (
        f"{metric.min:g}" if metric.min == metric.max else f"{metric.mean:g} (to {metric.max:g})"
    )
    peer = PEERS.get(metric.name, "")
    return f"{metric.name:28} {figure:>22} {target:>8} {verdict:6}  {peer}"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="What the kernel's operations cost.")
    parser.add_argument("entries", nargs="*", default=["tcb"], metavar="ENTRY")
    parser.add_argument("--record", action="store_true", help="make them the baseline")
    options = parser.parse_args()
    for entry in options.entries:
        metrics, version = measure(entry)
        metrics += measure_entry(entry)
        bench.write(metrics, OUTPUT, version)
        print(f"\nentry={entry:22} {'instructions':>22} {'target':>8}         seL4")
        print("\n".join(map(row, metrics)))
        if options.record and entry == "tcb":
            record(metrics)


if __name__ == "__main__":
    main()
