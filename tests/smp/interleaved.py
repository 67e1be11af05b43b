# SPDX-License-Identifier: MIT
"""What has been played of the interleaving sweep: a file with a row of JSON for each part of it.

A row has a race, whose core was frozen, a kind of boundaries, and what came of them. It names what
it was played on; rows of two kernels do not go together.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from interleaving import KERNEL, TOP, TRIES

Row = dict[str, Any]
GUEST = (KERNEL, TOP / "build/user/init.elf")


class MixedError(Exception):
    """Rows of different kernels."""


def guest() -> str:
    """What tells one kernel, with its user programs, from another."""
    total = hashlib.sha256()
    for image in GUEST:
        total.update(image.read_bytes())
    return total.hexdigest()[:12]


def commit() -> str:
    """The commit that stands here, with a + if it has been changed."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    said = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"


def read(paths: Iterable[Path], wanted: str | None = None) -> list[Row]:
    """All rows; MixedError if they are not of one guest, or not of the wanted one."""
    rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    guests = {row.get("guest", "unknown") for row in rows} | ({wanted} if wanted else set())
    if len(guests) > 1:
        raise MixedError(f"kernels {', '.join(sorted(guests))}: not one sweep")
    return rows


def summary(rows: list[Row], races: int) -> str:
    """The table of docs/smp.md, with how many of so many races are in it, and what is open."""
    lines = [
        "| kind | frozen | races | boundaries | wrong | not come by | kernel |",
        "|" + " --- |" * 7,
    ]
    for kind, side in sorted({(row["kind"], row["side"]) for row in rows}):
        mine = [row for row in rows if (row["kind"], row["side"]) == (kind, side)]
        names = {row["race"] for row in mine}
        if len(names) != len(mine):
            raise MixedError(f"{kind}, {side}: a race is there twice")
        idle = sum(row["boundaries"] == 0 and not row["failures"] for row in mine)
        count = f"{len(names)} of {races}" + (f", {idle} with none" if idle else "")
        boundaries = sum(row["boundaries"] for row in mine)
        wrong, missed = (sum(len(row[key]) for row in mine) for key in ("failures", "missed"))
        commits = ", ".join(sorted({row["commit"] for row in mine}))
        lines.append(
            f"| {kind} | {side}'s | {count} | {boundaries:,} | {wrong} | {missed} | {commits} |"
        )
    late = sum(row["late"] for row in rows)
    lines += ["", f"Boundaries that took more than one round: {late}. What was not come by was"]
    lines += [f"not in {TRIES} rounds, nor when the path was stepped as it was written down."]
    for row in rows:
        place = f"{row['kind']} {row['race']}, {row['side']}"
        lines += [f"not come by: {place}: {at}" for at in row["missed"]]
        for failure in row["failures"]:
            times = Counter(failure["again"])
            wrong = times.total() - times[""]
            lines.append(f"wrong: {place}: {failure['at']}: {failure['seen']}")
            lines.append(f"    and again {wrong} of {times.total()} times")
    return "\n".join(lines)
