# SPDX-License-Identifier: MIT
"""What the interleaving sweep makes of its rounds: nothing stays open, chance is seen to be it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from boundaries import Boundary, Kind
from interleaved import MixedError, Row, read, summary
from interleaving import TRIES, Interleaver
from races import RACES
from scene import Outcome, Report

NAME = "send-and-cancel-of-the-receiver"
WRONG: Outcome = (("a", "nothing that an order gives"),)
FIRST = Boundary(0xFFFF_0000, 1, Kind.ATOMIC)


class Played(Interleaver):
    """One without a machine, whose rounds come to what a test says; an order gives ()."""

    def __init__(self, rounds: list[Outcome | Exception | None]) -> None:
        self.race = RACES[NAME]
        self.orders = {"a then b": (), "b then a": ()}
        self.rounds = rounds
        self.stepped: list[bool] = []
        self.restarts = 0

    def path(self, frozen: int = 1) -> list[Boundary]:
        del frozen
        return [FIRST]

    def play(self, boundary: Boundary, frozen: int = 1, *, stepped: bool = False) -> Outcome | None:
        del boundary, frozen
        self.stepped.append(stepped)
        outcome = self.rounds.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def restart(self) -> None:
        self.restarts += 1

    def open(self, race: object) -> None:
        pass


def sweep(rounds: list[Outcome | Exception | None], repeats: int = 0) -> tuple[Played, Report]:
    played = Played(rounds)
    report = played.sweep(RACES[NAME], repeats=repeats)
    assert not played.rounds, "it stopped too early"
    return played, report


def test_a_boundary_that_does_not_come_is_tried_again() -> None:
    played, report = sweep([None, None, ()])
    assert (report.late, report.missed, report.failures) == (1, [], [])
    assert played.stepped == [False] * 3


def test_and_stepped_to_in_the_end() -> None:
    played, report = sweep([*[None] * TRIES, ()])
    assert (report.late, report.missed) == (1, [])
    assert played.stepped == [False] * TRIES + [True]


def test_what_never_comes_is_said() -> None:
    _, report = sweep([None] * (TRIES + 1))
    assert (report.late, report.missed, report.outcomes) == (0, [FIRST], {})


@pytest.mark.parametrize("again", [[WRONG, WRONG], [(), WRONG], [(), ()]])
def test_what_is_wrong_is_played_again(again: list[Outcome]) -> None:
    _, report = sweep([WRONG, *again], repeats=2)
    (wrong,) = report.failures
    assert [bool(text) for text in wrong.again] == [outcome == WRONG for outcome in again]


def test_after_an_error_it_goes_on_with_another_machine() -> None:
    played, report = sweep([ValueError("half an answer"), ()], repeats=1)
    assert played.restarts == 1
    assert report.failures[0].again == ("",)


ROW: Row = {
    "race": "one",
    "side": "caller",
    "kind": "atomic",
    "boundaries": 3,
    "late": 0,
    "missed": [],
    "failures": [],
    "guest": "g",
    "commit": "c",
}


def kept(path: Path, **changes: Any) -> Path:
    with path.open("a") as out:
        out.write(json.dumps(ROW | changes) + "\n")
    return path


def test_rows_of_two_kernels_are_not_mixed(tmp_path: Path) -> None:
    one, other = kept(tmp_path / "one"), kept(tmp_path / "other", race="two", guest="h")
    assert len(read([one])) == 1
    for paths, wanted in (([one, other], None), ([one], "h")):
        with pytest.raises(MixedError):
            read(paths, wanted)


def test_the_summary_says_what_is_open(tmp_path: Path) -> None:
    one = kept(tmp_path / "one", missed=["send+0x1 visit 2"])
    failure = {"at": "reply+0x2 visit 1", "seen": "{'a': 7}", "again": ["", "{'a': 7}"]}
    kept(one, race="two", failures=[failure])
    told = summary(read([one]), 4)
    assert "| atomic | caller's | 2 of 4 | 6 | 1 | 1 | c |" in told
    assert "not come by: atomic one, caller: send+0x1 visit 2" in told
    assert "wrong: atomic two, caller: reply+0x2 visit 1" in told
    assert "again 1 of 2 times" in told


def test_a_race_is_counted_once(tmp_path: Path) -> None:
    with pytest.raises(MixedError):
        summary(read([kept(kept(tmp_path / "one"))]), 1)
