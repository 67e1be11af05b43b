# SPDX-License-Identifier: MIT
"""The benchmark is complete and repeatable, and no figure has become worse unnoticed."""

from __future__ import annotations

import pytest
from figures import TARGETS, baseline, compiler, measure, measure_entry

from onestack.bench import Metric

TOLERANCE = 1.02


@pytest.fixture(scope="module")
def metrics() -> list[Metric]:
    return measure("tcb")[0] + measure_entry("tcb")


def test_every_metric_with_a_target_is_there(metrics: list[Metric]) -> None:
    assert set(TARGETS) <= {metric.name for metric in metrics}
    assert all(metric.samples > 0 for metric in metrics)


def test_two_runs_agree_to_the_instruction() -> None:
    parts = ("calls", "ipc", "notify", "faults", "irq")
    assert measure("tcb", parts) == measure("tcb", parts)


def test_nothing_is_dearer_than_the_baseline(metrics: list[Metric]) -> None:
    """Who makes something dearer says so in the same commit: figures.py --record."""
    known = baseline()
    if not known:
        pytest.skip(f"no baseline for {compiler()}: figures.py --record makes one")
    found = {metric.name: metric.mean for metric in metrics}
    dearer = {
        name: (found.get(name), old)
        for name, old in known.items()
        if found.get(name, float("inf")) > old * TOLERANCE + 1
    }
    assert not dearer, "now, and the baseline"


def test_threads_keep_their_promise(metrics: list[Metric]) -> None:
    """All that were made wait at once, and each wakes up once."""
    counts = {metric.name: metric.mean for metric in metrics if metric.unit == "count"}
    assert counts["threads.woken"] == counts["threads.blocked"] >= 300_000
