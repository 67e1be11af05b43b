# SPDX-License-Identifier: MIT
"""The whole sweep of our kernel: entry models, paths, events, one core and two.

    python tests/sweep/run.py [NAME=VALUE ...]        `scons sweep` calls it; docs/sweep.md

It begins with what must fail, the build with `nmi=rsp0`: a sweep that does not condemn that proves
nothing. Then it goes on by what matters most: NMIs before other events, one core before two.
Stopped by Ctrl-C and started again, it goes on where it was.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # pytest.ini says so to the tests
from kernel_paths import PATHS, events, matching
from kernel_target import MODELS, TOP, Variant, target
from rich.console import Console

from onestack import sweep_files
from onestack.bars import counting
from onestack.campaign import Campaign, Labels, Part, PartResult
from onestack.commands.common import FOUND, INCOMPLETE, INTERRUPTED, OK, USAGE
from onestack.elf import Images
from onestack.errors import OnestackError, UsageError
from onestack.machine import check_qemu
from onestack.oracle import Outcome
from onestack.progress import SweepProgress
from onestack.report import write_html
from onestack.symbolize import Symbolizer

BUILD = TOP / "build"
CONTROL = ("null", "timer")  # paths on which nmi=rsp0 must not survive
FOR_OTHERS = ("tests", "toolchain")  # options that scons passes on
MOST_TOLD = 20  # failures of a part that the terminal shows; sweep.json has all


@dataclass(frozen=True)
class Options:
    """What `scons sweep` takes, as it is written there; lists by commas."""

    entry: str = ""  # all models
    nmi: str = "ist"
    debug: str = "0"
    paths: str = "*"
    events: str = "*"
    cores: str = "1,2"
    every: str = "1"
    append: str = ""
    jobs: str = str(os.cpu_count() or 1)

    @classmethod
    def of(cls, words: Sequence[str]) -> Options:
        """From NAME=VALUE words; empty values are defaults."""
        pairs = [word.partition("=")[::2] for word in words]
        pairs = [pair for pair in pairs if pair[0] not in FOR_OTHERS]
        for name, _ in pairs:
            if name not in cls.__dataclass_fields__:
                raise UsageError(f"no option {name!r}", "docs/sweep.md has them")
        options = replace(cls(), **{name: value for name, value in pairs if value})
        for name in ("every", "jobs", *(["cores"] if "," not in options.cores else [])):
            if not getattr(options, name).isdecimal():
                raise UsageError(f"{name}={getattr(options, name)} is no number")
        return options

    @property
    def output(self) -> Path:
        """sweep.json; with a command line of its own, a file of its own."""
        kind = re.sub(r"\W+", "-", self.append)
        return BUILD / (f"sweep.{kind}.json" if kind else "sweep.json")


@dataclass(frozen=True)
class Stage:
    """One campaign: a variant, some events, a number of cores. A control must be condemned."""

    variant: Variant
    paths: tuple[str, ...]
    events: tuple[str, ...]
    cores: int = 1
    control: bool = False

    @property
    def title(self) -> str:
        """For the terminal."""
        what = f"{self.variant.entry} nmi={self.variant.nmi}"
        return f"{what} {self.cores} core{'s' * (self.cores > 1)}"


def stages(options: Options) -> Iterator[Stage]:
    """What is to be done, in order."""
    models = matching((options.entry or "*").split(","), MODELS, "entry model")
    paths = tuple(matching(options.paths.split(","), PATHS, "path"))
    variants = [Variant(model, options.nmi, options.debug == "1") for model in models]
    names = tuple(events(Images.load(variants[0].kernel)))
    wanted = tuple(matching(options.events.split(","), names, "event"))
    cores = [int(count) for count in options.cores.split(",")]
    if options.nmi == "ist" and not options.append:
        control = Variant(nmi="rsp0")
        yield from (Stage(control, CONTROL, ("nmi",), count, control=True) for count in cores)
    first, then = ([n for n in wanted if (n == "nmi") is which] for which in (True, False))
    for some in (tuple(first), tuple(then)):
        for count in cores if some else ():
            yield from (Stage(variant, paths, some, count) for variant in variants)


def _condemned(result: PartResult) -> bool:
    """Whether most NMIs did not survive that were pushed to a TCB or a user's stack."""
    wrong = [c for c in result.cells if c.boundary.context.stack in ("TCB", "user")]
    wrong = [cell for cell in wrong if cell.boundary.cpl == 0]
    survived = [cell for cell in wrong if cell.outcome is Outcome.SURVIVED]
    return len(survived) * 4 < len(wrong)


class Sweep:
    """Does the stages one after another, keeps what they found."""

    def __init__(self, options: Options, terminal: Console) -> None:
        self.options, self.terminal = options, terminal
        self.failures = self.unreached = 0
        self.blind: list[str] = []  # controls that survived

    def run(self, stage: Stage, number: str) -> None:
        """One stage; its results are in the files afterwards, even if it is interrupted."""
        options = self.options
        guest = target(stage.variant, cores=stage.cores, append=options.append)
        known = events(Images.load(*guest.elfs))
        parts = [Part(PATHS[path], known[event]) for path in stage.paths for event in stage.events]
        labels = Labels(stage.variant.entry, stage.variant.nmi, stage.cores)
        folder = guest.spec.kernel.parent.name if guest.spec.kernel else ""
        name = f"{folder}-{stage.cores}{options.output.suffixes[0]}"
        work = Campaign(
            guest,
            parts,
            labels,
            state=BUILD / "sweep" / name.replace(".json", ".state"),
            processes=int(options.jobs),
            every=1 if stage.control else int(options.every),
            keep_going=True,
        )
        label = f"{number} {stage.title}"
        try:
            with counting(f"{label}: recording", len(stage.paths)) as one_more:
                work.plan(one_more)
            with SweepProgress(work, self.terminal, label, lines=True) as progress:
                work.run(progress.tell)
        finally:
            self._keep(stage, work, Images.load(*guest.elfs))

    def _keep(self, stage: Stage, work: Campaign, images: Images) -> None:
        results = [result for result in work.results if result.cells]
        if results:
            version = check_qemu(work.target.spec.qemu)
            cells = sweep_files.write(results, Symbolizer(images), self.options.output, version)
            bench = BUILD / "bench.json"
            page = self.options.output.with_suffix(".html")
            write_html(cells, page, bench if bench.exists() else None)
        self._tell(stage, results, images, work.total)
        if stage.control:
            self.blind += [f"{stage.title} {r.part.key}" for r in results if not _condemned(r)]
        else:
            self.failures += sum(len(result.failures) for result in results)
        self.unreached += sum(len(result.unreached) for result in results) + len(work.problems)
        for path, problem in work.problems.items():
            print(f"  {path}: not recorded: {problem}", flush=True)

    def _tell(self, stage: Stage, results: list[PartResult], images: Images, total: int) -> None:
        count = sum(len(result.cells) for result in results)
        good = sum(result.outcomes().get(Outcome.SURVIVED, 0) for result in results)
        what = ", ".join(stage.events)
        told = f"{count:,} of {total:,} boundaries struck, {good:,} survived"
        missing = sum(len(result.unreached) for result in results)
        earlier = sum("struck at visit" in cell.detail for r in results for cell in r.cells)
        told += f", {missing:,} not judged" * bool(missing)
        told += f", {earlier:,} struck at an earlier visit of the loop" * bool(earlier)
        print(f"{stage.title}, {what}: {told}")
        for result in results if not stage.control else ():
            for cell in result.failures[:MOST_TOLD]:
                where = images.name(cell.boundary.address)
                print(f"  {result.part.key} {where}: {cell.outcome}: {cell.detail}")
            if len(result.failures) > MOST_TOLD:
                print(f"  {result.part.key}: and {len(result.failures) - MOST_TOLD} more")
            for cell in result.unreached[:MOST_TOLD]:
                where = images.name(cell.boundary.address)
                print(f"  {result.part.key} {where}: not judged: {cell.detail}")
        sys.stdout.flush()

    def verdict(self) -> int:
        """The exit code, and a word on it."""
        output = self.options.output
        print(f"{output.relative_to(TOP)}, {output.with_suffix('.html').relative_to(TOP)}")
        for what in self.blind:
            print(f"sweep: {what}: the build that must fail survives; this sweep proves nothing")
        if self.failures or self.blind:
            return FOUND
        return INCOMPLETE if self.unreached else OK


def linux() -> int:
    """Debian's kernel: what is in tests/foreign/linux.toml."""
    subprocess.run([sys.executable, "tests/foreign/debian_kernel.py"], cwd=TOP, check=True)
    command = ["onestack", "sweep", "tests/foreign/linux.toml", "-o", "build/foreign.sweep.json"]
    command += ["--html", "build/foreign.sweep.html"]
    return subprocess.run(command, cwd=TOP, check=False).returncode


def main(words: Sequence[str]) -> int:
    """See the module."""
    terminal = Console(stderr=True)
    try:
        options = Options.of(words)
        if options.paths == "linux":
            return linux()
        sweep, todo = Sweep(options, terminal), list(stages(options))
        for number, stage in enumerate(todo, 1):
            sweep.run(stage, f"{number}/{len(todo)}")
        return sweep.verdict()
    except UsageError as error:
        print(f"sweep: {error}", file=sys.stderr)
        return USAGE
    except OnestackError as error:
        print(f"sweep: {error}", file=sys.stderr)
        return INCOMPLETE
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
