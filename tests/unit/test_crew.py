# SPDX-License-Identifier: MIT
"""A crew of processes: whose task is done when one of them is killed, and whose is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from onestack.crew import TRIES, Crew, LostError
from onestack.errors import OnestackError, UsageError


class Worker:
    """Can be killed by its task, as from outside."""

    def double(self, number: int, what: int) -> int:
        return number + what

    def die(self, number: int, what: Path) -> int:
        """As often as there are files there."""
        for file in what.glob(f"{number}-*"):
            file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    def refuse(self, number: int, what: str) -> OnestackError:
        if what == "return":
            return UsageError(f"no {number}")
        raise UsageError(f"no {number}") if what == "raise" else ValueError(what)

    def leave(self, number: int, what: int) -> None:
        del number
        os._exit(what)


@pytest.fixture
def crew() -> Iterator[Crew]:
    made = Crew(Worker, 2)
    yield made
    made.close()
    assert not made.pids


def test_all_tasks_are_done_by_as_many_as_were_asked_for(crew: Crew) -> None:
    assert sorted(crew.map("double", [(n, n) for n in range(20)])) == [
        (n, 2 * n) for n in range(20)
    ]
    assert len(crew.pids) == 2


def test_a_task_whose_process_is_killed_is_done_by_another(
    crew: Crew, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "3-once").touch()
    made = sorted(crew.map("die", [(n, tmp_path) for n in range(8)]))
    assert made == [(n, n) for n in range(8)]
    assert capfd.readouterr().err.count("was killed (SIGKILL): its work goes to another") == 1


def test_a_task_that_costs_each_its_life_is_said_to_be_lost(
    crew: Crew, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(TRIES):
        (tmp_path / f"3-{number}").touch()
    made = dict(crew.map("die", [(n, tmp_path) for n in range(8)]))
    assert isinstance(made.pop(3), LostError)
    assert made == {n: n for n in range(8) if n != 3}
    assert capfd.readouterr().err.count("its work is given up") == 1


def test_one_that_is_killed_while_it_has_nothing_to_do(crew: Crew) -> None:
    assert len(list(crew.map("double", [(1, 1), (2, 2)]))) == 2
    for pid in crew.pids:
        os.kill(pid, signal.SIGKILL)
    assert sorted(crew.map("double", [(1, 1), (2, 2), (3, 3)])) == [(1, 2), (2, 4), (3, 6)]


def test_errors_come_back_as_they_are(crew: Crew) -> None:
    [(_, error)] = crew.map("refuse", [(7, "return")])
    assert isinstance(error, UsageError)
    with pytest.raises(UsageError, match="no 7"):
        list(crew.map("refuse", [(7, "raise")]))


def test_an_error_of_the_programs_own_is_raised_with_its_place(crew: Crew) -> None:
    with pytest.raises(RuntimeError, match=r"test_crew.py(?s:.*)ValueError: oops"):
        list(crew.map("refuse", [(7, "oops")]))


def test_one_that_leaves_by_itself_is_no_victim(crew: Crew) -> None:
    with pytest.raises(RuntimeError, match="status 5"):
        list(crew.map("leave", [(1, 5)]))
