# SPDX-License-Identifier: MIT
"""Bars on a terminal, with rate and time left, for whatever takes a while. Silent anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

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
from rich.progress_bar import ProgressBar
from rich.text import Text

Item = TypeVar("Item")


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        """As text of a fixed width."""
        return Text(f"{task.speed or 0:5.0f}/s", style="progress.data.speed")


@contextmanager
def counting(text: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar of how many are done: call what it gives, with anything, for each one."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description:24.24}"), BarColumn(None), MofNCompleteColumn(),
        _Rate(), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal, transient=True,
    ) as progress:  # fmt: skip
        task = progress.add_task(text, total=total)
        yield lambda *_: progress.advance(task)


def counted(items: Sequence[Item], text: str) -> Iterator[Item]:
    """The items, with a bar of how many are done."""
    with counting(text, len(items)) as one_more:
        for item in items:
            yield item
            one_more()


class _TimeBar(BarColumn):
    """How much of the time that something may take has gone by."""

    def render(self, task: Task) -> ProgressBar:
        """Called by rich, some ten times a second."""
        task.completed = min(task.elapsed or 0, task.total or 0)
        return super().render(task)


class _TimeLeft(ProgressColumn):
    """It may come at any time; this is how long it is waited for."""

    def render(self, task: Task) -> Text:
        """Called by rich, after the bar."""
        gone = task.elapsed or 0
        left = max(0, (task.total or 0) - gone)
        return Text(f"{gone:4.0f} s, at most {left:.0f} s left", style="progress.remaining")


@contextmanager
def waiting(text: str, seconds: float) -> Iterator[None]:
    """Show that something is waited for, `seconds` at most."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description:24.24}"), _TimeBar(None), _TimeLeft(),
        console=console, disable=not console.is_terminal, transient=True,
    ) as progress:  # fmt: skip
        progress.add_task(text, total=seconds)
        yield
