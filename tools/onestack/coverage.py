# SPDX-License-Identifier: MIT
"""Which lines of a kernel a run of tests has executed, by a TCG plugin that counts in each QEMU.

`python -m onestack.coverage run KERNEL FOLDER COMMAND... -- PIECE...` runs the command with each
piece, for a folder of tests with each of its files; as many at a time as there are CPUs. Every
machine in it that boots KERNEL counts into FOLDER. A run that was stopped goes on with what is not
done yet; one that has come to its end begins anew. `... report KERNEL FOLDER` writes index.html
there, at any time. Other programs take what they need: `arguments()` for one machine, `Counts` for
what it has executed.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import shutil
import subprocess
import sys
from array import array
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from onestack import plugins
from onestack.bars import counted
from onestack.elf import Image, Images
from onestack.errors import UsageError
from onestack.symbolize import Symbolizer

VARIABLE = "ONESTACK_COVERAGE"  # plugin, kernel, folder; separated by newlines
MAX_CPUS = 256
MAX_RANGES = 4
HEAD = 2 * MAX_RANGES + MAX_CPUS  # 64-bit words before the counts of addresses


def code_range(image: Image) -> range:
    """The executable segment with the most code: a kernel's text."""
    start, content = max(image.code(), key=lambda part: len(part[1]))
    return range(start, start + len(content))


def arguments(plugin: Path, folder: Path, code: Sequence[range]) -> list[str]:
    """For QEMU: count the instructions in these ranges, up to four, into FOLDER."""
    ranges = ",".join(f"range={part.start:#x}-{part.stop:#x}" for part in code)
    return ["-plugin", f"{plugin},out={folder},{ranges}"]


def plugin_arguments(image: Path | None) -> list[str]:
    """What QEMU must be given for a machine that boots this, if coverage is wanted of it.

    That is of the kernel, and of a CD image beside it: the kernel is in it.
    """
    wanted = os.environ.get(VARIABLE, "").split("\n")
    if len(wanted) != 3 or image is None:
        return []
    kernel, image = Path(wanted[1]), image.resolve()
    if image != kernel and not (image.suffix == ".iso" and image.parent == kernel.parent):
        return []
    return arguments(Path(wanted[0]), Path(wanted[2]), [code_range(Image(kernel))])


class Counts:
    """How often each instruction was executed, as one machine's file says."""

    def __init__(self, file: Path) -> None:
        words = array("Q", file.read_bytes())
        bounds = words[: 2 * MAX_RANGES]
        self.ranges = [range(a, b) for a, b in zip(bounds[::2], bounds[1::2], strict=True) if b]
        self.cpus = list(words[2 * MAX_RANGES : HEAD])
        while self.cpus and not self.cpus[-1]:
            self.cpus.pop()
        self._words = words

    def executed(self) -> dict[int, int]:
        """How often, by address."""
        found, at = {}, HEAD
        for part in self.ranges:
            counts = self._words[at : at + len(part)]
            found.update({part[i]: count for i, count in enumerate(counts) if count})
            at += len(part)
        return found


def executed(files: Iterable[Path], code: range) -> set[int]:
    """Addresses that any machine has executed."""
    found: set[int] = set()
    for file in files:
        counts = Counts(file)
        if counts.ranges not in ([], [code]):  # none: its machine is just starting
            raise UsageError(f"{file} is of another kernel", "Empty the folder")
        found.update(counts.executed())
    return found


class Run:
    """A command with one piece after another, counted: what is done, and what was reached.

    Pieces are small, and each one's counts become one file, because a whole suite boots thousands
    of machines and takes long enough to be interrupted.
    """

    def __init__(self, kernel: Path, folder: Path) -> None:
        self.kernel, self.folder = kernel.resolve(), folder.resolve()
        self._code = code_range(Image(kernel))
        self._identity = hashlib.sha256(kernel.read_bytes()).hexdigest()
        self.status: dict[str, int | None] = {}
        if self._file.exists():
            said = json.loads(self._file.read_text(encoding="utf-8"))
            if said["kernel"] == self._identity:
                self.status = said["status"]

    @property
    def _file(self) -> Path:
        return self.folder / "run.json"

    def _place(self, piece: str) -> Path:
        return self.folder / hashlib.sha256(piece.encode()).hexdigest()[:16]

    def _write(self) -> None:
        said = {"kernel": self._identity, "status": self.status}
        self._file.write_text(json.dumps(said, indent=1), encoding="utf-8")

    def run(
        self, command: Sequence[str], pieces: Sequence[str]
    ) -> Generator[tuple[str, str], None, None]:
        """Run what is not done yet; each piece with the last line that it said."""
        open_ones = [piece for piece in pieces if self.status.get(piece) is None]
        if set(self.status) != set(pieces) or not open_ones:  # not the rest of this very run
            shutil.rmtree(self.folder, ignore_errors=True)
            self.status, open_ones = dict.fromkeys(pieces), list(pieces)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write()
        plugin = plugins.build("executed", self.folder / "plugins")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            work = {pool.submit(self._one, command, piece, plugin): piece for piece in open_ones}
            try:
                for done in as_completed(work):
                    self.status[work[done]], said = done.result()
                    self._write()
                    yield work[done], said
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _one(self, command: Sequence[str], piece: str, plugin: Path) -> tuple[int, str]:
        """Run one piece and leave one file of what its machines reached."""
        place = self._place(piece)
        shutil.rmtree(place, ignore_errors=True)  # half a piece, from before
        place.mkdir()
        env = {**os.environ, VARIABLE: f"{plugin}\n{self.kernel}\n{place}"}
        with place.with_suffix(".log").open("w+", encoding="utf-8", errors="replace") as log:
            words = [*command, *piece.split()]
            done = subprocess.run(
                words, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            )
            log.seek(0)
            said = log.read().strip().rpartition("\n")[2]
        reached = array("Q", sorted(executed(place.iterdir(), self._code)))
        place.with_suffix(".reached").write_bytes(reached.tobytes())
        shutil.rmtree(place)
        return done.returncode, said

    def reached(self) -> set[int]:
        """Addresses, also those of pieces that are at it."""
        found: set[int] = set()
        for piece in self.status:
            place = self._place(piece)
            if place.is_dir():
                found |= executed(place.iterdir(), self._code)
            elif (file := place.with_suffix(".reached")).exists():
                found.update(array("Q", file.read_bytes()))
        return found


def pieces_of(words: Sequence[str]) -> list[str]:
    """For folders and files each file of tests; all as one piece if there are options in it."""
    paths = [Path(word) for word in words]
    if not all(path.exists() for path in paths):
        return [" ".join(words)]
    return [
        str(file)
        for path in paths
        for file in (sorted(path.rglob("test_*.py")) if path.is_dir() else [path])
    ]


@dataclass(frozen=True)
class Coverage:
    """Lines with code by file: executed or not."""

    files: Mapping[str, Mapping[int, bool]]

    @property
    def total(self) -> int:
        """How many lines have code."""
        return sum(map(len, self.files.values()))

    @property
    def hit(self) -> int:
        """How many of them were executed."""
        return sum(sum(lines.values()) for lines in self.files.values())

    @property
    def percent(self) -> float:
        """Lines executed in percent."""
        return 100 * self.hit / self.total if self.total else 0.0


def measure(kernel: Path, addresses: set[int]) -> Coverage:
    """Map what was executed to lines. A line is executed if any of its instructions is."""
    image = Image(kernel)
    symbolizer = Symbolizer(Images([image]))
    code = code_range(image)
    files: dict[str, dict[int, bool]] = defaultdict(dict)
    starts = [s.address for s in image.symbols if s.code and s.address in code]
    functions = list(zip(starts, [*starts[1:], code.stop], strict=True))
    for start, stop in counted(functions, "functions to lines"):
        for instruction in image.disassemble(start, stop):
            source = symbolizer.line(instruction.address)
            if source:
                lines = files[source.file]
                done = instruction.address in addresses
                lines[source.line] = lines.get(source.line, False) or done
    return Coverage({name: dict(sorted(files[name].items())) for name in sorted(files)})


STYLE = (
    "body{font:14px system-ui;margin:2em}pre{margin:0}.y{background:#d7f0d7}.n{background:#f6c6c6}"
    "td{padding:0 1em}summary{cursor:pointer}"
)


def write_html(coverage: Coverage, path: Path) -> None:
    """One page: a table of the files, each file's source with its lines marked."""
    parts = [f"<!doctype html><meta charset=utf-8><title>coverage</title><style>{STYLE}</style>"]
    parts.append(f"<h1>{coverage.percent:.1f} % of {coverage.total} lines</h1>")
    for name, lines in coverage.files.items():
        done = sum(lines.values())
        parts.append(f"<details><summary>{done} of {len(lines)}: {html.escape(name)}</summary>")
        parts.append(f"<pre>{_source(Path(name), lines)}</pre></details>")
    path.write_text("\n".join(parts), encoding="utf-8")


def _source(file: Path, lines: Mapping[int, bool]) -> str:
    try:
        text = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "(source not found)"
    rows = []
    for number, line in enumerate(text, 1):
        mark = {True: "y", False: "n", None: ""}[lines.get(number)]
        rows.append(f'<span class="{mark}">{number:5} {html.escape(line)}</span>')
    return "\n".join(rows)


def never(coverage: Coverage) -> list[str]:
    """Ranges of lines that were never reached, `file:first-last`."""
    found = []
    for name, lines in coverage.files.items():
        first = last = None
        for number, done in [*lines.items(), (0, True)]:
            if not done:
                first, last = first or number, number
            elif first:
                found.append(f"{name}:{first}" + (f"-{last}" if last != first else ""))
                first = None
    return found


def _run(kernel: Path, folder: Path, words: Sequence[str]) -> int:
    at = words.index("--")
    run = Run(kernel, folder)
    for piece, said in run.run(words[:at], pieces_of(words[at + 1 :])):
        left = sum(status is None for status in run.status.values())
        print(f"{piece}: {said}; {left} to go", flush=True)
    return max((status or 0 for status in run.status.values()), default=0)


def _report(kernel: Path, folder: Path) -> int:
    run = Run(kernel, folder)
    coverage = measure(kernel, run.reached())
    write_html(coverage, folder / "index.html")
    print("\n".join(f"never reached: {place}" for place in never(coverage)))
    for piece, status in run.status.items():
        if status != 0:
            print(f"{'not done' if status is None else f'status {status}'}: {piece}")
    print(f"{coverage.percent:.1f} % of {coverage.total} lines; {folder}/index.html")
    return 0


def main(words: Sequence[str]) -> int:
    """See the module's text."""
    if words[:1] == ["run"] and "--" in words[4:]:
        return _run(Path(words[1]), Path(words[2]), words[3:])
    if words[:1] == ["report"] and len(words) == 3:
        return _report(Path(words[1]), Path(words[2]))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
