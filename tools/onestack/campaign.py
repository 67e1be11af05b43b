# SPDX-License-Identifier: MIT
"""A sweep as a whole: paths times events, over several processes, resumed where it stopped.

Each worker process has a machine of its own. What was recorded and judged goes to a state file as
it comes; a campaign that is started again with the same guest goes on from there, with whatever
paths and events it is asked for this time.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path as FilePath
from typing import Any

from onestack.crew import Crew, LostError
from onestack.errors import OnestackError, UsageError
from onestack.events import Event
from onestack.machine import check_qemu
from onestack.oracle import Outcome
from onestack.path import Boundary, Context, Path, select
from onestack.sweep import Cell, Sweeper
from onestack.target import Target

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
    """What came of a part. `cells` are in the order of the path, which has `instructions`.

    `total` is how many boundaries the path has: more than cells, if a sample was struck.
    """

    part: Part
    labels: Labels
    instructions: int
    total: int = 0
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


@dataclass(frozen=True)
class Recording:
    """A path as it was stepped once: where to strike, how long it is, what is assumed on it."""

    boundaries: tuple[Boundary, ...]
    instructions: int
    assumptions: tuple[str, ...]


class Campaign:
    """Parts to sweep on one target.

    `state` is the file to resume from, or None. `processes` workers are used, each with a QEMU.
    With `keep_going`, what cannot be recorded is left out, and `problems` says why; else it raises.
    Of each part's boundaries every `every`th is struck, beginning at another one for each event,
    and no more than `limit` (0: all), spread evenly.
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
        every: int = 1,
        keep_going: bool = False,
    ) -> None:
        if not parts:
            raise UsageError("nothing to sweep")
        if every < 1:
            raise UsageError(f"every {every}th boundary?", "1 is all of them")
        self.target = target
        self.parts = list(parts)
        self.labels = labels or Labels(cores=target.spec.cores)
        self.limit = limit
        self.every = every
        self.results: list[PartResult] = []
        self.resumed = 0
        self.problems: dict[str, str] = {}  # by path
        self._keep_going = keep_going
        self._boundaries: dict[str, list[Boundary]] = {}
        self._crew = _Crew(target, self.parts, processes)
        self._state = _StateFile(state, self._digest()) if state else None

    def _digest(self) -> str:
        """Changes whenever old results do not hold any more."""
        total = hashlib.sha256()
        spec = self.target.spec
        for path in (*self.target.elfs, spec.kernel, spec.initrd, spec.cdrom, spec.disk):
            if path is not None:
                total.update(path.read_bytes())
        described = [check_qemu(spec.qemu), *spec.arguments()]
        described += [repr(fault) for fault in self.target.faults]
        described += [_callable_name(self.target.oracle), _callable_name(self.target.setup)]
        described += [_source_of(self.target.oracle), _source_of(self.target.setup)]
        total.update("\n".join(described).encode())
        return total.hexdigest()

    # ---- the plan

    def plan(self, listener: Callable[[Path], None] | None = None) -> None:
        """Record all paths; makes `results`, filled with what the state file has.

        `listener` is told of each path that is recorded now.
        """
        known = self._state.load() if self._state else _Known()
        paths = dict.fromkeys(part.path for part in self.parts)
        recorded = {
            path: known.recorded[_id(path)] for path in paths if _id(path) in known.recorded
        }
        missing = [path for path in paths if path not in recorded]
        try:
            for number, recording in self._crew.record(missing):
                self._take_recording(missing[number], recording, recorded)
                if listener:
                    listener(missing[number])
        except BaseException:  # else they wait for run(), which goes on with them
            self._crew.close()
            raise
        self.results, self.resumed = [], 0
        for number, part in enumerate(self.parts):
            if part.path in recorded:
                self._plan_part(number, recorded[part.path], known)

    def _take_recording(
        self, path: Path, made: Recording | OnestackError, recorded: dict[Path, Recording]
    ) -> None:
        if isinstance(made, OnestackError):
            if not self._keep_going:
                raise made
            self.problems[path.name] = str(made)
            return
        recorded[path] = made
        if self._state:
            self._state.keep_recording(_id(path), made)

    def _plan_part(self, number: int, recording: Recording, known: _Known) -> None:
        part = self.parts[number]
        said = list(recording.assumptions)
        total = len(recording.boundaries)
        result = PartResult(part, self.labels, recording.instructions, total, assumptions=said)
        boundaries = self._thin(part, list(recording.boundaries))
        for boundary in boundaries:
            if judged := known.judged.get((_id(part), boundary.step, boundary.address)):
                result.cells.append(Cell(boundary, *judged))
                self.resumed += 1
        self.results.append(result)
        self._boundaries[part.key] = boundaries

    def _thin(self, part: Part, boundaries: list[Boundary]) -> list[Boundary]:
        """Every n-th; then with a limit that many, spread evenly."""
        first = zlib.crc32(part.event.name.encode()) % min(self.every, len(boundaries) or 1)
        boundaries = boundaries[first :: self.every]
        if not self.limit or len(boundaries) <= self.limit:
            return boundaries
        stride = len(boundaries) / self.limit
        return [boundaries[int(i * stride)] for i in range(self.limit)]

    def _tasks(self) -> list[tuple[int, list[Boundary]]]:
        """(part, boundaries) still to do, in chunks."""
        tasks = []
        numbers = {id(part): number for number, part in enumerate(self.parts)}
        for result in self.results:
            number = numbers[id(result.part)]
            done = {cell.boundary.step for cell in result.cells}
            todo = [b for b in self._boundaries[result.part.key] if b.step not in done]
            tasks += [(number, todo[i : i + CHUNK]) for i in range(0, len(todo), CHUNK)]
        return tasks

    @property
    def total(self) -> int:
        """How many boundaries there are in all parts, once planned."""
        return sum(map(len, self._boundaries.values()))

    # ---- the work

    @property
    def pids(self) -> list[int]:
        """Of the worker processes that there are."""
        return self._crew.pids

    def run(self, listener: Listener | None = None) -> list[PartResult]:
        """Do what is left; `listener` sees every new cell. The results, in the parts' order.

        If it is interrupted, `results` has what there is.
        """
        try:
            if not self.results and not self.problems:
                self.plan()
            planned = {id(result.part): result for result in self.results}
            for number, cell in self._crew.judge(self._tasks()):
                result = planned[id(self.parts[number])]
                result.cells.append(cell)
                if self._state:
                    self._state.keep_cell(_id(result.part), cell)
                if listener:
                    listener(result.part, cell)
        finally:
            self._crew.close()
            for result in self.results:
                result.cells.sort(key=lambda cell: cell.boundary.step)
        return self.results


class _Crew:
    """Who does the work: this process, or several others. Begins when it is first needed."""

    def __init__(self, target: Target, parts: Sequence[Part], processes: int) -> None:
        self._make = partial(_Worker, target, list(parts))
        self._others = Crew(self._make, processes) if processes > 1 else None
        self._single: _Worker | None = None

    def _map(self, name: str, tasks: Sequence[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """(number, what that method of a worker makes of it) of each task."""
        if self._others:
            yield from self._others.map(name, tasks)
            return
        for number, task in tasks:
            self._single = self._single or self._make()
            yield number, getattr(self._single, name)(number, task)

    @property
    def pids(self) -> list[int]:
        """Of the others."""
        return self._others.pids if self._others else []

    def record(self, paths: Sequence[Path]) -> Iterator[tuple[int, Recording | OnestackError]]:
        """Step each path; what it comes to, or why it cannot be stepped."""
        return self._map("record", list(enumerate(paths)))

    def judge(self, tasks: Sequence[tuple[int, list[Boundary]]]) -> Iterator[tuple[int, Cell]]:
        """Play each boundary's round."""
        if not self._others:  # one at a time, told as they come
            tasks = [(number, [boundary]) for number, part in tasks for boundary in part]
        numbered = [(place, task) for place, task in enumerate(tasks)]
        for place, made in self._map("judge", numbered):
            number, boundaries = tasks[place]
            lost = isinstance(made, LostError)
            cells = [Cell(each, None, str(made)) for each in boundaries] if lost else made
            for cell in cells:
                yield number, cell

    def close(self) -> None:
        """End machines and processes."""
        if self._others:
            self._others.close()
        if self._single is not None:
            self._single.close()
            self._single = None


class _Worker:
    """A sweeper that opens parts as they are needed."""

    def __init__(self, target: Target, parts: Sequence[Part]) -> None:
        self._sweeper = Sweeper(target)
        self._parts = parts
        self._open: int | None = None

    def record(self, number: int, path: Path) -> Recording | OnestackError:
        """Step a path once, or return why that does not work."""
        del number
        self._open = None
        try:
            self._sweeper.open(path, None)
            visits = self._sweeper.record()
        except OnestackError as error:
            self._sweeper.close()
            return error
        count = visits[-1].step + 1 if visits else 0
        said = self._sweeper.assumptions(visits)
        return Recording(tuple(select(visits)), count, tuple(said))

    def judge(self, place: int, task: tuple[int, Sequence[Boundary]]) -> list[Cell]:
        """Play the rounds of boundaries of a part."""
        del place
        number, boundaries = task
        if self._open != number:
            part = self._parts[number]
            self._sweeper.open(part.path, part.event)
            self._open = number
        return [self._sweeper.judge(boundary) for boundary in boundaries]

    def close(self) -> None:
        """End the machine."""
        self._sweeper.close()


def _callable_name(value: object) -> str:
    """A name that is the same in the next process; a default repr has an address in it."""
    if value is None or hasattr(value, "__qualname__"):
        return getattr(value, "__qualname__", "")
    inner = getattr(value, "func", None)  # functools.partial
    if inner is not None:
        return f"{_callable_name(inner)}{value.args!r}{value.keywords!r}"  # type: ignore[attr-defined]
    return type(value).__qualname__


def _source_of(value: object) -> str:
    """The text of the file that a callable comes from: who judges by other rules is another."""
    inner = getattr(value, "func", value)
    module = sys.modules.get(getattr(inner, "__module__", None) or type(inner).__module__)
    try:
        return inspect.getsource(module) if module else ""
    except (OSError, TypeError):
        return ""


def _id(what: Part | Path) -> str:
    """For the state file: changes with anything that the part or path is made of."""
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


@dataclass
class _Known:
    """What a state file holds: recordings by path, (outcome, detail) by part, step and address."""

    recorded: dict[str, Recording] = field(default_factory=dict)
    judged: dict[tuple[str, int, int], tuple[Outcome | None, str]] = field(default_factory=dict)


class _StateFile:
    """Results so far, one JSON object a line; the first line says to what they belong."""

    def __init__(self, path: FilePath, digest: str) -> None:
        self._path = path
        self._digest = digest

    def load(self) -> _Known:
        """What there is. Begins anew what belongs to something else.

        A last line that was cut short costs only itself; boundaries that were not reached are
        tried again.
        """
        known = _Known()
        rows = []
        for row in self._rows():
            if "path" in row:
                boundaries = tuple(_boundary(values) for values in row["boundaries"])
                known.recorded[row["path"]] = Recording(
                    boundaries, row["instructions"], tuple(row["assumptions"])
                )
            elif row["outcome"] is not None:
                place = (row["part"], row["step"], row["address"])
                known.judged[place] = (Outcome(row["outcome"]), row["detail"])
            else:
                continue
            rows.append(row)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row) for row in ({"digest": self._digest}, *rows)]
        self._path.write_text("\n".join(lines) + "\n")
        return known

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

    def _append(self, row: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def keep_recording(self, path: str, recording: Recording) -> None:
        """Keep a path's boundaries, so that it is not stepped again."""
        self._append(
            {
                "path": path,
                "instructions": recording.instructions,
                "assumptions": recording.assumptions,
                "boundaries": [list(asdict(b).values()) for b in recording.boundaries],
            }
        )

    def keep_cell(self, part: str, cell: Cell) -> None:
        """Keep one result."""
        boundary = cell.boundary
        self._append(
            {
                "part": part,
                "step": boundary.step,
                "address": boundary.address,
                "outcome": cell.outcome,
                "detail": cell.detail,
            }
        )


def _boundary(values: Any) -> Boundary:
    """From the values of its fields, of which the context is the last."""
    step, address, hit, sp, cpl, interrupts, context = values
    return Boundary(step, address, hit, sp, cpl, interrupts, Context(**context))
