# SPDX-License-Identifier: MIT
"""A sweep as a whole: paths times events, over several processes, resumed where it stopped.

Each worker process has a machine of its own. Results go to a state file as they come; a campaign
that is started again with the same guest, paths and events goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.pool import Pool
from pathlib import Path as FilePath
from typing import Any

from onestack.errors import UsageError
from onestack.events import Event
from onestack.machine import check_qemu, die_with
from onestack.oracle import Outcome
from onestack.path import Boundary, Path, select
from onestack.results import merge
from onestack.sweep import Cell, Sweeper, Target
from onestack.symbolize import Symbolizer

CHUNK = 24  # boundaries that a worker takes at a time


@dataclass(frozen=True)
class Labels:
    """What distinguishes this guest in a table of several; the first two are our own kernel's."""

    entry: str = ""
    nmi: str = ""
    cores: int = 1


@dataclass(frozen=True)
class Part:
    """One path under one event, in one guest."""

    path: Path
    event: Event

    @property
    def key(self) -> str:
        """For the state file."""
        return f"{self.path.name}/{self.event.name}"


@dataclass
class PartResult:
    """What came of a part. `cells` are in the order of the path, which has `instructions`."""

    part: Part
    labels: Labels
    instructions: int
    cells: list[Cell] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)

    def outcomes(self) -> dict[str, int]:
        """How many boundaries had each outcome, in the outcomes' order."""
        counted = Counter(cell.outcome for cell in self.cells)
        return {outcome.value: counted[outcome] for outcome in Outcome if counted[outcome]}

    @property
    def unreached(self) -> list[Cell]:
        """Boundaries that could not be judged. They count nowhere."""
        return [cell for cell in self.cells if cell.outcome is None]

    @property
    def failures(self) -> list[Cell]:
        """Boundaries at which the guest did not survive."""
        return [c for c in self.cells if c.outcome not in (None, Outcome.SURVIVED)]


Listener = Callable[[Part, Cell], None]


class Campaign:
    """Parts to sweep on one target.

    `state` is the file to resume from, or None. `processes` workers are used, each with a QEMU.
    """

    def __init__(
        self,
        target: Target,
        parts: Sequence[Part],
        labels: Labels | None = None,
        *,
        state: FilePath | None = None,
        processes: int = 1,
        limit: int = 0,
    ) -> None:
        if not parts:
            raise UsageError("nothing to sweep")
        self.target = target
        self.parts = list(parts)
        self.labels = labels or Labels(cores=target.spec.cores)
        self.processes = processes
        self.limit = limit
        self.results: list[PartResult] = []
        self.resumed = 0
        self._boundaries: dict[str, list[Boundary]] = {}
        self._sweeper: Sweeper | None = None  # plan()'s, for run() to go on with
        self._state = _StateFile(state, self._digest()) if state else None

    def _digest(self) -> str:
        """Changes whenever old results do not hold any more."""
        total = hashlib.sha256()
        spec = self.target.spec
        for path in (*self.target.elfs, spec.kernel, spec.initrd, spec.cdrom, spec.disk):
            if path is not None:
                total.update(path.read_bytes())
        described = [repr(part) for part in self.parts]
        described += [check_qemu(spec.qemu), *spec.arguments()]
        described += [repr(fault) for fault in self.target.faults]
        described += [_callable_name(self.target.oracle), _callable_name(self.target.setup)]
        total.update("\n".join(described).encode())
        return total.hexdigest()

    # ---- the plan

    def plan(self, listener: Callable[[Part], None] | None = None) -> None:
        """Record all paths; makes `results`, filled with what the state file has.

        `listener` is told of each part that is done.
        """
        old = self._state.load() if self._state else {}
        recorded: dict[Path, tuple[list[Boundary], int, list[str]]] = {}
        with contextlib.ExitStack() as stack:
            sweeper = stack.enter_context(Sweeper(self.target))
            for part in self.parts:
                if part.path not in recorded:
                    sweeper.open(part.path, None)
                    visits = sweeper.record()
                    said = sweeper.assumptions(visits)
                    count = visits[-1].step + 1 if visits else 0
                    recorded[part.path] = (self._thin(select(visits)), count, said)
                boundaries, count, said = recorded[part.path]
                result = PartResult(part, self.labels, count, assumptions=said)
                for boundary in boundaries:
                    if cell := old.get((part.key, boundary.step, boundary.address)):
                        result.cells.append(Cell(boundary, *cell))
                        self.resumed += 1
                self.results.append(result)
                self._boundaries[part.key] = boundaries
                if listener:
                    listener(part)
            if self.processes == 1:
                stack.pop_all()
                self._sweeper = sweeper

    def _thin(self, boundaries: list[Boundary]) -> list[Boundary]:
        """With a limit: that many boundaries, spread evenly."""
        if not self.limit or len(boundaries) <= self.limit:
            return boundaries
        stride = len(boundaries) / self.limit
        return [boundaries[int(i * stride)] for i in range(self.limit)]

    def _tasks(self) -> list[tuple[int, list[Boundary]]]:
        """(part, boundaries) still to do, in chunks."""
        tasks = []
        for number, result in enumerate(self.results):
            done = {cell.boundary.step for cell in result.cells}
            todo = [b for b in self._boundaries[result.part.key] if b.step not in done]
            tasks += [(number, todo[i : i + CHUNK]) for i in range(0, len(todo), CHUNK)]
        return tasks

    @property
    def total(self) -> int:
        """How many boundaries there are in all parts, once planned."""
        return sum(map(len, self._boundaries.values()))

    # ---- the work

    def run(self, listener: Listener | None = None) -> list[PartResult]:
        """Do what is left; `listener` sees every new cell. The results, in the parts' order."""
        if not self.results:
            self.plan()
        for number, cell in self._cells(self._tasks()):
            result = self.results[number]
            result.cells.append(cell)
            if self._state:
                self._state.append(result.part.key, cell)
            if listener:
                listener(result.part, cell)
        for result in self.results:
            result.cells.sort(key=lambda cell: cell.boundary.step)
        return self.results

    def _cells(self, tasks: list[tuple[int, list[Boundary]]]) -> Iterator[tuple[int, Cell]]:
        workers = min(self.processes, len(tasks))
        if workers <= 1:
            with self._sweeper or Sweeper(self.target) as sweeper:
                self._sweeper = None
                worker = _Worker(sweeper, self.parts)
                for number, boundaries in tasks:
                    for boundary in boundaries:
                        yield number, worker.judge(number, boundary)
            return
        context = multiprocessing.get_context("spawn")
        pool: Pool
        # The workers are killed at the end, so what their machines leave behind lies in here.
        with tempfile.TemporaryDirectory(prefix="onestack-", ignore_cleanup_errors=True) as folder:
            arguments = (self.target, self.parts, os.getpid(), folder)
            with context.Pool(workers, _start_worker, arguments) as pool:
                for number, cells in pool.imap_unordered(_work, tasks):
                    for cell in cells:
                        yield number, cell


class _Worker:
    """A sweeper that opens parts as they are needed."""

    def __init__(self, sweeper: Sweeper, parts: Sequence[Part]) -> None:
        self._sweeper = sweeper
        self._parts = parts
        self._open: int | None = None

    def judge(self, number: int, boundary: Boundary) -> Cell:
        """Play the round of one boundary of a part."""
        if self._open != number:
            part = self._parts[number]
            self._sweeper.open(part.path, part.event)
            self._open = number
        return self._sweeper.judge(boundary)


_worker: _Worker | None = None


def _start_worker(target: Target, parts: Sequence[Part], parent: int, folder: str) -> None:
    """In a new process: die with the parent, leave Ctrl-C to it."""
    global _worker  # noqa: PLW0603  (a pool has no other place for it)
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tempfile.tempdir = folder
    _worker = _Worker(Sweeper(target), parts)


def _work(task: tuple[int, list[Boundary]]) -> tuple[int, list[Cell]]:
    number, boundaries = task
    assert _worker is not None
    return number, [_worker.judge(number, boundary) for boundary in boundaries]


def _callable_name(value: object) -> str:
    """A name that is the same in the next process; a default repr has an address in it."""
    if value is None or hasattr(value, "__qualname__"):
        return getattr(value, "__qualname__", "")
    inner = getattr(value, "func", None)  # functools.partial
    if inner is not None:
        return f"{_callable_name(inner)}{value.args!r}{value.keywords!r}"  # type: ignore[attr-defined]
    return type(value).__qualname__


class _StateFile:
    """Results so far, one JSON object a line; the first line says to what they belong."""

    def __init__(self, path: FilePath, digest: str) -> None:
        self._path = path
        self._digest = digest

    def load(self) -> dict[tuple[str, int, int], tuple[Outcome | None, str]]:
        """(part, step, address) -> (outcome, detail). Begins anew what belongs to something else.

        A last line that was cut short costs only itself; boundaries that were not reached are
        tried again.
        """
        rows = [row for row in self._rows() if row["outcome"] is not None]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row) for row in ({"digest": self._digest}, *rows)]
        self._path.write_text("\n".join(lines) + "\n")
        return {
            (row["part"], row["step"], row["address"]): (Outcome(row["outcome"]), row["detail"])
            for row in rows
        }

    def _rows(self) -> Iterator[dict[str, Any]]:
        """The good rows of the file, if it belongs to this campaign."""
        if not self._path.exists():
            return
        head, *lines = self._path.read_text().splitlines() or ["{}"]
        with contextlib.suppress(ValueError):
            if json.loads(head).get("digest") != self._digest:
                return
            for line in lines:
                yield json.loads(line)

    def append(self, part: str, cell: Cell) -> None:
        """Keep one result."""
        boundary = cell.boundary
        row = {
            "part": part,
            "step": boundary.step,
            "address": boundary.address,
            "outcome": cell.outcome,
            "detail": cell.detail,
        }
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")


# ---- results as files


def as_json(result: PartResult, symbolizer: Symbolizer) -> dict[str, Any]:
    """A part's entry in sweep.json."""
    judged = len(result.cells) - len(result.unreached)
    return {
        "name": result.part.path.name,
        "entry": result.labels.entry,
        "nmi": result.labels.nmi,
        "event": result.part.event.name,
        "cores": result.labels.cores,
        "boundaries": judged,
        "outcomes": {"survived": 0, **result.outcomes()},
        "failures": [
            {
                "address": f"{cell.boundary.address:#x}",
                "symbol": symbolizer.images.name(cell.boundary.address),
                "outcome": str(cell.outcome),
                "detail": cell.detail,
            }
            for cell in result.failures
        ],
    }


def cells_as_json(result: PartResult, symbolizer: Symbolizer) -> dict[str, Any]:
    """A part's entry in sweep.cells.json: every boundary, for the report."""
    entry = as_json(result, symbolizer)
    del entry["failures"]
    entry["instructions"] = result.instructions
    entry["assumptions"] = result.assumptions
    entry["cells"] = [_cell_as_json(cell, symbolizer) for cell in result.cells]
    return entry


def _cell_as_json(cell: Cell, symbolizer: Symbolizer) -> dict[str, Any]:
    boundary = cell.boundary
    instruction = symbolizer.images.instruction(boundary.address)
    place = symbolizer.place(boundary.address)
    context = asdict(boundary.context)
    return {
        "address": f"{boundary.address:#x}",
        "symbol": place.name,
        "source": str(place.source or ""),
        "text": instruction.text if instruction else "",
        "step": boundary.step,
        "hit": boundary.hit,
        "cpl": boundary.cpl,
        "if": boundary.interrupts,
        **{name: value for name, value in context.items() if value not in (None, "")},
        "outcome": str(cell.outcome or "unreached"),
        "detail": cell.detail,
    }


def write(
    results: Sequence[PartResult], symbolizer: Symbolizer, path: FilePath, qemu: str
) -> FilePath:
    """Write sweep.json and, beside it, sweep.cells.json; entries of other guests in them stay.

    An entry is replaced by a newer one with the same name, entry, nmi, event and cores. The path
    of the second file is returned.
    """
    cells = path.with_suffix(".cells.json")
    key = ("name", "entry", "nmi", "event", "cores")
    merge(path, qemu, "paths", [as_json(result, symbolizer) for result in results], key)
    merge(cells, qemu, "paths", [cells_as_json(result, symbolizer) for result in results], key)
    return cells
