# SPDX-License-Identifier: MIT
"""Inject at each boundary of a path and judge what becomes of the guest: one machine's part.

A round starts at the path's start and ends there. It goes to one boundary, injects, checks that
each injection enters its handler, asks the oracle, and runs on to the start. Only when the guest
has not survived is its state restored from a snapshot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from onestack.cpu import cpu_state, gate_address
from onestack.deadline import Deadline
from onestack.elf import Images
from onestack.errors import DeadlineError, GuestError, OnestackError
from onestack.events import Event, Shot
from onestack.gdbstub import Step
from onestack.inject import NMI
from onestack.machine import Machine
from onestack.oracle import SURVIVED, Oracle, Outcome, Verdict, View, verdict_of
from onestack.patch import INT3, PatchFault
from onestack.path import (
    SKIP_OVER,
    Boundary,
    Marks,
    Path,
    PathError,
    begin,
    record,
    skip_repeats,
    steps,
)
from onestack.registers import Registers
from onestack.target import Target

START_TIMEOUT = 60.0  # seconds to come to a path's start the first time
REFERENCE_ROUNDS = 3
FIRST_LOOK = 0.05  # seconds after which a CPU that has not stopped is looked at; then doubled
ATTEMPTS = 2
DETOURS = 16  # rounds in which a path may go another way, until the boundary is come to otherwise
STEPPED = 8  # times the path is stepped to a boundary that has not come by itself
EARLIER = "struck at visit {}, for visit {} did not come"
MAX_STOPS = 200  # between an event and the path's end; who comes by more often goes in circles


@dataclass(frozen=True)
class Cell:
    """What one boundary's round came to. Without a verdict it could not be judged: `detail`."""

    boundary: Boundary
    outcome: Outcome | None
    detail: str = ""


class UnreachedError(OnestackError):
    """A round did not come to its boundary: the path went another way this time.

    `hits` is how many visits of its instruction there were, with the same marks.
    """

    def __init__(self, message: str, hits: int = 0) -> None:
        super().__init__(message)
        self.hits = hits


class _HangError(Exception):
    """The guest does not come to any of the places where it is expected: it hangs or has halted."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.detail)
        self.verdict = verdict


class Sweeper:
    """A machine that plays rounds. Use it as a context manager; open() a path and event first."""

    path: Path
    event: Event | None
    oracle: Oracle
    machine: Machine

    def __init__(self, target: Target) -> None:
        self.target = target
        self.images = Images.load(*target.elfs)
        self.probe = target.probe(self.images)
        self.restores = 0
        self._stack = contextlib.ExitStack()
        self._ready_for: object = None
        self._opened: Path | None = None
        self.event = None
        self._registers: Registers | None = None
        self._start = 0
        self._ends: frozenset[int] = frozenset()
        self._gates: dict[int, int] = {}
        self._begins: Marks | None = None  # the start's, of the thread whose path it is
        self._entry: int | None = None  # where the path's stimulus arrives

    def __enter__(self) -> Sweeper:
        """Return the sweeper; the machine is started by open()."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the machine."""
        self.close()

    def close(self) -> None:
        """End the machine; open() starts another."""
        self._stack.close()
        self._ready_for = self._opened = None

    # ---- to the start

    def open(self, path: Path, event: Event | None) -> None:
        """Prepare for rounds: boot, come to the path's start, plant faults, save, learn.

        For another event on the path that is open, there is nothing to do but to find its handlers,
        unless something is planted for one of them.
        """
        plants = any(each is not None and each.plant for each in (self.event, event))
        again = self._opened == path and not plants and self.machine.alive
        self.path, self.event = path, event
        if again:
            self._find_gates()
            return
        self._opened = None
        self._start = self.images.resolve(path.start)
        self._ends = frozenset(self.images.resolve(end) for end in path.end)
        self._boot()
        self._warm_up()
        self._check_code()
        for fault in self.target.faults:
            fault.apply(self.machine, self.images, path.cpu)
        if event and event.plant:
            over = event.planted_over
            planted = PatchFault("planted breakpoint", event.plant, INT3, expect=over, length=1)
            planted.apply(self.machine, self.images, path.cpu)
        self._find_gates()
        self._entry = None
        if path.stimulus:
            self._entry = gate_address(self.machine, path.stimulus.vector(self.machine), path.cpu)
        self.machine.save("start")
        self._registers = self.machine.gdb.registers(path.cpu)
        self.oracle = self.target.oracle(self.images)
        if path.undisturbed:
            for _ in range(REFERENCE_ROUNDS):
                self._undisturbed()
        self._opened = path

    def _warm_up(self) -> None:
        """Pass the path's start some times; notes how the visits of it look that begin a round.

        With `after` another thread may come between there and the start: a timer's interrupt that
        strikes at `after` is enough. So they go on until two visits running are alike.
        """
        path, seen = self.path, None
        for passed in range(1 + self.target.warm_up + DETOURS):
            if path.after:
                self.machine.run_to(self.images.resolve(path.after), START_TIMEOUT, cpu=path.cpu)
            self.machine.run_to(self._start, START_TIMEOUT, cpu=path.cpu)
            before, seen = seen, Marks.of(self.machine.gdb.registers(path.cpu))
            if passed >= self.target.warm_up and (seen == before or not path.after):
                break
        self._begins = seen

    def _find_gates(self) -> None:
        """The handlers that the event enters."""
        self._gates = {}
        if self.event:
            vectors = {shot.what.vector(self.machine) for shot in self.event.shots}
            vectors |= {shot.on for shot in self.event.shots if shot.on is not None}
            self._gates = {v: gate_address(self.machine, v, self.path.cpu) for v in vectors}

    def _check_code(self) -> None:
        """PathError if the guest runs other code at the path's start than the files say."""
        image = self.images.image_at(self._start)
        wanted = image.bytes_at(self._start, 16) if image else b""
        if image and self.machine.gdb.read(self._start, len(wanted), self.path.cpu) != wanted:
            where = self.images.name(self._start)
            raise PathError(
                f"the guest has other code at {where} than {image.path}",
                "Is it another build, or does the kernel move itself (KASLR)?",
            )

    def assumptions(self, visits: Sequence[Boundary]) -> list[str]:
        """What is taken for granted on the path, and what cannot be judged, in sentences."""
        said = ["time is the count of instructions: no timer interrupts where none did before"]
        if self.target.spec.icount is None:
            said = ["time is real: an interrupt may come into a path that had none"]
        if self.target.spec.cores > 1:
            said.append(f"events strike CPU {self.path.cpu}; the others run on meanwhile")
        foreign = sum(self.images.image_at(visit.address) is None for visit in visits)
        if foreign:
            said.append(
                f"{foreign} of {len(visits)} instructions are in no ELF file: shown as addresses"
            )
        if not self.path.undisturbed:
            return [*said, "no round goes undisturbed: nothing to compare with"]
        return [*said, *self.oracle.assumptions()]

    def _boot(self) -> None:
        """A machine in the state `ready`, running or stopped."""
        wanted = self.path if self.target.setup else None
        if self._ready_for == (wanted,) and self.machine.alive:
            self._restore("ready")
            return
        self.close()
        self.machine = self._stack.enter_context(Machine(self.target.spec))
        if self.target.ready:
            self.machine.console.expect(self.target.ready, START_TIMEOUT)
        if self.target.setup:
            self.target.setup(self.machine, self.images, self.path)
        self.machine.pause()
        self.machine.save("ready")
        self._ready_for = (wanted,)

    def _restore(self, name: str) -> None:
        machine = self.machine
        if machine.gdb.running:
            machine.pause()
        machine.gdb.change_breakpoints(frozenset())
        machine.load(name)
        machine.console.forget()
        self._registers = machine.gdb.registers(self.path.cpu)
        self.restores += 1

    def _recover(self) -> None:
        """Back to the path's start after a round that did not come there."""
        try:
            if self.machine.alive:
                self._restore("start")
                return
        except OnestackError:
            pass  # it was beyond loading: start anew
        self.close()
        self.open(self.path, self.event)

    def record(self) -> list[Boundary]:
        """Step the path once; all its visits. Stands at the start afterwards."""
        visits = record(self.machine, self.images, self.path, self.probe)
        self._restore("start")
        return visits

    # ---- run control

    def _go(self, wanted: frozenset[int], *, exact: bool = False) -> Registers:
        """Run until the path's CPU is at one of `wanted`, not counting where it stands.

        With `exact` something pending is to strike right here: no step is taken first, and a
        breakpoint here is withheld.
        """
        gdb, cpu = self.machine.gdb, self.path.cpu
        assert self._registers is not None
        here = self._registers.pc
        if here in wanted and not exact:
            gdb.change_breakpoints(wanted - {here})
            gdb.set_step_mode(Step.HOLD_ALL)
            gdb.step(cpu)
            self._registers = gdb.registers(cpu)
            if self._registers.pc in wanted:
                return self._registers
        gdb.change_breakpoints(wanted - {here} if exact else wanted)
        while True:
            gdb.cont()
            stopped = self._wait()
            if stopped == cpu:
                self._registers = gdb.registers(cpu)
                return self._registers
            self.machine.pass_by(stopped)

    def _wait(self) -> int:
        """Wait for a stop; the CPU that stopped. _HangError if there is none for too long."""
        gdb = self.machine.gdb
        patience = Deadline(self.target.patience)
        look, asleep = FIRST_LOOK, None
        while True:
            try:
                return gdb.wait_stop(min(look, patience.remaining or 0.001)).cpu
            except DeadlineError:
                pass
            look *= 2
            halted = cpu_state(self.machine, self.path.cpu).halted
            if not halted and not patience.expired:
                asleep = None
                continue
            stop = gdb.interrupt()
            if stop.signal not in (0, 2):
                return stop.cpu  # a breakpoint was quicker
            registers = gdb.registers(self.path.cpu)
            self._judge_sleep(registers, halted=halted, again=registers.pc == asleep)
            if patience.expired:
                where = self.images.name(registers.pc)
                raise _HangError(Verdict(Outcome.HANG, f"runs on at {where}"))
            asleep = registers.pc
            gdb.cont()

    def _judge_sleep(self, registers: Registers, *, halted: bool, again: bool) -> None:
        """Raise _HangError if the CPU sleeps for good."""
        if halted and not registers.interrupts:
            where = self.images.name(registers.pc)
            raise _HangError(Verdict(Outcome.PANIC, f"halted with IF=0 at {where}"))
        if halted and again:
            raise _HangError(self.oracle.halted(self._view, registers))

    # ---- rounds

    def _undisturbed(self) -> None:
        """A round without an event, from which the oracle learns."""
        self._view = View(self.machine, self.path)
        self._registers = begin(self.machine, self.images, self.path, self._entry)
        try:
            self.oracle.learn(self._view, self._go(self._ends))
            fault = self._to_start()
        except _HangError as hang:
            fault = hang.verdict
        if fault is not None:
            raise PathError(f"path {self.path.name}, undisturbed: {fault.detail}")

    def _to_start(self) -> Verdict | None:
        """Run on to the path's start, unless the oracle finds a fault on the way.

        Not to another thread's visit of it (_warm_up): that is on another path.
        """
        passed_after = not self.path.after
        after = self.images.resolve(self.path.after) if self.path.after else 0
        strangers = 0
        while strangers <= DETOURS:
            assert self._registers is not None
            if passed_after and self._registers.pc == self._start:
                if not self.path.after or Marks.of(self._registers) == self._begins:
                    return None
                passed_after = False
                strangers += 1
            asked = self.oracle.stops(self._view)
            registers = self._go(asked | {self._start if passed_after else after})
            if registers.pc == after and not passed_after:
                passed_after = True
            elif registers.pc in asked:
                verdict = self.oracle.stop(self._view, registers)
                if verdict is not None:
                    return verdict
        raise PathError(f"path {self.path.name}: others come to its start, {strangers} times")

    def _reach(self, boundary: Boundary) -> None:
        """From the start to a boundary."""
        registers = begin(self.machine, self.images, self.path, self._entry)
        self._registers = registers
        hits = 0
        first = True
        left = 0  # repetitions of a string instruction at the stop before, if it was at this one
        while True:
            marks = Marks.of(registers)
            hits += marks == boundary.marks
            if marks == boundary.marks and hits == boundary.hit:
                return
            if not first and registers.pc in self._ends:
                raise UnreachedError(f"the path ended before visit {boundary.hit} of it", hits)
            first = False
            missing = boundary.hit - hits
            goes_on = marks == boundary.marks and registers["rcx"] == left - 1  # without a fault
            left = registers["rcx"] if marks == boundary.marks else 0
            if goes_on and missing > SKIP_OVER:
                hits += self._skip_repeats(registers, missing - 1)
                left = 0
            registers = self._go(self._ends | {boundary.address})

    def _reach_by_steps(self, boundary: Boundary) -> None:
        """From the start to a boundary as when the path was recorded: step by step.

        What other cores bring, mail and memory to be freed, comes in time then, for they run far
        between two steps.
        """
        for _, registers, hit in steps(self.machine, self.images, self.path, self._entry):
            self._registers = registers
            if Marks.of(registers) == boundary.marks and hit == boundary.hit:
                return
        self._registers = self.machine.gdb.registers(self.path.cpu)
        raise UnreachedError(f"not in {DETOURS} rounds, and not in {STEPPED} that were stepped")

    def _skip_repeats(self, registers: Registers, wanted: int) -> int:
        """At a string instruction: go on by up to `wanted` of its repetitions; how many it were."""
        count = min(wanted, registers["rcx"] - 2)
        done = skip_repeats(self.machine, registers, count, self.path.cpu) if count > 0 else 0
        self._registers = self.machine.gdb.registers(self.path.cpu)
        return done

    def _fire(self, shots: list[Shot]) -> None:
        for shot in shots:
            self._view.owed.append(shot.what.vector(self.machine))
            shot.what.fire(self.machine)

    def _strike(self) -> Verdict:
        """Inject where the machine stands; follow the event to the path's start."""
        view, event = self._view, self.event
        assert event is not None
        self.oracle.strike(view)
        self._fire(event.at_boundary())
        exact = True
        for _ in range(MAX_STOPS):
            view.registers = self._registers
            asked = self.oracle.stops(view)
            triggers = {shot.on for shot in event.shots} - {None} - set(view.arrived)
            gates = {self._gates[v] for v in (*view.owed, *triggers) if v is not None}
            registers = self._go(self._ends | asked | gates, exact=exact)
            exact = False
            if registers.pc in gates:
                exact = self._arrive(registers.pc)
                continue
            verdict = None
            if registers.pc in asked:
                verdict = self.oracle.stop(view, registers)
            if verdict is None and registers.pc in self._ends:
                return self._at_end(registers)
            if verdict is not None:
                return verdict
        assert self._registers is not None
        where = self.images.name(self._registers.pc)
        return Verdict(Outcome.HANG, f"goes in circles, by {where}")

    def _arrive(self, gate: int) -> bool:
        """A handler was entered. Fires what follows; whether it strikes at once."""
        view, event = self._view, self.event
        assert event is not None
        vector = next(v for v, address in self._gates.items() if address == gate)
        fresh = vector not in view.arrived
        view.arrived.append(vector)
        if vector in view.owed:
            view.owed.remove(vector)
        if not fresh:
            return False
        shots = event.on_arrival(vector)
        self._fire(shots)
        # in its own handler, and in that of a breakpoint inside it, an NMI is held back
        return any(shot.what.vector(self.machine) != NMI or vector != NMI for shot in shots)

    def _at_end(self, registers: Registers) -> Verdict:
        view = self._view
        if view.owed:
            missing = ", ".join(map(str, view.owed))
            return Verdict(Outcome.LOST, f"the handler of vector {missing} was never entered")
        return self.oracle.end(view, registers) or self._to_start() or SURVIVED

    def round(self, boundary: Boundary, *, by_steps: bool = False) -> Verdict:
        """Strike at one boundary and judge. Stands at the path's start afterwards.

        UnreachedError if the boundary is not reached; the state is then not restored.
        """
        self._view = View(self.machine, self.path, self.event, boundary)
        try:
            (self._reach_by_steps if by_steps else self._reach)(boundary)
        except _HangError as hang:
            raise UnreachedError(f"before the boundary: {hang}") from hang
        self._view.before = self._registers
        try:
            verdict = self._strike()
        except _HangError as hang:
            verdict = hang.verdict
        except GuestError as error:
            verdict = verdict_of(error)
        if verdict.outcome is not Outcome.SURVIVED:
            self._recover()
        return verdict

    def judge(self, boundary: Boundary) -> Cell:
        """Play a boundary's round, again if it was not reached. The guest's faults do not raise."""
        reason = ""
        for _ in range(ATTEMPTS):
            try:
                return self._persistent_round(boundary)
            except OnestackError as error:
                reason = str(error)
                self._recover()
        return Cell(boundary, None, reason)

    def _persistent_round(self, boundary: Boundary) -> Cell:
        """Rounds of a path that may depend on the time, or on others: not from its snapshot.

        Else it might go the same other way each time. If others have brought more rounds of a loop
        when the path was recorded, an earlier visit is struck in place of this one, and the cell
        says so; if they have brought all of it, the path is stepped as it was then.
        """
        came = boundary.hit
        for _ in range(DETOURS):
            try:
                return Cell(boundary, *_words(self.round(boundary)))
            except UnreachedError as error:
                came = min(came, error.hits)
            self._to_start()
        if not came:
            return Cell(boundary, *_words(self._stepped_round(boundary)))
        outcome, detail = _words(self.round(replace(boundary, hit=came)))
        return Cell(
            boundary, outcome, f"{detail}; ".lstrip("; ") + EARLIER.format(came, boundary.hit)
        )

    def _stepped_round(self, boundary: Boundary) -> Verdict:
        """A round that is stepped to its boundary; what others bring may differ there too."""
        for _ in range(STEPPED - 1):
            with contextlib.suppress(UnreachedError):
                return self.round(boundary, by_steps=True)
            self._to_start()
        return self.round(boundary, by_steps=True)


def _words(verdict: Verdict) -> tuple[Outcome, str]:
    return verdict.outcome, verdict.detail
