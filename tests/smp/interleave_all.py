# SPDX-License-Identifier: MIT
"""The whole interleaving sweep: each instruction of each race. Takes hours; can be cut short.

    python tests/smp/interleave_all.py [--limit N] [--only TEXT] [--out FILE]

Each race's result is a line of JSON in FILE (build/interleaving.jsonl) as soon as there is one;
races that stand there already are not played again. Ends with 1 if any outcome was wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from interleaving import TOP, Interleaver, Report  # noqa: E402  it stands beside this file
from races import RACES  # noqa: E402


def line_of(report: Report, interleaver: Interleaver, seconds: float) -> dict[str, object]:
    """What is kept of a race."""
    wrong = [
        {"at": f"{interleaver.images.name(at.address)} visit {at.visit}", "seen": text}
        for at, text in report.failures
    ]
    return {
        "race": report.race,
        "boundaries": report.boundaries,
        "unreached": report.unreached,
        "outcomes": len(report.outcomes),
        "seconds": round(seconds, 1),
        "failures": wrong,
    }


def main() -> int:
    """Play what is left to play."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=0, help="boundaries of each race, 0: all")
    parser.add_argument("--only", default="", help="races whose name has this in it")
    parser.add_argument("--out", type=Path, default=TOP / "build/interleaving.jsonl")
    options = parser.parse_args()
    done = {}
    if options.out.exists():
        done = {row["race"]: row for row in map(json.loads, options.out.read_text().splitlines())}
    wanted = [name for name in RACES if options.only in name]
    with Interleaver() as interleaver, options.out.open("a") as out:
        for number, name in enumerate(wanted, 1):
            if name not in done:
                start = time.monotonic()
                report = interleaver.sweep(RACES[name], options.limit)
                done[name] = line_of(report, interleaver, time.monotonic() - start)
                out.write(json.dumps(done[name]) + "\n")
                out.flush()
                if report.failures:
                    print(report.told(interleaver.images), flush=True)
            row = done[name]
            print(
                f"[{number}/{len(wanted)}] {name}: {row['boundaries']} boundaries, "
                f"{len(row['failures'])} wrong, {row['seconds']} s",
                flush=True,
            )
    return any(done[name]["failures"] for name in wanted)


if __name__ == "__main__":
    sys.exit(main())
