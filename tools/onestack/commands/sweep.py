# SPDX-License-Identifier: MIT
"""`onestack sweep`: an event at every instruction of a path."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console as Terminal

from onestack import campaign, kernelfile, sweep_files
from onestack.bars import counting
from onestack.commands.common import FOUND, INCOMPLETE, OK, Command, count, file_argument, show
from onestack.elf import Images
from onestack.machine import check_qemu
from onestack.progress import SweepProgress
from onestack.report import write_html
from onestack.symbolize import Symbolizer


def _arguments(parser: argparse.ArgumentParser) -> None:
    file_argument(parser)
    parser.add_argument("--path", action="append", default=[], metavar="NAME", help="only this one")
    parser.add_argument("--event", action="append", default=[], metavar="NAME", help="likewise")
    parser.add_argument(
        "-j", "--jobs", type=count, default=os.cpu_count() or 1, metavar="N", help="QEMUs at a time"
    )
    parser.add_argument(
        "--limit", type=count, default=0, metavar="N", help="boundaries for each path"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("build/sweep.json"), metavar="FILE"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as well")
    parser.add_argument("--fresh", action="store_true", help="do not go on with a stopped sweep")


def _run(options: argparse.Namespace) -> int:
    kernel = kernelfile.load(options.file)
    parts = kernel.parts(options.path, options.event)
    state = options.output.with_suffix(f".{options.file.stem}.state")
    if options.fresh:
        state.unlink(missing_ok=True)
    work = campaign.Campaign(
        kernel.target,
        parts,
        kernel.labels,
        state=state,
        processes=options.jobs,
        limit=options.limit,
    )
    with counting("recording the paths", len({part.path for part in parts})) as one_more:
        work.plan(one_more)
    with SweepProgress(work, Terminal(stderr=True)) as progress:
        results = work.run(progress.tell)
    symbolizer = Symbolizer(Images.load(*kernel.target.elfs))
    cells = sweep_files.write(
        results, symbolizer, options.output, check_qemu(kernel.target.spec.qemu)
    )
    if options.html:
        write_html(cells, options.html)
    facts = {"paths": [sweep_files.as_json(result, symbolizer) for result in results]}
    show(options, facts, _sweep_text(results, symbolizer))
    if any(result.failures for result in results):
        return FOUND
    return INCOMPLETE if any(result.unreached for result in results) else OK


def _sweep_text(results: Sequence[campaign.PartResult], symbolizer: Symbolizer) -> str:
    lines = []
    for result in results:
        outcomes = ", ".join(f"{count} {name}" for name, count in result.outcomes().items())
        lines.append(f"{result.part.key}: {len(result.cells)} boundaries: {outcomes or 'none'}")
        for cell in result.failures:
            where = symbolizer.images.name(cell.boundary.address)
            lines.append(f"  {where}: {cell.outcome}: {cell.detail}")
        for reason, times in Counter(cell.detail for cell in result.unreached).items():
            lines.append(f"  not judged: {times} boundaries: {reason}")
    said = dict.fromkeys(text for result in results for text in result.assumptions)
    return "\n".join([*lines, *(f"assumed: {text}" for text in said)])


COMMAND = Command(
    "sweep",
    "inject at every instruction of the kernel's paths and judge each time",
    "onestack sweep toy.toml --path null --event nmi --html build/sweep.html",
    _arguments,
    _run,
)
