# SPDX-License-Identifier: MIT
"""The whole interleaving sweep: each instruction of each race. Takes hours; can be cut short.

    python tests/smp/interleave_all.py [--kinds atomic,shared,private] [--sides caller,victim]
                                       [--only PATTERN] [--part K/N] [--out FILE]
    python tests/smp/interleave_all.py --summary FILE...
    python tests/smp/interleave_all.py --again FILE...

All races are played at their atomic instructions first, then at those that touch what is shared,
then at the others (Kind); each with its caller's core frozen and with the victim's. Each result is
a line of JSON in FILE (build/interleaving.jsonl) as soon as there is one, and is not made again; a
FILE of another kernel is refused. `--part 1/2` plays every second race, from the first on, for one
of two processes with a FILE each. `--summary` prints what all files come to, `--again` plays what
was wrong in them once more.

Ends with 0 if all was right, 1 if any outcome was wrong, 2 if a FILE is of another kernel, 4 if a
boundary was not come by.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
import time
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from agent import AgentError  # noqa: E402  they stand beside this file or one above
from boundaries import Boundary, Kind  # noqa: E402
from interleaved import MixedError, Row, commit, guest, read, summary  # noqa: E402
from interleaving import TOP, Interleaver  # noqa: E402
from races import RACES  # noqa: E402
from scene import CORE_A, CORE_C, Report  # noqa: E402

from onestack.errors import OnestackError  # noqa: E402

SIDES = {"caller": CORE_A, "victim": CORE_C}
REPEATS = 8  # of what was wrong
WRONG, MIXED, INCOMPLETE = 1, 2, 4


def play(interleaver: Interleaver, kind: Kind, side: str, name: str) -> Row:
    """One kind of boundaries of a race; what is kept of it."""
    start = time.monotonic()
    for attempt in itertools.count(1):
        try:
            report = interleaver.sweep(
                RACES[name],
                SIDES[side],
                lambda path: [one for one in path if one.kind is kind],
                REPEATS,
            )
            break
        except (OnestackError, AgentError, OSError, ValueError):  # where the scene is set
            if attempt == REPEATS:
                raise
            interleaver.restart()
    if report.failures:
        print(report.told(interleaver.images), flush=True)
    return {
        "race": name,
        "side": side,
        "kind": kind,
        "boundaries": report.boundaries,
        "late": report.late,
        "missed": [place(interleaver, at) for at in report.missed],
        "outcomes": len(set(report.outcomes.values())),
        "seconds": round(time.monotonic() - start, 1),
        "failures": failures(interleaver, report),
    }


def place(interleaver: Interleaver, at: Boundary) -> str:
    return f"{interleaver.images.name(at.address)} visit {at.visit}"


def failures(interleaver: Interleaver, report: Report) -> list[Row]:
    """The wrong outcomes, each with its place, what was right, and all that plays it again."""
    return [
        {
            "at": place(interleaver, one.at),
            "address": one.at.address,
            "visit": one.at.visit,
            "seen": one.seen,
            "again": one.again,
            "orders": {name: str(dict(order)) for name, order in report.orders.items()},
        }
        for one in report.failures
    ]


def give(places: list[Boundary], path: list[Boundary]) -> list[Boundary]:
    """These, whatever path there is."""
    del path
    return places


def play_again(paths: list[Path]) -> int:
    """What was wrong in some files, each boundary alone."""
    wrong = False
    rows = [row for row in read(paths, guest()) if row["failures"]]
    with Interleaver() as interleaver:
        for row in rows:
            kind = Kind(row["kind"])
            places = [Boundary(one["address"], one["visit"], kind) for one in row["failures"]]
            report = interleaver.sweep(
                RACES[row["race"]], SIDES[row["side"]], partial(give, places), REPEATS
            )
            print(report.told(interleaver.images), flush=True)
            wrong |= bool(report.failures)
    return WRONG if wrong else 0


def part(text: str) -> slice:
    """K/N, 1 <= K <= N: every Nth, from the Kth on."""
    first, number = map(int, text.split("/"))
    if not 1 <= first <= number:
        raise ValueError(text)
    return slice(first - 1, None, number)


def play_all(options: argparse.Namespace) -> list[Row]:
    """What is left to play; all rows of the file after it."""
    stamp = {"guest": guest(), "commit": commit()}
    rows = read([options.out], stamp["guest"]) if options.out.exists() else []
    done = {(row["kind"], row["race"], row["side"]) for row in rows}
    names = [name for name in RACES if re.search(options.only, name)][options.part]
    wanted = itertools.product(map(Kind, options.kinds.split(",")), names, options.sides.split(","))
    with Interleaver() as interleaver, options.out.open("a") as out:
        for kind, name, side in wanted:
            if (kind, name, side) in done:
                continue
            row = play(interleaver, kind, side, name) | stamp
            rows.append(row)
            out.write(json.dumps(row) + "\n")
            out.flush()
            print(
                f"{kind} {name}, {side}: {row['boundaries']} boundaries, {row['late']} late, "
                f"{len(row['missed'])} not come by, {len(row['failures'])} wrong, "
                f"{row['seconds']} s",
                flush=True,
            )
    return rows


def main() -> int:
    """Play what is left to play, or say what has been played."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", default=",".join(Kind), help="of boundaries")
    parser.add_argument("--sides", default=",".join(SIDES), help="whose core is frozen")
    parser.add_argument("--only", default="", help="races in whose name this pattern is found")
    parser.add_argument("--part", type=part, default=part("1/1"), help="K/N of these, 1/1 is all")
    parser.add_argument("--out", type=Path, default=TOP / "build/interleaving.jsonl")
    parser.add_argument("--summary", type=Path, nargs="+", metavar="FILE", help="print what it is")
    parser.add_argument("--again", type=Path, nargs="+", metavar="FILE", help="play what was wrong")
    options = parser.parse_args()
    try:
        if options.again:
            return play_again(options.again)
        rows = read(options.summary) if options.summary else play_all(options)
        print(summary(rows, len(RACES)))
    except MixedError as error:
        print(error, file=sys.stderr)
        return MIXED
    if any(row["failures"] for row in rows):
        return WRONG
    return INCOMPLETE if any(row["missed"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
