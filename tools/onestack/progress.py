# SPDX-License-Identifier: MIT
"""Progress of a campaign on a terminal: rate, time left, findings. Silent anywhere else."""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from onestack.campaign import Campaign, Part
from onestack.oracle import Outcome
from onestack.sweep import Cell


class _Rate(ProgressColumn):
    """Boundaries a second."""

    def render(self, task: Task) -> Text:
        """As text of a fixed width."""
        return Text(f"{task.speed or 0:5.0f}/s", style="progress.data.speed")


class SweepProgress:
    """Shows a campaign; pass `tell` to Campaign.run(). A context manager."""

    def __init__(self, campaign: Campaign, console: Console) -> None:
        self._found: Counter[str] = Counter()
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:24.24}"),
            BarColumn(None),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[found]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task(
            "sweep", total=campaign.total, completed=campaign.resumed, found=""
        )

    def __enter__(self) -> Self:
        """Begin to show."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        self._progress.stop()

    def tell(self, part: Part, cell: Cell) -> None:
        """One more boundary is done."""
        outcome = cell.outcome or "unreached"
        if outcome != Outcome.SURVIVED:
            self._found[str(outcome)] += 1
        found = ", ".join(f"{count} {name}" for name, count in self._found.items())
        self._progress.update(self._task, advance=1, description=part.key, found=found)
