# SPDX-License-Identifier: MIT
"""The interleaving sweep: two operations on two cores, in every order that counts.

Core A is frozen at one instruction of its operation. The conflicting operation runs on core B to
its end, or until it cannot go on without A; so do other cores of which it wants something. Then
all go on, and what has come of both is compared with what comes of one after the other. A race
of a check and its act shows at the instructions between the two, in each run; no luck is needed.

The operations are the agent's workers', held in user mode on their cores (agent.hold). A snapshot
of the machine in that state is where each round begins.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from abi import ERRORS as E
from agent import READY, Agent, AgentError, Result
from kernel_state import KernelState

from onestack.elf import Images
from onestack.errors import DeadlineError, GuestError
from onestack.gdbstub import Step
from onestack.machine import Machine, MachineSpec
from onestack.patch import PatchFault

TOP = Path(__file__).resolve().parents[2]
KERNEL = TOP / "build/tcb-ist-release/kernel.elf"
AGENT_CORE, CORE_A, CORE_B, CORE_C = range(4)
USER_END = 1 << 47
MAX_PATH = 20000  # instructions of an operation
PATIENCE = 20.0  # seconds for a core to get where it must
TURNS = 24  # of other cores, while A is frozen
KEEP = 2  # how many visits of an address are boundaries, from its first and from its last on

Observed = Mapping[str, object]
Outcome = tuple[tuple[str, object], ...]
Judge = Callable[[], Observed]
Plant = Callable[[Images], list[PatchFault]]


@dataclass(frozen=True)
class Job:
    """One side: a worker and what it is to do; `ipc` has options, else the call has arguments."""

    worker: int
    name: str
    arguments: tuple[int | str, ...] = ()
    ipc: bool = False


@dataclass(frozen=True)
class Scene:
    """What a race's setup has made: the two jobs, and a look at the outcome, through the agent."""

    a: Job
    b: Job
    judge: Judge


@dataclass(frozen=True)
class Race:
    """Two operations. `also` names outcomes that neither order gives and that are right, and why.

    Keys of an outcome: `a` and `b`, each its result or None if it is blocked, and what the judge
    adds. `also` says of some which value they may have, the others being as in one of the orders.
    """

    name: str
    setup: Callable[[Agent], Scene]
    also: tuple[Mapping[str, object], ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Boundary:
    """A place to freeze core A: an address, at its nth visit since the operation began."""

    address: int
    visit: int


@dataclass
class Report:
    """What a sweep of a race came to."""

    race: str
    orders: dict[str, Outcome]
    boundaries: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    failures: list[tuple[Boundary, str]] = field(default_factory=list)
    unreached: int = 0

    def told(self, images: Images) -> str:
        """The failures, for a person."""
        lines = [f"{self.race}: {self.boundaries} boundaries, {len(self.failures)} failures"]
        lines += [f"  {name}: {dict(outcome)}" for name, outcome in self.orders.items()]
        for boundary, text in self.failures:
            place = f"{images.name(boundary.address)} (visit {boundary.visit})"
            lines.append(f"  {place}: {text}")
        return "\n".join(lines)


def spec(cores: int = 4) -> MachineSpec:
    """The machine: one core for the agent, one each for A and B, the rest for partners."""
    return MachineSpec(
        kernel=KERNEL,
        initrd=TOP / "build/user/init.elf",
        append="run=agent",
        memory=48,
        cores=cores,
        snapshots=True,
        debug_exit=False,
    )


class Interleaver:
    """A machine in which races are played. Use it as a context manager."""

    def __init__(
        self, cores: int = 4, faults: Callable[[Images], list[PatchFault]] | None = None
    ) -> None:
        self.images = Images.load(KERNEL, TOP / "build/user/agent.elf")
        self.state = KernelState(KERNEL, self.images)
        self.cores = cores
        self._faults = faults
        kernel = self.images.images[0]
        resolve = self.images.resolve
        self.pauses = frozenset(
            instruction.address
            for start, code in kernel.code()
            for instruction in kernel.disassemble(start, start + len(code))
            if instruction.mnemonic == "pause"
        )
        self.idle = resolve("idle_hlt")
        self.exits = frozenset({resolve("exit_iret_leave"), resolve("exit_sysret_leave")})
        self.finished = resolve("job_finished")

    def __enter__(self) -> Interleaver:
        """Boot, and keep the state."""
        self.machine = Machine(spec(self.cores))
        try:
            self.machine.console.expect(READY, 60.0)
            self.machine.pause()
            if self._faults:
                for fault in self._faults(self.images):
                    fault.apply(self.machine, self.images)
            self.machine.save("ready")
        except BaseException:
            self.machine.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """End the machine."""
        self.machine.close()

    # ---- one race

    def _load(self, name: str) -> None:
        machine = self.machine
        if machine.gdb.running:
            machine.pause()
        machine.gdb.change_breakpoints(frozenset())
        machine.load(name)
        machine.console.forget()

    def open(self, race: Race) -> None:
        """Set the scene, hold both, keep the state."""
        self._load("ready")
        self.machine.resume()
        self.agent = Agent(self.machine)
        self.before = self.agent.free()
        self.scene = race.setup(self.agent)
        self.holds = {}
        for job in (self.scene.a, self.scene.b):
            self.holds[job.worker] = self.agent.hold(job.worker)
            self._start(job)
        self.machine.pause()
        self.machine.save("scene")

    def _start(self, job: Job) -> None:
        words = tuple(map(str, job.arguments))
        line = f"{'ipc' if job.ipc else 'sys'} {job.worker} {job.name} " + " ".join(words)
        if self.agent.ask(line) != "blocked":
            raise AgentError(f"{line}: it was not held")

    def _release(self, job: Job, cpu: int) -> None:
        self.machine.gdb.write(self.holds[job.worker], bytes(4), cpu)

    def _observe(self) -> Outcome:
        """Let everything come to rest; what both got, and what the judge sees."""
        a, b = (self._result(self.agent.poll(job.worker)) for job in (self.scene.a, self.scene.b))
        a = self._result(self.agent.poll(self.scene.a.worker))  # the other may have ended its wait
        seen = {"a": a, "b": b, **self.scene.judge()}
        return tuple(sorted(seen.items()))

    @staticmethod
    def _result(result: Result | None) -> object:
        """A capability that is going may be found gone, or its object dying: both are right."""
        if result is not None and result.value in (E["BADCAP"], E["DEAD"]):
            return "gone"
        return None if result is None else result.value

    def order(self, first: str) -> Outcome:
        """One after the other."""
        self._load("scene")
        sides = {"a": (self.scene.a, CORE_A), "b": (self.scene.b, CORE_B)}
        for side in (first, "ab".replace(first, "")):
            self._release(*sides[side])
            self.machine.gdb.cont()
            self.agent.poll(sides[side][0].worker)
            self.machine.pause()
        self.machine.gdb.cont()
        return self._observe()

    def path(self) -> list[Boundary]:
        """The instructions of A's operation on its core, alone but where it waits for others."""
        self._load("scene")
        gdb = self.machine.gdb
        self._release(self.scene.a, CORE_A)
        self._run(CORE_A, {self._entry(CORE_A)})
        gdb.set_step_mode(Step.HOLD_ALL)
        visits: Counter[int] = Counter()
        path: list[Boundary] = []
        at = self._entry(CORE_A)
        while at >= USER_END and at != self.idle and len(path) < MAX_PATH:
            if not path or path[-1].address != at:  # a repeated string instruction counts once
                visits[at] += 1
                path.append(Boundary(at, visits[at]))
            if at in self.pauses:
                self._others(b_too=False)
            gdb.step(CORE_A)
            at = gdb.registers(CORE_A).pc
        return [
            boundary
            for boundary in path
            if boundary.address not in self.pauses
            and (boundary.visit <= KEEP or boundary.visit > visits[boundary.address] - KEEP)
        ]

    def _entry(self, cpu: int) -> int:
        return self.images.resolve(f"syscall_entry_{cpu}")

    def play(self, boundary: Boundary) -> Outcome | None:
        """A to the boundary, B to its end, A on. None if A does not come by there this time."""
        self._load("scene")
        self._release(self.scene.a, CORE_A)
        if not self._to(boundary):
            return None
        self._release(self.scene.b, CORE_B)
        self._others(b_too=True)
        self.machine.gdb.change_breakpoints(frozenset())
        self.machine.gdb.cont()
        return self._observe()

    def _to(self, boundary: Boundary) -> bool:
        """Run core A alone up to a boundary."""
        stops = {boundary.address, self.finished, self.idle} | self.pauses
        left = boundary.visit
        while True:
            at = self._run(CORE_A, stops)
            left -= at == boundary.address
            if left == 0:
                return True
            if at in (self.finished, self.idle):
                return False
            if at in self.pauses:
                self._others(b_too=False)

    def _run(self, cpu: int, stops: set[int]) -> int:
        """Let one core run alone until it is at one of these; past that where it stands."""
        gdb = self.machine.gdb
        if gdb.registers(cpu).pc in stops:
            gdb.change_breakpoints(frozenset())
            gdb.step(cpu)
            at = gdb.registers(cpu).pc
            if at in stops:
                return at
        gdb.change_breakpoints(frozenset(stops))
        gdb.cont(cpu)
        try:
            gdb.wait_stop(PATIENCE, f"a stop of CPU {cpu}")
        except DeadlineError as error:
            self.machine.pause()
            where = self.images.name(gdb.registers(cpu).pc)
            raise DeadlineError(f"CPU {cpu} alone does not stop; it is at {where}") from error
        return gdb.registers(cpu).pc

    def _wanted(self, cpu: int) -> bool:
        """Whether a core goes on by itself: it is in the kernel, or an interrupt waits for it."""
        at = self.machine.gdb.registers(cpu).pc
        if at >= USER_END and not self.idle <= at <= self.idle + 1:
            return at not in self.exits
        return re.search(r"IRR\s+\d", self.machine.qmp.hmp(f"info lapic {cpu}")) is not None

    def _others(self, *, b_too: bool) -> None:
        """Let all but core A run until none of them can go on without it."""
        stops = self.pauses | self.exits | {self.idle, self.finished}
        busy = b_too  # B has its operation to begin
        for _ in range(TURNS):
            moved = False
            for cpu in range(self.cores):
                if cpu == CORE_A or not ((busy and cpu == CORE_B) or self._wanted(cpu)):
                    continue
                moved = True
                ends = stops - (self.exits if busy and cpu == CORE_B else set())
                at = self._run(cpu, set(ends))
                if cpu == CORE_B and at in (self.finished, self.idle):
                    busy = False
            if not moved:
                return

    # ---- all of it

    def representative(self, path: list[Boundary], count: int) -> list[Boundary]:
        """So many of a path: behind its atomic instructions, where cores agree on something."""
        kernel = self.images.images[0]
        behind = []
        for before, boundary in itertools.pairwise(path):
            code = next(iter(kernel.disassemble(before.address, before.address + 15)), None)
            if code and (code.mnemonic == "xchg" or code.mnemonic.startswith("lock")):
                behind.append(boundary)
        return spread(behind or path, count)

    def sweep(self, race: Race, limit: int = 0, within: tuple[str, ...] = ()) -> Report:
        """All boundaries of a race, or those in some functions, or `limit` that represent them."""
        self.open(race)
        report = Report(race.name, {"a then b": self.order("a"), "b then a": self.order("b")})
        right = set(report.orders.values())
        path = self.path()
        chosen = self.representative(path, limit) if limit else path
        if within:
            names = [self.images.name(boundary.address).partition("+")[0] for boundary in path]
            chosen = [one for one, name in zip(path, names, strict=True) if name in within]
        report.boundaries = len(chosen)
        for boundary in chosen:
            try:
                outcome = self.play(boundary)
            except (GuestError, DeadlineError, AgentError) as error:
                report.failures.append((boundary, f"{type(error).__name__}: {error}"))
                if not self.machine.alive:
                    break
                continue
            if outcome is None:
                report.unreached += 1
                continue
            report.outcomes[outcome] += 1
            if outcome not in right and not also_right(outcome, right, race):
                report.failures.append((boundary, str(dict(outcome))))
        return report


def also_right(outcome: Outcome, right: set[Outcome], race: Race) -> bool:
    """Whether an outcome is one of the race's own exceptions."""
    seen = dict(outcome)
    for exception in race.also:
        if all(seen.get(key) == value for key, value in exception.items()):
            rest = {key: value for key, value in seen.items() if key not in exception}
            if any(all(dict(order).get(k) == v for k, v in rest.items()) for order in right):
                return True
    return False


def spread(path: list[Boundary], count: int) -> list[Boundary]:
    """So many of a path's boundaries, evenly."""
    if len(path) <= count:
        return path
    return [path[i * (len(path) - 1) // (count - 1)] for i in range(count)]
