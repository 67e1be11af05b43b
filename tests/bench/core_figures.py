# SPDX-License-Identifier: MIT
"""What an operation costs the core that makes it, on machines with more and more cores.

    python tests/bench/core_figures.py [ENTRY [CORES]]     `scons bench cores=1,4,16` calls it

Instructions in the kernel, by core, under `-icount`: so each figure is exact. They go to
build/bench.json as `cores.OPERATION` with the number of cores.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # pytest.ini says so to the tests
from agent import READY, Agent
from agent_victim import CODE, UD2
from core_operations import OPERATIONS, Stage
from figures import OUTPUT, spec
from kernel_windows import watcher

from onestack import bench
from onestack.bench import Metric
from onestack.elf import Image, Images, Instruction
from onestack.machine import Machine, check_qemu
from onestack.patch import PatchFault
from onestack.spans import Counter, Span, instruction_at
from onestack.windows import Kind, Windows

CORES = (1, 4, 16)
WITHIN = 100.0
STRESS = 20_000  # operations


Costs = dict[str, list[Span]]  # by operation, its rounds

# What grows with the cores, why, and by how many instructions for each at most.
WINDOW = "capabilities lie in a window of kernel addresses, which every core may remember"
GROWS = {
    "space.delete": (WINDOW, 40),
    "space.end": (f"{WINDOW}: its table, and a page that was used", 90),
    "quota.info": ("an account is exact, and any core may still keep something of it", 15),
    "fault.handler": (
        "a step of 7 in the tree of mappings: the agent has a stack for each core",
        1,
    ),
}


def counter(program: Image, folder: Path) -> Counter:
    """For what the agent does when it is told to, and for a victim's fault."""
    symbol = program.symbol("job_run")
    code = program.disassemble(symbol.address, symbol.address + symbol.size)
    [syscall] = [one for one in code if one.mnemonic == "syscall"]
    [stub] = [one for one in code if one.mnemonic == "call" and not one.operands.startswith("0x")]
    load = instruction_at(program, program.symbol("memory_peek").address)
    fault = Instruction(CODE, UD2, "ud2", "")
    return Counter([syscall, stub, load, fault], [instruction_at(program, syscall.end)], folder)


def measure(
    cores: int,
    names: Iterable[str] = OPERATIONS,
    *,
    entry: str = "tcb",
    faults: Sequence[PatchFault] = (),
) -> Costs:
    """What some operations cost on a machine with so many cores."""
    plain = replace(spec(entry), append="run=agent", cores=cores)
    assert plain.kernel is not None
    images = Images.load(plain.kernel, plain.kernel.parents[1] / "user/agent.elf")
    with tempfile.TemporaryDirectory() as folder:
        plugin = counter(images.images[1], Path(folder))
        with Machine(replace(plain, args=plugin.arguments)) as machine:
            machine.console.expect(READY, WITHIN)
            machine.pause()
            for fault in faults:
                fault.apply(machine, images)
            machine.resume()
            return _measured(Stage(Agent(machine), plugin), names)


def _measured(stage: Stage, names: Iterable[str]) -> Costs:
    found = {}
    for name in names:
        body, core = OPERATIONS[name]
        if core < stage.agent.cores:
            stage.spans, stage.core = [], core
            body(stage)
            found[name] = stage.spans[1:]  # the first may find things cold
    return found


def windows(cores: int, folder: Path, entry: str = "tcb") -> Windows:
    """Where interrupts are off while `stress` runs on so many cores, each on a host thread."""
    plain = replace(spec(entry), append=f"run=stress {STRESS}", cores=cores, icount=None)
    assert plain.kernel is not None
    plugin = watcher(plain.kernel, folder)
    with Machine(replace(plain, args=plugin.arguments)) as machine:
        machine.console.expect(r"stress: \d+ operations done", WITHIN)
        return plugin.windows()


@dataclass(frozen=True)
class Round:
    """Calls a second: of one pair alone on its core, then of two on two cores."""

    alone: int
    together: int


def throughput(entry: str = "tcb") -> list[Round]:
    """Of independent pairs of client and server, each CPU on a host thread. In turns."""
    with Machine(replace(spec(entry), append="run=bench pairs", cores=2, icount=None)) as machine:
        machine.console.expect("bench: end", WITHIN)
        found = re.findall(r"pairs: (\d+) alone, (\d+) together", machine.console.before)
    return [Round(int(alone), int(together)) for alone, together in found]


def told(rounds: Sequence[Round]) -> str:
    """The ratio, and how busy the host is with other things: it needs two cores to itself."""
    ratios = sorted(one.together / one.alone for one in rounds)
    middle = statistics.median(ratios)
    load = os.getloadavg()[0]
    return (
        f"independent pairs, 2 cores to 1: {middle:.2f} times the calls (median of {len(ratios)}, "
        f"{ratios[0]:.2f} to {ratios[-1]:.2f}), at a host's load of {load:.1f} before"
    )


def growth(few: Costs, many: Costs) -> dict[str, int]:
    """How many instructions more the acting core executes for an operation among many cores."""
    return {
        name: min(span.acting for span in many[name]) - min(span.acting for span in few[name])
        for name in few.keys() & many.keys()
    }


def metrics(costs: Costs, cores: int, entry: str) -> list[Metric]:
    """For bench.json."""
    found = []
    for name, spans in costs.items():
        counts = [span.acting for span in spans]
        mean = sum(counts) / len(counts)
        figures = min(counts), mean, max(counts), len(counts), entry, cores
        found.append(Metric(f"cores.{name}", "instructions", *figures))
    return found


def table(found: dict[int, Costs]) -> str:
    """One line an operation; in brackets what other cores execute meanwhile."""
    title = "".join(f"{f'{count} cores':>16}" for count in found)
    lines = [f"{'kernel instructions of the acting core':40}{title}"]
    for name in OPERATIONS:
        cells: list[str] = []
        for costs in found.values():
            spans = costs.get(name, [])
            counts = sorted({span.acting for span in spans})
            others = min((span.others for span in spans), default=0)
            shown = "-".join(map(str, sorted({counts[0], counts[-1]}))) if counts else ""
            cells.append(f"{shown} ({others})" if others else shown)
        if any(cells):
            lines.append(f"{name:40}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def main(words: Sequence[str]) -> None:
    """Measure, keep the figures, print the table."""
    entry = words[0] if words else "tcb"
    counts = [int(word) for word in words[1].split(",")] if words[1:] else list(CORES)
    found = {count: measure(count, entry=entry) for count in counts}
    for count, costs in found.items():
        bench.write(metrics(costs, count, entry), OUTPUT, check_qemu("qemu-system-x86_64"))
    print(table(found))
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            longest = windows(count, Path(folder), entry).longest(Kind.WINDOW)
        print(f"longest with interrupts off, {count} cores under stress: {longest.longest}")
    print(told(throughput(entry)))


if __name__ == "__main__":
    main(sys.argv[1:])
