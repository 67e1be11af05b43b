# SPDX-License-Identifier: MIT
"""The sweep once more under Bochs, another model of the CPU: an NMI at each instruction.

    python tests/sweep/bochs_sweep.py [EVERY [PATH...]]     default: 1, all of kernel_paths.py's

What Bochs' debugger can tell is little, and enough: the waiter must be the first to run in user
mode after the NMI, then the walker must come to the end of its path with all that it checks of
itself as it should be, and the kernel must have counted one NMI, and worked on it. Paths that begin
with an interrupt are left out, as nothing here sends one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path as FilePath

sys.path.insert(1, str(FilePath(__file__).resolve().parents[1]))  # pytest.ini says so to the tests
from kernel_paths import PATHS, WALKS
from kernel_state import KernelState
from kernel_target import DEFAULT, TOP

from onestack.bochs import Bochs, BochsSpec
from onestack.elf import Images
from onestack.errors import OnestackError
from onestack.path import Path

LONGEST = 20_000  # instructions of a path, each repetition of a `rep` counted
CORE = 0xFFFFFFFFC0000000  # CORE_AREA_BASE, kernel/arch/layout.h
PATIENCE = 10.0  # seconds for the way to the next breakpoint
AGAIN = 4  # times that the first instruction is gone back to: struck itself, or it faulted
STRUCK = {name: path for name, path in PATHS.items() if path.stimulus is None}


class Walker:
    """Bochs with user/tests/sweep on a walk, stopped at a path's beginning."""

    def __init__(self, bochs: Bochs, images: Images, path: Path) -> None:
        self.bochs, self.images = bochs, images
        self.start, self.end = path.start, path.end[0]
        structs = KernelState(DEFAULT.kernel, images).structs
        self._counters = [CORE + structs.offset("core", n) for n in ("nmi_count", "nmi_worked")]
        places = (self.start, "sweep_woken", self.end, "sweep_fail")
        self._places = {images.resolve(name): name for name in places}
        walk, console = WALKS[path.name], bochs.console
        console.expect("onestack> ", 60)
        console.send_line("run sweep")
        console.expect("sweep: ready", 60)
        console.send_line(walk)
        console.expect(rf"sweep: {walk}\s", 60)
        bochs.pause()
        for address in self._places:
            bochs.command(f"lb {address:#x}")
        self.go_to(self.start)

    def rip(self) -> int:
        """Where the guest stands."""
        found = re.search(r"rip: ([0-9a-f]+)_([0-9a-f]+)", self.bochs.command("r"))
        assert found
        return int(found[1] + found[2], 16)

    def word(self, address: int | str) -> int:
        """Of memory, at an address or where a register points."""
        at = address if isinstance(address, str) else hex(address)
        return int(self.bochs.command(f"x /1gx {at}").split()[-1], 16)

    def go(self) -> str:
        """On to the next breakpoint: its name, or where else it has stopped."""
        self.bochs.resume()
        self.bochs.wait_end(PATIENCE)
        rip = self.rip()
        return self._places.get(rip, hex(rip))

    def go_to(self, place: str) -> None:
        """On to a place, whatever comes before."""
        for _ in range(100):
            if self.go() == place:
                return
        raise AssertionError(f"{place} does not come")

    def path(self) -> list[int]:
        """Each instruction of the path, by stepping it once; at its beginning again."""
        end, found = self.images.resolve(self.end), [self.rip()]
        while len(found) < LONGEST:
            self.bochs.command("s")
            if (rip := self.rip()) == end:
                self.go_to(self.start)
                return found
            found.append(rip)
        raise AssertionError(f"{self.end} does not come")

    def strike(self, step: int) -> str:
        """An NMI before the `step`th instruction: what is wrong, or nothing."""
        before = [self.word(counter) for counter in self._counters]
        if step:
            self.bochs.command(f"s {step}")
        self.bochs.command("take nmi")
        for wanted in ("sweep_woken", self.end):
            place = self.go()
            for _ in range(AGAIN):
                if place == self.start:
                    place = self.go()
            if place != wanted:
                return f"came to {place}, not to {wanted}"
        after = [self.word(counter) for counter in self._counters]
        self.go_to(self.start)
        return "" if after == [count + 1 for count in before] else f"NMIs: {before}, then {after}"

    def sweep(self, path: Sequence[int], steps: Iterable[int]) -> str:
        """Strike at these steps of the path; the first that goes wrong ends it and is told."""
        for step in steps:
            if wrong := self.strike(step):
                return f"step {step}, {self.images.name(path[step])}: {wrong}"
        return ""


def boundaries(path: Sequence[int]) -> list[int]:
    """The steps to strike at; of a `rep`, which stays where it is, the first two and the last."""
    return [i for i, at in enumerate(path) if {at} != {*path[max(0, i - 2) : i + 2]} or i < 2]


def sweep(name: str, every: int = 1) -> tuple[int, str]:
    """A path from a new boot on: how many boundaries were to be struck, and what went wrong."""
    images = Images.load(DEFAULT.kernel, TOP / "build/user/sweep.elf")
    try:
        with Bochs(BochsSpec(DEFAULT.kernel.with_name("onestack.iso"))) as bochs:
            walker = Walker(bochs, images, STRUCK[name])
            path = walker.path()
            steps = boundaries(path)[::every]
            return len(steps), walker.sweep(path, steps)
    except (OnestackError, AssertionError) as error:
        return 0, str(error) or repr(error)


def main(words: Sequence[str]) -> int:
    """See the module."""
    every = int(words[0]) if words else 1
    count = wrong = 0
    for name in words[1:] or STRUCK:
        struck, said = sweep(name, every)
        print(f"{name}: {struck} boundaries under Bochs, {said or 'all survived'}", flush=True)
        count, wrong = count + struck, wrong + bool(said)
    print(f"Bochs: {count:,} boundaries, {wrong} paths with something wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
