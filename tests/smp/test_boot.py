# SPDX-License-Identifier: MIT
"""Machines with few cores and with many: all come up, and each runs what is sent to it."""

from __future__ import annotations

import pytest
from agent import READY, Agent

from onestack.machine import Machine

KINFO_CORES, KINFO_CORE_HERE = 0, 6  # enum kernel_info_kind


def machine(count: int, name: str, **options: object) -> object:
    return pytest.param(
        count, id=f"{count}-{name}", marks=pytest.mark.machine(cores=count, **options)
    )


@pytest.mark.machine(append="run=agent", ready=READY)
@pytest.mark.parametrize(
    "count",
    [machine(count, "mttcg") for count in (1, 2, 3, 4, 8, 64)]
    + [machine(count, "icount", icount=0) for count in (2, 4)],
)
def test_each_core_runs_what_is_sent_to_it(machine: Machine, count: int) -> None:
    agent = Agent(machine)
    assert agent.make("kernel_info", KINFO_CORES, 0) == count
    for core in range(count):
        worker = agent.worker(150, 150, core)
        assert agent.make("kernel_info", KINFO_CORE_HERE, 0, worker=worker) == core
        agent.drop(worker)
    assert agent.make("kernel_info", KINFO_CORE_HERE, 0) == 0
