# SPDX-License-Identifier: MIT
"""The interleaving sweep: two operations on two cores, in every order that counts.

A core is frozen at one instruction of operation A: the core that called it or, for an operation on
a thread of core C, that core. The conflicting operation runs on core B to its end, or until it
cannot go on without the frozen one; so do other cores of which it wants something. Then all go on,
and what has come of both is compared with what comes of one after the other. A race of a check and
its act shows at the instructions between the two, in each run; no luck is needed.

The operations are the agent's workers', held in user mode on their cores (agent.hold). A snapshot
of the machine in that state is where each round begins.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

from abi import ERRORS as E
from agent import LIMIT, READY, Agent, AgentError, Result
from boundaries import Boundary, Kind, kind_behind
from scene import CORE_A, CORE_B, CORE_C, Job, Outcome, Race, Report, Wrong

from onestack.deadline import Deadline
from onestack.elf import Images
from onestack.errors import DeadlineError, GuestError, OnestackError
from onestack.gdbstub import Step
from onestack.machine import Machine, MachineSpec
from onestack.patch import PatchFault

TOP = Path(__file__).resolve().parents[2]
KERNEL = TOP / "build/tcb-ist-release/kernel.elf"
DEBUG_KERNEL = TOP / "build/tcb-ist-debug/kernel.elf"  # finds who uses what has been freed
MAX_PATH = 20000  # instructions of an operation
USER_END = 1 << 47
PATIENCE = 20.0  # seconds for a core to get where it must
TURNS = 64  # of other cores, while one is frozen
HOUR_US = 3600 * 10**6  # as the kernel's `timeslice=`
TRIES = 4  # rounds for a boundary to be come by in
LOOKS = 4  # turns of the others once somebody's time is over
MOMENT = 0.002  # seconds that pass between two looks at whether somebody's time has come
MOST = 16 * LIMIT  # nanoseconds: who is too late then does not wait for a time
KEEP = 2  # how many visits of an address are boundaries, from its first and from its last on


def spec(cores: int = 4, kernel: Path = KERNEL) -> MachineSpec:
    """The machine: one core for the agent, one each for A and B, the rest for partners.

    Time slices never end: one that does while a path is stepped is not there when it is played.
    """
    return MachineSpec(
        kernel=kernel,
        initrd=TOP / "build/user/init.elf",
        append=f"timeslice={HOUR_US} run=agent",
        memory=48,
        cores=cores,
        snapshots=True,
        debug_exit=False,
    )


class Interleaver:
    """A machine in which races are played. Use it as a context manager."""

    def __init__(
        self,
        cores: int = 4,
        faults: Callable[[Images], list[PatchFault]] | None = None,
        kernel: Path = KERNEL,
    ) -> None:
        self.images = Images.load(kernel, TOP / "build/user/agent.elf")
        self.spec = spec(cores, kernel)
        self.cores = cores
        self._faults = faults
        image = self.images.images[0]
        resolve = self.images.resolve
        self.pauses = frozenset(
            instruction.address
            for start, code in image.code()
            for instruction in image.disassemble(start, start + len(code))
            if instruction.mnemonic == "pause"
        )
        self.idle = resolve("idle_hlt")
        self.exits = frozenset({resolve("exit_iret_leave"), resolve("exit_sysret_leave")})
        self.finished = resolve("job_finished")
        self.entry = resolve(f"syscall_entry_{CORE_A}")
        self.frozen: int | None = None
        self.race: Race | None = None
        self.timed = ""

    def __enter__(self) -> Interleaver:
        """Boot, and keep the state."""
        self.machine = Machine(self.spec)
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

    def restart(self) -> None:
        """Another machine, after something that may have left a conversation half-way."""
        self.machine.close()
        self.race = None
        self.__enter__()

    # ---- one race

    def _load(self, name: str) -> None:
        machine = self.machine
        if machine.gdb.running:
            machine.pause()
        machine.gdb.change_breakpoints(frozenset())
        machine.load(name)
        machine.console.forget()

    def open(self, race: Race) -> None:
        """Set the scene, hold both, let everybody else come to rest, keep the state.

        Where B only lets time pass, and A came too late for that even when it came first, it is
        tried again with more of it: the guest's time is the host's.
        """
        self.race = None
        self.timed = race.timed
        limit = LIMIT
        self._set(race, limit)
        while race.timed == "b" and len(set(self.orders.values())) == 1 and limit < MOST:
            limit *= 2
            self._set(race, limit)
        self.race = race

    def _set(self, race: Race, limit: int) -> None:
        self._load("ready")
        self.machine.resume()
        self.agent = Agent(self.machine)
        self.agent.limit = limit
        self.scene = race.setup(self.agent)
        self.holds = {}
        for job in self.scene.jobs:
            self.holds[job.worker] = self.agent.hold(job.worker)
            self._start(job)
        self.machine.pause()
        self.frozen = None
        self._others(b_too=False)
        self.machine.save("scene")
        self.orders = {"a then b": self.order("a"), "b then a": self.order("b")}

    def _start(self, job: Job) -> None:
        words = tuple(map(str, job.arguments))
        line = f"{'ipc' if job.ipc else 'sys'} {job.worker} {job.name} " + " ".join(words)
        if self.agent.ask(line) != "blocked":
            raise AgentError(f"{line}: it was not held")

    def _release(self, job: Job, cpu: int) -> None:
        self.machine.gdb.write(self.holds[job.worker], bytes(4), cpu)

    def _observe(self) -> Outcome:
        """Let everything come to rest; what both got, and what the judge sees."""
        seen: dict[str, object] = {}
        for _ in range(2):  # one that was polled first may have had its wait ended by another
            seen |= {
                name: self._result(self._come_to(name, job))
                for name, job in zip("abc", self.scene.jobs, strict=False)
            }
        seen |= self.scene.judge()
        return tuple(sorted(seen.items()))

    def _come_to(self, name: str, job: Job) -> Result | None:
        """What a job has come to; the one that only takes time comes to its end."""
        deadline = Deadline(PATIENCE)
        while (result := self._poll(job)) is None and name == self.timed:
            if deadline.expired:
                raise DeadlineError(f"{job.name} of worker {job.worker} waits beyond its time")
        return result

    def _poll(self, job: Job) -> Result | None:
        """What a job has come to; None: it is blocked. How long one runs is the host's affair."""
        result = self.agent.poll(job.worker)
        for _ in range(TURNS):
            if result is not None:
                return result
            at_rest = self.agent.settle(self.agent.threads[job.worker])
            result = self.agent.poll(job.worker)
            if at_rest:
                return result
        raise DeadlineError(f"{job.name} of worker {job.worker} neither ends nor waits")

    @staticmethod
    def _result(result: Result | None) -> object:
        """A capability that is going may be found gone, or its object dying: both are right."""
        if result is not None and result.value in (E["BADCAP"], E["DEAD"]):
            return "gone"
        return None if result is None else result.value

    def order(self, first: str) -> Outcome:
        """One after the other."""
        self._load("scene")
        cores = {"a": CORE_A, "b": CORE_B, "c": CORE_C}
        sides = {
            name: (job, cores[name]) for name, job in zip("abc", self.scene.jobs, strict=False)
        }
        for side in (first, *(side for side in sides if side != first)):
            self._release(*sides[side])
            self.machine.gdb.cont()
            self._come_to(side, sides[side][0])
            self.machine.pause()
        self.machine.gdb.cont()
        return self._observe()

    def path(self, frozen: int = CORE_A) -> list[Boundary]:
        """The boundaries of A's operation on a core: of many visits the first and last."""
        self._begin(frozen)
        path = list(self._walk(frozen))
        visits = Counter(boundary.address for boundary in path)
        return [
            boundary
            for boundary in path
            if boundary.address not in self.pauses
            and (boundary.visit <= KEEP or boundary.visit > visits[boundary.address] - KEEP)
        ]

    def _walk(self, frozen: int) -> Iterator[Boundary]:
        """Step a core through all it does for A, alone but where it waits for others."""
        gdb, kernel = self.machine.gdb, self.images.images[0]
        self._others(b_too=False)
        gdb.set_step_mode(Step.NO_TIMER)
        visits: Counter[int] = Counter()
        kind = Kind.PRIVATE
        last = 0
        while visits.total() < MAX_PATH and (self._wanted(frozen) or self._woken(frozen)):
            at = gdb.registers(frozen).pc
            if at in self.pauses:
                self._others(b_too=False)
            if at >= USER_END and not self._is_idle(at):
                if at != last:  # a repeated string instruction counts once
                    visits[at] += 1
                    yield Boundary(at, visits[at], kind)
                kind = kind_behind(kernel.disassemble(at, at + 15)[0])
                last = at
            gdb.step(frozen)
            if not self._is_busy(gdb.registers(frozen).pc):
                self._others(b_too=False)

    def play(
        self, boundary: Boundary, frozen: int = CORE_A, *, stepped: bool = False
    ) -> Outcome | None:
        """A to the boundary, B to its end, A on. None if A does not come by there this time.

        `stepped`: as the path was when it was written down, with the others far ahead of A.
        """
        self._begin(frozen)
        if not (self._step_to if stepped else self._to)(boundary, frozen):
            return None
        self._release(self.scene.b, CORE_B)
        self._others(b_too=True)
        if self.timed == "b":
            self._pass_time()
        while self.race and self.race.answers and self._answer(frozen):
            self._others(b_too=False)
        if self.scene.c is not None:
            self._release(self.scene.c, CORE_C)
            self._run(CORE_C, {self.finished, self.idle})
        self.machine.gdb.change_breakpoints(frozenset())
        self.machine.gdb.cont()
        return self._observe()

    def _answer(self, cpu: int) -> bool:
        """Let the frozen core take an interrupt that waits, and come back to where it stands."""
        gdb = self.machine.gdb
        before = gdb.registers(cpu)
        answered = False
        if self._waiting(cpu):
            gdb.change_breakpoints({before.pc})
            gdb.cont(cpu)  # which begins with the interrupt, if it is let in here
            gdb.wait_stop(PATIENCE, f"CPU {cpu} to come back")
            answered = not self._waiting(cpu)
        return answered and gdb.registers(cpu).sp == before.sp

    def _begin(self, frozen: int) -> None:
        """A begins, and stands at its entry."""
        self._load("scene")
        self.frozen = frozen
        self._release(self.scene.a, CORE_A)
        self._run(CORE_A, {self.entry})

    def _step_to(self, boundary: Boundary, cpu: int) -> bool:
        """Step a core up to a boundary."""
        wanted = boundary.address, boundary.visit
        return any((one.address, one.visit) == wanted for one in self._walk(cpu))

    def _to(self, boundary: Boundary, cpu: int) -> bool:
        """Run a core alone up to a boundary."""
        rests = self.exits | self.pauses | {self.finished, self.idle}
        left = boundary.visit
        if cpu == CORE_A:
            left -= boundary.address == self.machine.gdb.registers(cpu).pc
        else:
            self._others(b_too=False)
        while left and (at := self._run(cpu, rests | {boundary.address})) != self.finished:
            left -= at == boundary.address
            if left and at in rests:
                self._others(b_too=False)
                if at not in self.pauses and not (self._wanted(cpu) or self._woken(cpu)):
                    break
        return left == 0

    def _woken(self, cpu: int) -> bool:
        """Let time pass until a core that sleeps is woken by it, if that is what A waits for."""
        gdb = self.machine.gdb
        if self.timed != "a" or not self._is_idle(gdb.registers(cpu).pc):
            return False
        deadline = Deadline(PATIENCE)
        while not self._waiting(cpu):
            deadline.check(f"the time of who sleeps on CPU {cpu} to be over")
            gdb.change_breakpoints(frozenset())
            gdb.cont(CORE_B)  # which is held in user mode
            time.sleep(MOMENT)
            self.machine.pause()
        return True

    def _pass_time(self) -> None:
        """B's call takes time: until that is over; then what it has brought the others.

        One whose time is over in a wait that the frozen one is just ending looks again and again.
        """
        if self.machine.gdb.registers(CORE_B).pc != self.finished:
            self._run(CORE_B, {self.finished})
        for _ in range(LOOKS):
            self._turn(b_begins=False)

    def _run(self, cpu: int, stops: AbstractSet[int]) -> int:
        """Let one core run alone until it is at one of these; past that where it stands."""
        gdb = self.machine.gdb
        gdb.change_breakpoints(stops)
        at = start = gdb.registers(cpu).pc
        if start in stops:
            gdb.set_step_mode(Step.NO_TIMER)
            while at == start:  # a repeated string instruction takes many
                gdb.step(cpu)  # which no breakpoint stops
                at = gdb.registers(cpu).pc
            if at in stops:
                return at
        gdb.cont(cpu)
        try:
            gdb.wait_stop(PATIENCE, f"a stop of CPU {cpu}")
        except DeadlineError as error:
            self.machine.pause()
            where = self.images.name(gdb.registers(cpu).pc)
            raise DeadlineError(f"CPU {cpu} alone does not stop; it is at {where}") from error
        return gdb.registers(cpu).pc

    def _is_idle(self, at: int) -> bool:
        return self.idle <= at <= self.idle + 1

    def _is_busy(self, at: int) -> bool:
        """In the kernel, and not about to leave it."""
        return at >= USER_END and not self._is_idle(at) and at not in self.exits

    def _wanted(self, cpu: int) -> bool:
        """Whether a core goes on by itself: it is in the kernel, or an interrupt waits for it."""
        return self._is_busy(self.machine.gdb.registers(cpu).pc) or self._waiting(cpu)

    def _waiting(self, cpu: int) -> bool:
        """Whether an interrupt does."""
        return re.search(r"IRR\s+\d", self.machine.qmp.hmp(f"info lapic {cpu}")) is not None

    def _others(self, *, b_too: bool) -> None:
        """Let all but the frozen core run until none of them can go on without it."""
        busy = b_too  # B has its operation to begin
        for _ in range(TURNS):
            moved, busy = self._turn(b_begins=busy)
            if not moved:
                return
        raise DeadlineError(f"after {TURNS} turns the other cores still go on")

    def _turn(self, *, b_begins: bool) -> tuple[bool, bool]:
        """Each of them once. Whether any has moved; whether B has still to begin."""
        stops = self.pauses | self.exits | {self.idle, self.finished}
        moved = False
        for cpu in range(self.cores):
            begins = b_begins and cpu == CORE_B
            if cpu == self.frozen or not (begins or self._wanted(cpu)):
                continue
            before = self.machine.gdb.registers(cpu)
            at = self._run(cpu, stops - self.exits if begins else stops)
            # One that spins is where it was; one that is back in its idle loop has worked.
            moved |= at not in self.pauses or self.machine.gdb.registers(cpu) != before
            if begins and at in (self.finished, self.idle):
                b_begins = False
        return moved, b_begins

    # ---- all of it

    def sweep(
        self,
        race: Race,
        frozen: int = CORE_A,
        choose: Callable[[list[Boundary]], list[Boundary]] = list,
        repeats: int = 0,
    ) -> Report:
        """All boundaries of a race on a core, or those chosen of them.

        What is wrong is played again so many times.
        """
        if self.race is not race:
            self.open(race)
        report = Report(race.name, self.orders)
        chosen = choose(self.path(frozen))
        report.boundaries = len(chosen)
        for boundary in chosen:
            if wrong := self._judge(report, race, boundary, frozen):
                again = Report(race.name, self.orders)
                seen = (self._judge(again, race, boundary, frozen) for _ in range(repeats))
                report.failures.append(Wrong(boundary, wrong, tuple(seen)))
        return report

    def _judge(self, report: Report, race: Race, boundary: Boundary, frozen: int) -> str:
        """Play a boundary, which may take several rounds: what is wrong with the outcome, or ""."""
        try:
            for count in range(TRIES + 1):
                outcome = self.play(boundary, frozen, stepped=count == TRIES)
                if outcome is not None:
                    report.late += count > 0
                    break
        except (OnestackError, AgentError, OSError, ValueError) as error:
            if not (isinstance(error, GuestError) and self.machine.alive):
                self.restart()
                self.open(race)
            return f"{type(error).__name__}: {error}"
        if outcome is None:
            report.missed.append(boundary)
            return ""
        report.outcomes[boundary] = outcome
        right = {*self.orders.values(), *(one.of(self.orders) for one in race.also)}
        return "" if outcome in right else str(dict(outcome))
