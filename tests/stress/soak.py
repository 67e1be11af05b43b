# SPDX-License-Identifier: MIT
"""What takes hours: ten million operations of `stress`, racy tests again and with cores in turns,
NMIs at every instruction under Bochs, the interleaving sweep.

    python tests/stress/soak.py [--operations N] [--cores N] [--seed N] [--repeats N] [--out FILE]

The operations are done in parts of a million, each a boot with a seed of its own. What is done
stands in FILE (build/soak.jsonl), a line each with its seed, and is not done again: delete it to
begin anew.
Ends with 1 at the first thing that is wrong, and says what and with which seed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "sweep"))
from bochs_sweep import STRUCK
from bochs_sweep import sweep as strike_all

from onestack.errors import OnestackError
from onestack.machine import Machine, MachineSpec

TOP = Path(__file__).resolve().parents[2]
PART = 1_000_000
PATIENCE = 3600.0  # seconds for a part; the guest itself says within a minute if somebody is stuck
DONE = r"stress: (\d+) operations done, (\d+) wrong, (\d+) sums differ, (-?\d+) bytes missing"
RACY = ["tests/objects", "tests/smp", "tests/user/test_programs.py", "-k", "2-cores or 4-cores"]
# Not the programs: who spins in user mode without `pause` gives the others no turn (docs/smp.md).
IN_TURNS = ["--icount", "tests/objects", "tests/smp/test_operations.py", "-k", "2-cores or 4-cores"]


def play(operations: int, cores: int, seed: int) -> dict[str, object]:
    """One boot; what the guest says at its end, or what became of it."""
    spec = MachineSpec(
        kernel=TOP / "build/tcb-ist-release/kernel.elf",
        initrd=TOP / "build/user/init.elf",
        append=f"run=stress {operations} {seed}",
        cores=cores,
    )
    row: dict[str, object] = {"what": "stress", "cores": cores, "seed": seed}
    start = time.monotonic()
    with Machine(spec) as machine:
        try:
            machine.console.expect(rf"{DONE}|stress: (not all [\w ]+)", PATIENCE)
            found = re.search(DONE, machine.console.text)
            names = ("operations", "wrong", "differ", "missing")
            if found:
                row |= dict(zip(names, map(int, found.groups()), strict=True))
            row["right"] = bool(found) and not any(row[name] for name in names[1:])
        except OnestackError as error:
            row |= {"right": False, "error": str(error)}
        if not row["right"]:
            row["console"] = machine.console.text[-4000:]
    return row | {"seconds": round(time.monotonic() - start, 1)}


def main() -> int:
    """Do what is left to do."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--operations", type=int, default=10_000_000)
    parser.add_argument("--cores", type=int, default=4)
    parser.add_argument(
        "--seed", type=int, default=1, help="of the first part; the next has one more"
    )
    parser.add_argument("--repeats", type=int, default=5, help="of the racy tests")
    parser.add_argument("--out", type=Path, default=TOP / "build/soak.jsonl")
    options = parser.parse_args()
    rows = []
    if options.out.exists():
        rows = [json.loads(line) for line in options.out.read_text().splitlines()]
    rows = [row for row in rows if row["right"]]
    options.out.parent.mkdir(exist_ok=True)
    with options.out.open("a") as out:

        def keep(row: dict[str, object]) -> bool:
            out.write(json.dumps(row) + "\n")
            out.flush()
            print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)
            return bool(row["right"])

        done = sum(row["operations"] for row in rows if row.get("cores") == options.cores)
        while done < options.operations:
            seed = options.seed + done // PART
            row = play(min(PART, options.operations - done), options.cores, seed)
            if not keep(row):
                return 1
            done += int(str(row["operations"]))
        again = [(number, RACY) for number in range(options.repeats)]
        for repeat, tests in [*again, ("in turns", IN_TURNS)]:
            if any(row.get("repeat") == repeat for row in rows):
                continue
            status = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", *tests], cwd=TOP, check=False
            )
            if not keep({"what": "tests", "repeat": repeat, "right": status.returncode == 0}):
                return 1
        for name in STRUCK:
            if any(row.get("path") == name for row in rows):
                continue
            struck, said = strike_all(name)
            if not keep(
                {"what": "bochs", "path": name, "struck": struck, "right": not said, "said": said}
            ):
                return 1
    sweep = [sys.executable, "tests/smp/interleave_all.py"]
    return subprocess.run(sweep, cwd=TOP, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
