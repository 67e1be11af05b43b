# SPDX-License-Identifier: MIT
"""A sweep as one HTML file that needs nothing else: see report.html for what it shows."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from onestack.errors import UsageError
from onestack.oracle import Outcome
from onestack.results import SCHEMA

DATA = "/*DATA*/null"  # in the template
OUTCOMES = (*Outcome, "unreached")
# Metrics of bench.json that belong into the table of variants, with their headings.
COLUMNS = {
    "thread.bytes": "bytes per thread",
    "if_off.longest": "longest IF=0 window",
    "entry.irq_round_trip": "interrupt round trip",
}


class _Table:
    """Strings by number: a sweep says the same few thousands of times."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def number(self, row: Any) -> int:
        """The number of a string or tuple."""
        if row not in self._numbers:
            self._numbers[row] = len(self.rows)
            self.rows.append(row)
        return self._numbers[row]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "Run a sweep first") from error
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise UsageError(f"{path} is not of schema {SCHEMA}")
    return content


def _place(cell: Mapping[str, Any]) -> tuple[str, ...]:
    """Address, symbol, instruction, source line, its text if the file can be found from here."""
    file, _, line = cell["source"].rpartition(":")
    lines = _source_lines(file)
    text = lines[int(line) - 1].strip() if line.isdigit() and int(line) <= len(lines) else ""
    return (cell["address"], cell["symbol"], cell["text"], cell["source"], text)


@functools.cache
def _source_lines(file: str) -> list[str]:
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def compact(cells: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """What the page needs of sweep.cells.json and bench.json, each string once."""
    places, words = _Table(), _Table()
    paths = []
    for entry in cells["paths"]:
        rows = [
            (
                places.number(_place(cell)),
                OUTCOMES.index(cell["outcome"]),
                words.number(cell["detail"]),
                cell["step"],
                cell["hit"],
                cell["cpl"],
                int(cell["if"]),
                cell.get("nest"),
                words.number(cell.get("state", "")),
                words.number(cell.get("stack", "")),
            )
            for cell in entry["cells"]
        ]
        kept = ("name", "entry", "nmi", "event", "cores", "instructions", "assumptions")
        total = entry.get("total", len(rows))
        paths.append({**{key: entry[key] for key in kept}, "total": total, "cells": rows})
    figures = [
        {"entry": m["entry"], "column": COLUMNS[m["name"]], "value": m["mean"], "unit": m["unit"]}
        for m in metrics
        if m["name"] in COLUMNS
    ]
    return {
        "commit": cells["commit"],
        "qemu": cells["qemu"],
        "outcomes": OUTCOMES,
        "places": places.rows,
        "words": words.rows,
        "paths": paths,
        "figures": figures,
    }


def write_html(cells: Path, output: Path, bench: Path | None = None) -> None:
    """Make the page from sweep.cells.json and, for the table of variants, bench.json."""
    metrics = _read(bench)["metrics"] if bench else ()
    data = json.dumps(compact(_read(cells), metrics), separators=(",", ":"))
    template = resources.files("onestack").joinpath("report.html").read_text(encoding="utf-8")
    assert DATA in template
    output.parent.mkdir(parents=True, exist_ok=True)
    # `</` would end the script element
    output.write_text(template.replace(DATA, data.replace("</", "<\\/")), encoding="utf-8")
