# SPDX-License-Identifier: MIT
"""`onestack report`: a sweep as one HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path

from onestack.commands.common import OK, Command, show
from onestack.errors import UsageError
from onestack.report import write_html


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "cells", type=Path, nargs="?", default=Path("build/sweep.cells.json"), metavar="CELLS.json"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("build/sweep.html"), metavar="FILE"
    )
    parser.add_argument(
        "--bench", type=Path, metavar="bench.json", help="figures for the table of variants"
    )


def _run(options: argparse.Namespace) -> int:
    beside = options.cells.with_suffix(".cells.json")  # of results: each boundary by itself
    cells = beside if beside.exists() else options.cells
    try:
        write_html(cells, options.output, options.bench)
    except KeyError as error:
        raise UsageError(f"{cells} has no {error}", "Give a sweep's *.cells.json") from None
    show(options, {"html": str(options.output)}, str(options.output))
    return OK


COMMAND = Command(
    "report",
    "make one HTML file of a sweep: a heat map over the disassembly",
    "onestack report build/sweep.cells.json -o build/sweep.html",
    _arguments,
    _run,
)
