# SPDX-License-Identifier: MIT
"""A part of the sweep for every kind of event, on four paths: one with IF=0 all along, one that
blocks and goes idle, one through an exception's handler, one that begins with an interrupt."""

from __future__ import annotations

import pytest
from kernel_target import MODELS, Variant
from sweeping import images_of, sweep_all, told

EVENTS = (
    *("irq", "mc"),
    *("nmi-then-mc", "mc-then-nmi", "nmi-pair", "nmi+irq", "nmi-with-breakpoint"),
)


@pytest.mark.parametrize("path", ["null", "sleep", "opcode", "irq"])
def test_events_all_over_a_path(path: str) -> None:
    for result in sweep_all(path, EVENTS, limit=30):
        assert len(result.cells) >= 25
        assert not result.failures, told(result, images_of())


@pytest.mark.parametrize("model", [model for model in MODELS if model != "tcb"])
def test_other_models(model: str) -> None:
    """An exit that has to go back to its check is another one in each."""
    variant = Variant(model)
    for result in sweep_all("opcode", ("irq", "mc", "mc-then-nmi"), variant, limit=40):
        assert len(result.cells) >= 35
        assert not result.failures, told(result, images_of(variant))
