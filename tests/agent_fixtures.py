# SPDX-License-Identifier: MIT
"""Fixtures for tests that drive the agent: what a test takes it gives back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import pytest
from agent import Agent
from agent_support import FAILED, WORKER, has_failed

from onestack.machine import Machine


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The guest of a failed test is not asked for anything more."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture
def agent(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Agent]:
    """The agent; its account is the same to the byte before and after."""
    agent = Agent(machine)
    before = agent.free()
    yield agent
    if not has_failed(request):
        assert agent.has_back(before), "the test has not given back what it took"


@pytest.fixture
def keep(agent: Agent, request: pytest.FixtureRequest) -> Iterator[Callable[[int], int]]:
    """Capabilities that go at the test's end: `keep(handle)` returns the handle."""
    handles: list[int] = []

    def keeper(handle: int) -> int:
        handles.append(handle)
        return handle

    yield keeper
    if not has_failed(request):
        for handle in reversed(handles):
            agent.call("cap_delete", handle)


@pytest.fixture
def endpoint(agent: Agent, keep: Callable[[int], int]) -> int:
    return keep(agent.make("endpoint_create", agent.quota))


@pytest.fixture
def notification(agent: Agent, keep: Callable[[int], int]) -> int:
    return keep(agent.make("notification_create", agent.quota))


@pytest.fixture
def worker(agent: Agent, request: pytest.FixtureRequest) -> Iterator[Callable[..., int]]:
    """Start workers; they end with the test."""
    workers: list[int] = []

    def start(priority: int = WORKER) -> int:
        workers.append(agent.worker(priority, priority))
        return workers[-1]

    yield start
    if not has_failed(request):
        for number in workers:
            agent.drop(number)
