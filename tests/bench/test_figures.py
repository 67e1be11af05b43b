# SPDX-License-Identifier: MIT
"""The benchmark is complete and repeatable, and no figure has become worse unnoticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from boot_figures import image_bytes
from figures import (
    TARGETS,
    Found,
    baseline,
    compared,
    compiler,
    figures_of,
    measure,
    measure_guest,
    spec,
)

from onestack import bench
from onestack.bench import Metric
from onestack.bench_report import write_html

REPEATED = ("calls", "ipc", "notify", "faults", "irq")


@pytest.fixture(scope="module")
def found() -> Found:
    return measure("tcb")


def test_every_metric_with_a_target_is_there(found: Found) -> None:
    assert set(TARGETS) <= {metric.name for metric in found.metrics}
    assert all(metric.samples > 0 for metric in found.metrics)


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        repeated = measure_guest("tcb", REPEATED)
        bench.write(repeated.metrics, tmp_path / name, repeated.qemu)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_no_figure_has_left_its_baseline(found: Found) -> None:
    """Who makes something dearer, or much cheaper, says so in the same commit: --record."""
    if not baseline():
        pytest.skip(f"no baseline for {compiler()}: figures.py --record makes one")
    assert not compared(found.metrics, baseline())


def test_a_planted_rise_is_caught() -> None:
    """And nothing else: not what rises by less, nor a count, nor a time."""
    old = {"a": 100.0, "b": 100.0, "c": 100.0, "d": 10.0, "e": 50.0, "gone": 1.0}
    figures = {"a": 104.0, "b": 103.0, "c": 88.0, "d": 11.0, "e": 46.0, "new": 5.0}
    metrics = [Metric(n, "instructions", v, v, v, 1) for n, v in figures.items()]
    said = compared(metrics, old)
    assert [line.split(":")[0] for line in said] == ["a", "c", "gone", "new"]
    assert "dearer" in said[0]
    assert "--record" in said[1]
    assert "is not measured any more" in said[2]


def test_a_rise_in_the_guest_is_caught(found: Found) -> None:
    """Every comparable metric is one of the gate's: made dearer by a twentieth, it is named."""
    old = {metric.name: metric.mean for metric in found.metrics}
    known = {name: old[name] for name in baseline() if name in old and old[name] > 40}
    dearer = [replace(m, mean=m.mean * 1.05) for m in found.metrics if m.name in known]
    assert len(compared(dearer, known)) == len(known)


def test_threads_keep_their_promise(found: Found) -> None:
    """All that were made wait at once, and each wakes up once."""
    counts = {metric.name: metric.mean for metric in found.metrics if metric.unit == "count"}
    assert counts["threads.woken"] == counts["threads.blocked"] >= 300_000


def test_the_way_up_is_told_by_function(found: Found) -> None:
    assert found.way is not None
    figures = {metric.name: metric.mean for metric in found.metrics}
    assert found.way.instructions == figures["boot.instructions"]
    assert {"pvh_entry", "kernel_main", "exit_iret"} <= set(found.way.functions)


def test_bytes_of_the_image_are_those_of_its_parts() -> None:
    kernel = spec("tcb").kernel
    assert kernel is not None
    sizes = image_bytes(kernel)
    assert 10_000 < sizes["kernel.code_bytes"] < sizes["kernel.text_bytes"]
    assert sizes["kernel.text_bytes"] < kernel.stat().st_size


def test_report_says_all(found: Found, tmp_path: Path) -> None:
    bench.write(found.metrics, tmp_path / "bench.json", found.qemu)
    page = tmp_path / "bench.html"
    figures = figures_of("tcb", found)
    write_html(tmp_path / "bench.json", tmp_path / "none", {"ipc.call": "1 / 2"}, figures, page)
    text = page.read_text()
    assert "http://" not in text
    assert "https://" not in text
    [longest, *_] = figures.places["window"]
    for name in (*TARGETS, longest.path, "memset"):
        assert f'"{name}"' in text
