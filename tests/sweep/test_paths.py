# SPDX-License-Identifier: MIT
"""A part of the sweep for every path: NMIs spread over all of it. `scons sweep` does the whole."""

from __future__ import annotations

import pytest
from kernel_paths import PATHS
from sweeping import images_of, sweep, told

WHOLE = ("null", "call", "reply", "slow", "sleep", "timer")  # test_first_sweep.py


@pytest.mark.parametrize("path", [path for path in PATHS if path not in WHOLE])
def test_nmis_all_over_a_path(path: str) -> None:
    result = sweep(path, "nmi", limit=40)
    assert len(result.cells) >= 25
    assert not result.failures, told(result, images_of())
