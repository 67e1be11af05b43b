# SPDX-License-Identifier: MIT
"""What a campaign came to, as files: sweep.json, and sweep.cells.json for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onestack.campaign import PartResult
from onestack.results import merge
from onestack.sweep import Cell
from onestack.symbolize import Symbolizer


def as_json(result: PartResult, symbolizer: Symbolizer) -> dict[str, Any]:
    """A part's entry in sweep.json."""
    judged = len(result.cells) - len(result.unreached)
    return {
        "name": result.part.path.name,
        "entry": result.labels.entry,
        "nmi": result.labels.nmi,
        "event": result.part.event.name,
        "cores": result.labels.cores,
        "boundaries": judged,
        "outcomes": {"survived": 0, **result.outcomes()},
        "failures": [
            {
                "address": f"{cell.boundary.address:#x}",
                "symbol": symbolizer.images.name(cell.boundary.address),
                "outcome": str(cell.outcome),
                "detail": cell.detail,
            }
            for cell in result.failures
        ],
    }


def cells_as_json(result: PartResult, symbolizer: Symbolizer) -> dict[str, Any]:
    """A part's entry in sweep.cells.json: every boundary, for the report."""
    entry = as_json(result, symbolizer)
    del entry["failures"]
    entry["instructions"] = result.instructions
    entry["total"] = result.total
    entry["assumptions"] = result.assumptions
    entry["cells"] = [_cell_as_json(cell, symbolizer) for cell in result.cells]
    return entry


def _cell_as_json(cell: Cell, symbolizer: Symbolizer) -> dict[str, Any]:
    boundary = cell.boundary
    instruction = symbolizer.images.instruction(boundary.address)
    place = symbolizer.place(boundary.address)
    context = asdict(boundary.context)
    return {
        "address": f"{boundary.address:#x}",
        "symbol": place.name,
        "source": str(place.source or ""),
        "text": instruction.text if instruction else "",
        "step": boundary.step,
        "hit": boundary.hit,
        "cpl": boundary.cpl,
        "if": boundary.interrupts,
        **{name: value for name, value in context.items() if value not in (None, "")},
        "outcome": str(cell.outcome or "unreached"),
        "detail": cell.detail,
    }


def write(results: Sequence[PartResult], symbolizer: Symbolizer, path: Path, qemu: str) -> Path:
    """Write sweep.json and, beside it, sweep.cells.json; entries of other guests in them stay.

    An entry is replaced by a newer one with the same name, entry, nmi, event and cores. The path
    of the second file is returned.
    """
    cells = path.with_suffix(".cells.json")
    key = ("name", "entry", "nmi", "event", "cores")
    merge(path, qemu, "paths", [as_json(result, symbolizer) for result in results], key)
    rows = [cells_as_json(result, symbolizer) for result in results]
    merge(cells, qemu, "paths", rows, key, indent=None)
    return cells
