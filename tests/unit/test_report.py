# SPDX-License-Identifier: MIT
"""The report: one file, all the sweep's data in it, nothing fetched."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from onestack.errors import UsageError
from onestack.report import compact, write_html

CELL = {
    "address": "0x1000",
    "symbol": "entry",
    "source": "kernel/entry.S:3",
    "text": "swapgs",
    "step": 1,
    "hit": 1,
    "cpl": 0,
    "if": False,
    "nest": 1,
    "state": "CORE_ST_SYSCALL",
    "stack": "kernel",
    "outcome": "lost",
    "detail": "late </script> by 3",
}
CELLS = {
    "schema": 1,
    "commit": "abc",
    "qemu": "7.2",
    "paths": [
        {
            "name": "syscall",
            "entry": "tcb",
            "nmi": "ist",
            "event": "nmi",
            "cores": 1,
            "boundaries": 2,
            "instructions": 40,
            "outcomes": {"survived": 1, "lost": 1},
            "assumptions": ["none"],
            "cells": [CELL, {**CELL, "outcome": "survived", "detail": "", "step": 2}],
        }
    ],
}
METRIC = {"name": "thread.bytes", "entry": "tcb", "mean": 384, "unit": "bytes"}


def test_strings_are_stored_once() -> None:
    data = compact(CELLS, [METRIC, {**METRIC, "name": "other"}])
    assert data["places"] == [("0x1000", "entry", "swapgs", "kernel/entry.S:3", "")]
    first, second = data["paths"][0]["cells"]
    assert first[0] == second[0] == 0
    assert data["outcomes"][first[1]] == "lost"
    assert data["words"][first[2]] == CELL["detail"]
    assert data["outcomes"][second[1]] == "survived"
    assert data["figures"] == [
        {"entry": "tcb", "column": "bytes per thread", "value": 384, "unit": "bytes"}
    ]


def test_source_text_is_shown_where_the_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "near.S").write_text("one\ntwo\n    swapgs  /* mine */\n")
    cell = {**CELL, "source": "near.S:3"}
    [place] = compact({**CELLS, "paths": [{**CELLS["paths"][0], "cells": [cell]}]})["places"]  # type: ignore[index]
    assert place[-1] == "swapgs  /* mine */"


def test_page_has_the_data_and_fetches_nothing(tmp_path: Path) -> None:
    cells, page = tmp_path / "sweep.cells.json", tmp_path / "out/sweep.html"
    cells.write_text(json.dumps(CELLS))
    write_html(cells, page)
    html = page.read_text()
    assert not re.search(r"https?:|src=|@import|<link", html)
    assert html.count("</script>") == 1  # data cannot end the script
    found = re.search(r"^const data = (.*);$", html, re.MULTILINE)
    assert found
    assert json.loads(found[1])["commit"] == "abc"


@pytest.mark.parametrize("content", ["no json", "[]", '{"schema": 2}'])
def test_file_of_another_kind_is_refused(tmp_path: Path, content: str) -> None:
    cells = tmp_path / "x.json"
    cells.write_text(content)
    with pytest.raises(UsageError):
        write_html(cells, tmp_path / "y.html")
