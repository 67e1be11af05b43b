# SPDX-License-Identifier: MIT
"""The whole interleaving sweep: each instruction of each race. Takes hours; can be cut short.

    python tests/smp/interleave_all.py [--kinds atomic,shared,private] [--sides caller,victim]
                                       [--only PATTERN] [--part K/N] [--out FILE]

All races are played at their atomic instructions first, then at those that touch what is shared,
then at the others (Kind); each with its caller's core frozen and with the victim's. Each result is
a line of JSON in FILE (build/interleaving.jsonl) as soon as there is one, and is not made again.
`--part 1/2` plays every second race, from the first on, for one of two processes with a FILE each.
Ends with 1 if any outcome was wrong.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from boundaries import Kind  # noqa: E402  they stand beside this file
from interleaving import CORE_A, CORE_C, TOP, Interleaver, Report  # noqa: E402
from races import RACES  # noqa: E402

SIDES = {"caller": CORE_A, "victim": CORE_C}


def play(interleaver: Interleaver, kind: Kind, side: str, name: str) -> dict[str, Any]:
    """One kind of boundaries of a race; what is kept of it."""
    start = time.monotonic()
    report = interleaver.sweep(
        RACES[name], SIDES[side], lambda path: [one for one in path if one.kind is kind]
    )
    if report.failures:
        print(report.told(interleaver.images), flush=True)
    return {
        "race": name,
        "side": side,
        "kind": kind,
        "boundaries": report.boundaries,
        "unreached": report.unreached,
        "outcomes": len(set(report.outcomes.values())),
        "seconds": round(time.monotonic() - start, 1),
        "failures": failures(report, interleaver),
    }


def failures(report: Report, interleaver: Interleaver) -> list[dict[str, str]]:
    """The wrong outcomes, each with its place."""
    name = interleaver.images.name
    return [
        {"at": f"{name(at.address)} visit {at.visit}", "seen": text} for at, text in report.failures
    ]


def part(text: str) -> slice:
    """K/N, 1 <= K <= N: every Nth, from the Kth on."""
    first, number = map(int, text.split("/"))
    if not 1 <= first <= number:
        raise ValueError(text)
    return slice(first - 1, None, number)


def main() -> int:
    """Play what is left to play."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", default=",".join(Kind), help="of boundaries")
    parser.add_argument("--sides", default=",".join(SIDES), help="whose core is frozen")
    parser.add_argument("--only", default="", help="races in whose name this pattern is found")
    parser.add_argument("--part", type=part, default=part("1/1"), help="K/N of these, 1/1 is all")
    parser.add_argument("--out", type=Path, default=TOP / "build/interleaving.jsonl")
    options = parser.parse_args()
    rows = []
    if options.out.exists():
        rows = [json.loads(line) for line in options.out.read_text().splitlines()]
    done = {(row["kind"], row["race"], row["side"]) for row in rows}
    wanted = itertools.product(
        map(Kind, options.kinds.split(",")),
        options.sides.split(","),
        [name for name in RACES if re.search(options.only, name)][options.part],
    )
    with Interleaver() as interleaver, options.out.open("a") as out:
        for kind, side, name in wanted:
            if (kind, name, side) in done:
                continue
            row = play(interleaver, kind, side, name)
            rows.append(row)
            out.write(json.dumps(row) + "\n")
            out.flush()
            print(
                f"{kind} {name}, {side}: {row['boundaries']} boundaries, {row['unreached']} not "
                f"reached, {len(row['failures'])} wrong, {row['seconds']} s",
                flush=True,
            )
    for kind in Kind:
        sums: Counter[str] = Counter()
        for row in rows:
            if row["kind"] == kind:
                sums += Counter(
                    boundaries=row["boundaries"],
                    unreached=row["unreached"],
                    wrong=len(row["failures"]),
                )
        print(f"{kind}: {dict(sums)}")
    return any(row["failures"] for row in rows)


if __name__ == "__main__":
    sys.exit(main())
