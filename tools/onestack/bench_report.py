# SPDX-License-Identifier: MIT
"""Figures as one HTML file that needs nothing else: bench.html has the page and draws the chart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from onestack.bench import Metric

DATA = "/*DATA*/null"  # in the template


@dataclass(frozen=True)
class Located:
    """A place in the guest's code: its longest, how many, from where to where, the path."""

    longest: int
    count: int
    first: str
    last: str
    path: str


@dataclass(frozen=True)
class Figures:
    """What a report says of one variant beyond bench.json. `boot` has functions, most first."""

    entry: str
    metrics: tuple[Metric, ...]
    places: Mapping[str, Sequence[Located]] = field(default_factory=dict)
    boot: Sequence[tuple[str, int]] = ()


def _read(path: Path) -> dict[str, Any]:
    empty: dict[str, Any] = {"commit": "", "qemu": "", "metrics": []}
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else empty
    return content if isinstance(content, dict) else empty


def write_html(
    bench: Path, wall: Path, peers: Mapping[str, str], figures: Figures, output: Path
) -> None:
    """Make the page: all variants of bench.json and of the file of seconds, one's places."""
    content, seconds = _read(bench), _read(wall)
    data = {
        "commit": content["commit"],
        "qemu": content["qemu"],
        "metrics": [*content["metrics"], *seconds["metrics"]],
        "peers": dict(peers),
        "entry": figures.entry,
        "places": {kind: [asdict(row) for row in rows] for kind, rows in figures.places.items()},
        "boot": list(figures.boot),
    }
    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")  # would end the script
    template = resources.files("onestack").joinpath("bench.html").read_text(encoding="utf-8")
    assert DATA in template
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(template.replace(DATA, text), encoding="utf-8")
