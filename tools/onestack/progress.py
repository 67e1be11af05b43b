# SPDX-License-Identifier: MIT
"""Progress of a campaign: rate, time left, findings. A bar on a terminal, elsewhere lines."""

from __future__ import annotations

import time
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

LINE_EVERY = 30.0  # seconds


class _Rate(ProgressColumn):
    """Boundaries a second."""

    def render(self, task: Task) -> Text:
        """As text of a fixed width."""
        return Text(f"{task.speed or 0:5.0f}/s", style="progress.data.speed")


class SweepProgress:
    """Shows a campaign; pass `tell` to Campaign.run(). A context manager.

    `label` goes before what is being struck. With `lines` a line is written every half minute
    where there is no terminal.
    """

    def __init__(
        self, campaign: Campaign, console: Console, label: str = "", *, lines: bool = False
    ) -> None:
        self._found: Counter[str] = Counter()
        self._console = console
        self._label = label
        self._lines = lines and not console.is_terminal
        self._total, self._done = campaign.total, campaign.resumed
        self._new = 0
        self._began = self._told = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description:40.40}"),
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
        self._done += 1
        self._new += 1
        found = ", ".join(f"{count} {name}" for name, count in self._found.items())
        where = f"{self._label} {part.key}".lstrip()
        self._progress.update(self._task, advance=1, description=where, found=found)
        now = time.monotonic()
        if self._lines and now - self._told >= LINE_EVERY:
            self._told = now
            self._console.print(self._line(where, found, now), highlight=False, soft_wrap=True)

    def _line(self, where: str, found: str, now: float) -> str:
        rate = self._new / (now - self._began)
        left = (self._total - self._done) / rate / 60
        count = f"{self._done:,} of {self._total:,}, {rate:.0f}/s, {left:.0f} min left"
        return f"{where}: {count}; found: {found or 'nothing'}"
