# SPDX-License-Identifier: MIT
"""Where work goes: docs/architecture.md, "Who takes work"."""

from __future__ import annotations

import pytest

from onestack.machine import Machine


@pytest.mark.machine(cores=4, append="timeslice=5000 run=spread 4")
def test_idle_cores_take_what_starts_and_what_waits_behind_an_equal(machine: Machine) -> None:
    for what, cores in (("started", 4), ("held", 1), ("let go", 4)):
        machine.console.expect(rf"spread: {what}: 4 threads on (\d) cores", 40.0)
        assert machine.console.match[1] == str(cores), what
