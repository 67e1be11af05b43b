# SPDX-License-Identifier: MIT
"""What Onestack's operations cost, beside their targets and the peers'.

    python tests/bench/figures.py ENTRY...     a table; build/bench.json, build/bench.html
    python tests/bench/figures.py --record     make the figures of `tcb` the baseline

Everything runs under `-icount shift=0,sleep=off`, so a figure is an exact number of guest
instructions and two runs give the same bytes. Seconds on a wall clock are apart, in
build/bench.wall.json. docs/bench.md says how each figure is made.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from boot_figures import Way, count_boot, image_bytes, wall_figures
from kernel_windows import watcher

from onestack import bench
from onestack.bench import Metric
from onestack.bench_report import Figures, Located, write_html
from onestack.campaign import Labels
from onestack.elf import Image, Images
from onestack.gdbstub import Step
from onestack.inject import Injector, Irq
from onestack.machine import Machine, MachineSpec
from onestack.windows import Kind, Windows

TOP = Path(__file__).resolve().parents[2]
OUTPUT = TOP / "build/bench.json"
WALL = TOP / "build/bench.wall.json"
REPORT = TOP / "build/bench.html"
BASELINE = Path(__file__).with_name("baseline.json")
UNBOUND = 0xE0  # a device's vector (kernel/arch/vectors.h), the last to be given to a line
SAMPLES = 10
WITHIN = 600.0  # seconds; it takes about forty
SHOWN = 8  # places, in a table
RISE, FALL = 0.02, 0.1  # of the baseline: may be dearer; is so much cheaper that it is out of date

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
    "if_off.longest": 150,
    "irq.to_record.longest": 250,
    "irq.to_user.longest": 2500,
    "fault.to_handler": 200,
    "fault.round_trip": 420,
    "yield.process": 100,
    "thread.bytes": 512,
    "threads.blocked": 300_000,
    "boot.instructions": 5_000_000,
    "kernel.text_bytes": 65_536,
}
WALL_TARGETS = {"build.seconds": 15.0, "prompt.seconds.1_core": 0.5, "prompt.seconds.64_cores": 1.5}

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
    "if_off.longest": "the whole kernel",
    "fault.to_handler": "606 / 713",
    "fault.round_trip": "1303 / 1539",
    "yield.process": "270 / 390",
    "thread.bytes": "2048 and more",
    "kernel.text_bytes": "88282 / 96794",
    "kernel.code_bytes": "60382",
    "prompt.seconds.1_core": "0.32 to first output",
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


@dataclass(frozen=True)
class Found:
    """All figures of one entry model, and where the longest windows and the way up are."""

    metrics: list[Metric]
    qemu: str
    windows: Windows
    way: Way | None = None


def one(name: str, unit: str, value: float, entry: str, samples: int = 1) -> Metric:
    """A figure that is the same each time."""
    return Metric(name, unit, value, value, value, samples, entry, 1, TARGETS.get(name))


def measure_entry(entry: str) -> Metric:
    """What an interrupt costs that does nothing but come and go, counted step by step."""
    with Machine(spec(entry, ["spin"])) as machine:
        machine.console.expect_exact("bench spins", WITHIN)
        injector = Injector(machine)
        counts = [count_round_trip(machine, injector) for _ in range(SAMPLES)]
    name = "entry.irq_round_trip"
    found = one(name, "instructions", sum(counts) / len(counts), entry, len(counts))
    return replace(found, min=min(counts), max=max(counts))


def window_metrics(windows: Windows, entry: str, to_user: Metric | None) -> list[Metric]:
    """Worst cases over all that the guest executed, not over samples.

    An interrupt waits for a window with IF=0, then for its entry to acknowledge it. Its thread
    waits for the longest stretch of kernel code without a look at what is pending, and then it
    takes what it takes from user mode.
    """
    off, record = windows.longest(Kind.WINDOW), windows.longest(Kind.RECORD)
    stretch = windows.longest(Kind.STRETCH)
    count = sum(place.count for place in windows.of(Kind.WINDOW))
    until_user = stretch.longest + (to_user.max if to_user else 0)
    return [
        one("if_off.longest", "instructions", off.longest, entry, count),
        one("irq.to_record.longest", "instructions", off.longest + record.longest, entry, count),
        one("irq.to_user.longest", "instructions", until_user, entry, count),
    ]


def per_byte(metrics: Sequence[Metric]) -> list[Metric]:
    """Long messages: instructions for each byte of the two copies of a round trip."""
    sizes = {"80B": 80, "4KiB": 4096, "64KiB": 65536}
    found = []
    for metric in metrics:
        name, _, size = metric.name.rpartition(".")
        if name == "ipc.round_trip" and size in sizes:
            value = round(metric.mean / (2 * sizes[size]), 3)
            unit = "instructions_per_byte"
            found.append(one(f"ipc.per_byte.{size}", unit, value, metric.entry))
    return found


def measure_guest(entry: str, parts: Sequence[str] = ()) -> Found:
    """What the guest's own program says (all parts of bench, or these), watched by the plugin."""
    measured = spec(entry, parts)
    assert measured.kernel is not None
    kernel = Image(measured.kernel)
    with tempfile.TemporaryDirectory() as folder:
        plugin = watcher(measured.kernel, Path(folder))
        with Machine(replace(measured, args=plugin.arguments)) as machine:
            labels = Labels(entry=entry)
            # When it has measured; what it then prints goes at the pace of the host's sockets.
            machine.run_to(kernel.symbol("sys_thread_cancel").address, WITHIN)
            windows = plugin.windows()
            machine.resume()
            metrics = bench.measure(machine, within=WITHIN, targets=TARGETS, labels=labels)
    assert windows.contradictions == 0, "the plugin has lost track of IF"
    to_user = next((metric for metric in metrics if metric.name == "irq.to_user"), None)
    metrics += window_metrics(windows, entry, to_user) if windows.of(Kind.RECORD) else []
    return Found(metrics + per_byte(metrics), machine.version, windows)


def measure(entry: str) -> Found:
    """All figures of one entry model."""
    found = measure_guest(entry)
    plain = spec(entry)
    assert plain.kernel is not None
    way = count_boot(replace(plain, append=""))
    more = [measure_entry(entry), one("boot.instructions", "instructions", way.instructions, entry)]
    for name, value in image_bytes(plain.kernel).items():
        more.append(one(name, "bytes", value, entry))
    return replace(found, metrics=found.metrics + more, way=way)


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
    sampled = metric.name.startswith("irq.late.") or metric.name.endswith(".sampled")
    return metric.unit not in ("count", "seconds") and not sampled


def compared(metrics: Sequence[Metric], known: dict[str, float]) -> list[str]:
    """What is wrong: figures dearer than the baseline, or so much cheaper that it is old."""
    found = {metric.name: metric.mean for metric in metrics if comparable(metric)}
    wrong = []
    for name in sorted(found.keys() | known.keys()):
        if name not in found:
            wrong.append(f"{name}: is not measured any more")
        elif name not in known:
            wrong.append(f"{name}: has no baseline; figures.py --record makes it")
        elif found[name] > known[name] * (1 + RISE) + 1:
            wrong.append(f"{name}: dearer, {found[name]:g} after {known[name]:g}")
        elif found[name] < known[name] * (1 - FALL) - 1:
            wrong.append(f"{name}: {found[name]:g} after {known[name]:g}; figures.py --record")
    return wrong


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


def located(found: Found, images: Images, kind: Kind) -> list[Located]:
    """The longest of a kind, with names for their places; of equal places the longest path only."""
    chosen: dict[tuple[int, int], Located] = {}
    for place in found.windows.of(kind):
        name = images.name
        row = Located(place.longest, place.count, *map(name, (place.first, place.last, place.path)))
        chosen.setdefault((place.first, place.last), row)
    return list(chosen.values())[:SHOWN]


def figures_of(entry: str, found: Found) -> Figures:
    """For the report."""
    kernel = spec(entry).kernel
    assert kernel is not None
    images = Images.load(kernel)
    return Figures(
        entry,
        tuple(found.metrics),
        {kind.name.lower(): tuple(located(found, images, kind)) for kind in Kind},
        tuple(found.way.functions.most_common(12)) if found.way else (),
    )


def tell(figures: Figures) -> None:
    """The table on the terminal, and where the longest windows are."""
    print(f"\nentry={figures.entry:22} {'':>22} {'target':>8}         seL4")
    print("\n".join(map(row, figures.metrics)))
    titles = {
        "window": "IF=0",
        "stretch": "no look at what is pending",
        "record": "entry to record",
    }
    for kind, title in titles.items():
        print(f"\nlongest, {title}:")
        for place in figures.places[kind]:
            print(f"{place.longest:8}  {place.first} .. {place.last}, on the way of {place.path}")
    print("\nboot.instructions, by function:")
    for name, count in figures.boot:
        print(f"{count:8}  {name}")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="What the kernel's operations cost.")
    parser.add_argument("entries", nargs="*", default=["tcb"], metavar="ENTRY")
    parser.add_argument("--record", action="store_true", help="make them the baseline")
    parser.add_argument("--no-wall", action="store_true", help="no seconds on a wall clock")
    options = parser.parse_args()
    for entry in options.entries:
        found = measure(entry)
        bench.write(found.metrics, OUTPUT, found.qemu)
        figures = figures_of(entry, found)
        if not options.no_wall:
            seconds = wall_figures(spec(entry), entry, WALL_TARGETS)
            bench.write(seconds, WALL, found.qemu)
            figures = replace(figures, metrics=(*figures.metrics, *seconds))
        tell(figures)
        write_html(OUTPUT, WALL, PEERS, figures, REPORT)
        if options.record and entry == "tcb":
            record(found.metrics)


if __name__ == "__main__":
    main()
