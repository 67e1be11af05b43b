# SPDX-License-Identifier: MIT
"""Whether Onestack survived an event: every thread, every stack, the core, and the work in time.

"In time": the event's work is a notification that wakes the waiter, a thread of higher priority in
a space of its own. Whatever the event struck, the first user instruction after its handler was
entered must be the waiter's, and no `hlt` may sleep before. It is judged at the instructions that
leave the kernel, which are all found in its code.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from kernel_state import (
    LAST_STACK,
    STACK_SIZE,
    STACK_TOPS,
    USER_STATE,
    Core,
    KernelState,
)

from onestack.elf import Image, Images, Instruction
from onestack.errors import OnestackError
from onestack.events import BREAKPOINT
from onestack.inject import MACHINE_CHECK, NMI
from onestack.machine import Machine
from onestack.oracle import Outcome, Verdict, View
from onestack.path import Context
from onestack.registers import FLAG_RF, GENERAL, Registers

WORDS = ("rbx", "rbp", "r12", "r13", "r14", "r15")
KEPT = (*WORDS, "rsp", "rip")
RESULTS = ("rax", "rdx")
LOST = tuple(name for name in GENERAL if name not in KEPT + RESULTS)
SYSTEM = (
    "cs",
    "ss",
    "ds",
    "es",
    "fs",
    "gs",
    "fs_base",
    "gs_base",
    "cr0",
    "cr3",
    "cr4",
    "efer",
)
KERNEL_HALF = 1 << 63
ERRORS = (1 << 64) - 4096  # from here up: an error, no address
STACK_WINDOW = (1024, 512)  # bytes below and above the user's stack pointer
FPU_LEGACY = 512  # bytes
FPU = "FPU state"  # beside THREAD_MEMBERS: what `fpu` points to
PIECE = 1024  # bytes to be read at once
STACK_END = 1024  # bytes of each IST stack, from the top, in which a stray frame would lie
IST_STACKS = {"NMI": NMI, "#DF": 8, "#MC": MACHINE_CHECK, "#DB": 1}
STATES = ("USER", "PARMCHK", "SYSCALL", "IPC", "CONTIN", "INTR", "IDLE")

# What a thread that is not running keeps in its TCB. Of the frame, not what a system call loses:
# there the last interrupt's values stand.
THREAD_MEMBERS = (
    *("state", "flags", "priority", "base_priority", "ceiling", "core", "space", "cr3", "caps"),
    *(
        "caller",
        "server",
        "waits_on",
        "continuation",
        "handler",
        "handler_stack",
        "bound",
        "fpu",
    ),
    *("canary[0]", "canary[1]"),
    *("fs_base", "gs_base"),
    *(f"frame.{name}" for name in (*WORDS, "rip", "cs", "rflags", "rsp", "ss")),
)
MESSAGE = frozenset(f"frame.{name}" for name in WORDS)
CANARIES = ("canary[0]", "canary[1]")
NOT_WHILE_RUNNING = ("fs_base", "gs_base")
RUNNING_MEMBERS = (
    *(n for n in THREAD_MEMBERS if not n.startswith("frame.") and n not in NOT_WHILE_RUNNING),
    *("frame.cs", "frame.ss"),
)


@dataclass(frozen=True)
class Rules:
    """How a path's end is judged: all registers are kept (faults, interrupts) or the call's.

    `sleeper` is where a thread waits for its timer, which may come at any time; `sliced` is where
    one may be preempted, on a machine whose time is real, before it goes the path. `stacks` are
    those with an IST entry that the path itself uses. `mortal` is where the threads are that it
    makes anew each time: with several cores, in memory that is another one each time.
    """

    all_registers: bool = False
    sleeper: str = ""
    sliced: str = ""
    stacks: tuple[str, ...] = ()
    mortal: str = ""


def _unlike(now: bytes, first: bytes, others: Sequence[bytes]) -> list[int]:
    """Where a stack is not as in undisturbed rounds; words that vary among those are not judged.

    Words and not bytes: a handle counts up from round to round, and some day its next byte does.
    """
    varies = {i // 8 for o in others for i in range(min(len(o), len(first))) if o[i] != first[i]}
    both = range(min(len(now), len(first)))
    return [i for i in both if now[i] != first[i] and i // 8 not in varies]


@dataclass(frozen=True)
class _End:
    registers: dict[str, int]
    stack: bytes
    threads: list[bytes]
    core: Core
    shared: tuple[int, int]
    fpu: list[bytes]  # of each thread's save area, if it has one
    stacks: dict[str, bytes]  # the upper ends of the core's stacks that stand in IST_STACKS


@dataclass(frozen=True)
class _Point:
    """Where the kernel was interrupted, and how it must be found again."""

    pc: int
    sp: int
    registers: Registers
    flags: int
    nest: int
    state: int
    window: list[tuple[int, int]]  # what of the stack, or what else RSP pointed into, must stay
    content: bytes


@dataclass
class _Round:
    """One round's events. `here` are points where something was fired, `open` those entered."""

    core: Core
    shared: tuple[int, int]
    stacks: dict[str, bytes]
    here: list[_Point]
    open: list[_Point] = field(default_factory=list)
    arrivals: int = 0
    worked: list[int] = field(default_factory=list)


def _leaves(instruction: Instruction) -> bool:
    return instruction.mnemonic in (
        "iretq",
        "sysretq",
        "sysret",
        "lretq",
        "retfq",
        "hlt",
    )


class KernelOracle:
    """See the module. `irq` is the vector of the event's interrupt line, 0 if it has none."""

    def __init__(
        self,
        images: Images,
        *,
        kernel: FilePath,
        rules: dict[str, Rules],
        cpu: int = 0,
        own_stacks: bool = False,
    ) -> None:
        self.images = images
        self.state = KernelState(kernel, images)
        self.rules = rules
        self.cpu = cpu
        self._own_stacks = own_stacks  # each thread's, below its TCB in the same block
        states = self.state.structs.enumerators("thread_state")
        self._awaiting = {states["THREAD_RECEIVING"], states["THREAD_REPLY"]}
        self._exits = _exits(kernel)
        self._sleeps = frozenset(at for at, kind in self._exits.items() if kind == "hlt")
        self._leaves = frozenset(self._exits) - self._sleeps
        self._woken = images.resolve("sweep_woken")
        self._fail = images.resolve("sweep_fail")
        self._windows = images.range_of("__windows_start..__windows_end")
        self._learned: list[_End] = []
        self._addresses: list[int] = []
        self._unstable: set[tuple[int, str]] = set()
        self._elsewhere: set[int] = set()  # threads of other cores: only their canaries are judged
        self._shared = 0  # where the waiter counts (NMIs, interrupts), in all spaces
        self._waiter_cr3 = 0
        self._path = ""
        self._round: _Round | None = None

    @property
    def name(self) -> str:
        """For reports."""
        return "onestack"

    # ---- what an undisturbed round leaves

    def learn(self, view: View, registers: Registers) -> None:
        """Keep the state at the path's end; the first time, find all threads."""
        if not self._learned:
            self._addresses = self.state.thread_addresses(view.machine)
            threads = self.state.threads(view.machine, self._addresses, self.cpu)
            waiters = [t for t in threads if self.state.field(t, "frame.rip") == self._woken]
            if len(waiters) != 1:
                raise OnestackError(f"{len(waiters)} threads wait at sweep_woken")
            self._waiter_cr3 = self.state.field(waiters[0], "cr3")
            core = self.state.core_address(self.cpu)
            pointer = view.machine.gdb.read(self.images.resolve("sweep_shared"), 8, self.cpu)
            self._shared = int.from_bytes(pointer, "little")
            self._elsewhere = {
                number
                for number, thread in enumerate(threads)
                if self.state.field(thread, "core") not in (0, core)
            }
        self._path = view.path.name
        self._learned.append(self._read(view, registers))
        first = self._learned[0]
        for number in range(len(self._addresses)):
            for member in THREAD_MEMBERS:
                now = self.state.field(self._learned[-1].threads[number], member)
                if now != self.state.field(first.threads[number], member):
                    self._unstable.add((number, member))
            if self._learned[-1].fpu[number] != first.fpu[number]:
                self._unstable.add((number, FPU))

    def _read(self, view: View, registers: Registers) -> _End:
        values = {name: registers[name] for name in self._names(registers)}
        values["eflags"] = registers["eflags"] & ~FLAG_RF
        below, above = STACK_WINDOW
        stacks = self._stack_tops()
        threads = self.state.thread_pieces(self._addresses)
        user = _pages(range(registers.sp - below, registers.sp + above))
        groups = (
            self.state.core_pieces(self.cpu),
            [(self._shared, 16)],
            stacks,
            threads,
            user,
        )
        core, shared, tops, raw, stack = _read_groups(view, groups, self.cpu)
        found = self.state.threads_from(self._addresses, threads, raw)
        return _End(
            values,
            b"".join(stack),
            found,
            self.state.core_from(view.machine, *core, cpu=self.cpu),
            _two_words(shared[0]),
            self._fpu(view, found),
            dict(zip(IST_STACKS, tops, strict=True)),
        )

    @functools.lru_cache(maxsize=1)  # noqa: B019  (one layout, as long as the process)
    def _register_names(self, layout: tuple[str, ...]) -> tuple[str, ...]:
        names = [name for name in (*GENERAL, "rip", "mxcsr", *SYSTEM) if name in layout]
        return (*names, *(name for name in layout if name.startswith("xmm")))

    def _names(self, registers: Registers) -> tuple[str, ...]:
        return self._register_names(tuple(registers))

    def _stack_tops(self) -> list[tuple[int, int]]:
        area = self.state.core_address(self.cpu)
        return [(area + STACK_TOPS[name] - STACK_END, STACK_END) for name in IST_STACKS]

    def _fpu(self, view: View, threads: list[bytes]) -> list[bytes]:
        """What is saved of each thread's FPU; the legacy area, which SSE and x87 state stand in."""
        areas = [self.state.field(thread, "fpu") for thread in threads]
        [found] = _read_groups(view, [[(at, FPU_LEGACY) for at in areas if at]], self.cpu)
        contents = iter(found)
        return [next(contents) if at else b"" for at in areas]

    def assumptions(self) -> Sequence[str]:
        """What varies between undisturbed rounds."""
        first, *others = self._learned
        said = [
            f"{name} differs between undisturbed rounds: not judged"
            for name in first.registers
            if any(o.registers[name] != first.registers[name] for o in others)
        ]
        if self._elsewhere:
            said.append(
                f"{len(self._elsewhere)} threads of other cores: only their canaries judged"
            )
        rules = self.rules.get(self._path, Rules())
        mortal = [n for n in range(len(self._addresses)) if self._mortal(n, first, rules)]
        if mortal:
            said.append(f"{len(mortal)} threads that the path makes: their TCBs are not judged")
        for number, member in sorted(self._unstable):
            if number in mortal:
                continue
            if number in self._elsewhere:
                continue
            where = self.images.name(self.state.field(first.threads[number], "frame.rip"))
            said.append(f"{member} of the thread at {where} differs: not judged")
        return said

    # ---- a round

    def strike(self, view: View) -> None:
        """Remember counters and, in the kernel, everything that must be found again."""
        before = view.before
        assert before is not None
        window = _pages(self._window(before.sp)) if before.cpl == 0 else []
        pieces = self.state.core_pieces(self.cpu)
        groups = (pieces, [(self._shared, 16)], self._stack_tops(), window)
        raw, shared, tops, content = _read_groups(view, groups, self.cpu)
        core = self.state.core_from(view.machine, *raw, cpu=self.cpu)
        stacks = dict(zip(IST_STACKS, tops, strict=True))
        self._round = _Round(core, _two_words(shared[0]), stacks, [])
        if before.cpl == 0:
            place = (before.pc, before.sp, before, before["eflags"] & ~FLAG_RF)
            self._round.here.append(
                _Point(*place, core.nest, core.state, window, b"".join(content))
            )

    def _point(self, view: View, registers: Registers, pc: int, sp: int, flags: int) -> _Point:
        window = _pages(self._window(sp))
        groups = (self.state.core_pieces(self.cpu), window)
        raw, content = _read_groups(view, groups, self.cpu)
        core = self.state.core_from(view.machine, *raw, cpu=self.cpu)
        place = (pc, sp, registers, flags & ~FLAG_RF)
        return _Point(*place, core.nest, core.state, window, b"".join(content))

    def _see_arrival(self, view: View, now: _Round) -> None:
        """The machine stands at a handler's first instruction: note what it has interrupted."""
        now.arrivals = len(view.arrived)
        registers = view.registers
        assert registers is not None
        raw = view.machine.gdb.read(registers.sp, 32, self.cpu)
        rip, cs, flags, rsp = (int.from_bytes(raw[i : i + 8], "little") for i in (0, 8, 16, 24))
        if cs & 3 == 0:
            known = [point for point in now.here if (point.pc, point.sp) == (rip, rsp)]
            now.open.append(known[0] if known else self._point(view, registers, rip, rsp, flags))
        assert view.event is not None
        if view.event.on_arrival(view.arrived[-1]):  # the next one may strike right here
            here = self._point(view, registers, registers.pc, registers.sp, registers["eflags"])
            now.here.append(here)

    def _window(self, sp: int) -> range:
        """Of a kernel stack the live part, of a TCB or a user's stack what lies below, too."""
        area = self.state.core_address(self.cpu)
        if area <= sp < area + LAST_STACK:
            return range(sp, (sp | (STACK_SIZE - 1)) + 1)
        if self._own_stacks:
            for address in self._addresses:
                if address & -STACK_SIZE <= sp < address:
                    return range(sp, (sp | (STACK_SIZE - 1)) + 1)
        for address in self._addresses:
            if address < sp <= address + self.state.save_area_end:
                return range(address, address + self.state.thread_size)
        below, above = STACK_WINDOW
        return range(sp - below, sp + above)

    def _outstanding(self, view: View) -> list[int]:
        """Vectors that have arrived and whose work is not done; a breakpoint brings none."""
        assert self._round is not None
        rest = [vector for vector in view.arrived if vector != BREAKPOINT]
        for vector in self._round.worked:
            if vector in rest:
                rest.remove(vector)
        return rest

    def stops(self, view: View) -> frozenset[int]:
        """The threads' own checks; while something is outstanding, every way out of the kernel."""
        now = self._round
        if now is None or view.boundary is None:
            return frozenset({self._fail})
        if len(view.arrived) > now.arrivals:
            self._see_arrival(view, now)
        if not now.open and not self._outstanding(view):
            return frozenset({self._fail})
        # a `hlt` before all has arrived is left at once
        sleeps = frozenset() if view.owed else self._sleeps
        return frozenset({self._fail}) | self._leaves | sleeps

    def stop(self, view: View, registers: Registers) -> Verdict | None:
        """A way out of the kernel, or a thread's own check."""
        if registers.pc == self._fail:
            return Verdict(Outcome.CORRUPTED, "a user thread found its registers changed")
        kind = self._exits[registers.pc]
        if kind == "hlt":
            if not registers.interrupts:
                where = self.images.name(registers.pc)
                return Verdict(Outcome.PANIC, f"halts with IF=0 at {where}")
            core = self.state.core(view.machine, self.cpu)
            return self._undone(core) or self._asleep(view)
        groups = (self.state.core_pieces(self.cpu), [(registers.sp, 32)])
        pieces, [frame] = _read_groups(view, groups, self.cpu)
        core = self.state.core_from(view.machine, *pieces, cpu=self.cpu)
        words = [int.from_bytes(frame[i : i + 8], "little") for i in (0, 8, 16, 24)]
        if kind.startswith("sysret"):
            return self._to_user(view, registers, core, registers["rcx"])
        rip, cs, flags, rsp = words
        if cs & 3 == 3:
            return self._to_user(view, registers, core, rip)
        if kind != "iretq":
            flags, rsp = registers["eflags"], registers.sp + 16
        return self._to_kernel(view, registers, core, (rip, rsp, flags & ~FLAG_RF))

    def _undone(self, core: Core) -> Verdict | None:
        """Recorded, and nobody has worked on it. Machine checks have nobody to wait for."""
        if core.pending or core.irq_pending or core.mchecks_worked != core.mchecks:
            return Verdict(Outcome.LOST, f"pending {core.pending:#x}, and nobody looks at it")
        return None

    def _asleep(self, view: View) -> Verdict | None:
        self._machine_checks_are_done(view)
        if self._outstanding(view):
            return Verdict(Outcome.LOST, "the core sleeps with the event's work undone")
        return None

    def _machine_checks_are_done(self, view: View) -> None:
        assert self._round is not None
        self._round.worked += [v for v in self._outstanding(view) if v == MACHINE_CHECK]

    def _to_user(self, view: View, registers: Registers, core: Core, rip: int) -> Verdict | None:
        """The next instruction is a user's: all work on what has arrived must be done."""
        assert self._round is not None
        undone = self._undone(core)
        if not undone:
            self._machine_checks_are_done(view)
        self._round.open.clear()  # the kernel has given up the stack that was interrupted
        rest = self._outstanding(view)
        if undone or not rest:
            return undone
        if registers["cr3"] != self._waiter_cr3:
            where = self.images.name(rip)
            return Verdict(
                Outcome.LOST,
                f"the first user instruction after it is {where}, no waiter's",
            )
        self._round.worked += rest
        return None

    def _to_kernel(
        self, view: View, registers: Registers, core: Core, to: tuple[int, int, int]
    ) -> Verdict | None:
        """Back to what was interrupted: as it was, or at the beginning of its exit window."""
        assert self._round is not None
        if not self._round.open:
            return None
        point = self._round.open[-1]
        rip, rsp, flags = to
        same = (rip, rsp) == (point.pc, point.sp)
        if not same and not self._rewinds(view, point.pc, rip):
            return None  # of something else: a timer's interrupt, say
        self._round.open.pop()
        found = _changed_state(core, point)
        found += self._changed_stack(view, point, point.sp if same else rsp)
        if same:
            found += _changed_registers(point, registers, flags)
        return Verdict(Outcome.CORRUPTED, "; ".join(found)) if found else None

    def _rewinds(self, view: View, struck: int, rip: int) -> bool:
        """Whether `rip` begins the exit window that `struck` lies in (N4)."""
        raw = view.machine.gdb.read(self._windows.start, len(self._windows), self.cpu)
        words = [int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8)]
        return any(
            first == rip and first <= struck <= last
            for first, last in zip(words[::2], words[1::2], strict=True)
        )

    def _changed_stack(self, view: View, point: _Point, rsp: int) -> list[str]:
        """A window is gone back to with an emptier stack; what lay below `rsp` is given up."""
        start = point.window[0][0]
        gone = rsp - start if start == point.sp and 0 <= rsp - start <= len(point.content) else 0
        [content] = _read_groups(view, [point.window], self.cpu)
        now = b"".join(content)
        wrong = [i for i, byte in enumerate(now) if byte != point.content[i] and i >= gone]
        if not wrong:
            return []
        place = start + wrong[0] - point.sp
        return [f"{len(wrong)} bytes changed on the interrupted stack, from rsp{place:+#x}"]

    # ---- the end

    def end(self, view: View, registers: Registers) -> Verdict | None:
        """Everything as without the event, and its work done once."""
        rest = self._outstanding(view)
        if rest:
            names = ", ".join(map(str, rest))
            return Verdict(Outcome.LOST, f"the work of vector {names} was not done")
        now = self._read(view, registers)
        found = self._wrong_work(view, now) + _wrong_core(now.core) + self._wrong_end(view, now)
        return Verdict(Outcome.CORRUPTED, "; ".join(found)) if found else None

    def _wrong_work(self, view: View, end: _End) -> list[str]:
        """Counters that say something else than how often events arrived."""
        assert self._round is not None
        was, now = self._round.core, end.core
        nmis, irqs = end.shared
        count = view.arrived.count
        lines = sum(vector not in (NMI, MACHINE_CHECK, BREAKPOINT) for vector in view.arrived)
        owed = (
            ("NMIs counted", now.nmis - was.nmis, count(NMI)),
            ("NMIs worked on", now.nmis_worked - was.nmis_worked, count(NMI)),
            ("NMIs at the waiter", nmis - self._round.shared[0], count(NMI)),
            ("interrupts at the waiter", irqs - self._round.shared[1], lines),
            ("machine checks", now.mchecks - was.mchecks, count(MACHINE_CHECK)),
            ("machine checks worked on", now.mchecks_worked - was.mchecks_worked,
             count(MACHINE_CHECK)),
        )  # fmt: skip
        return [f"{got} {what}, not {want}" for what, got, want in owed if got != want]

    def _wrong_end(self, view: View, now: _End) -> list[str]:
        first = self._learned[0]
        others = self._learned[1:]
        found = []
        rules = self.rules.get(view.path.name, Rules())
        for name, value in first.registers.items():
            if any(o.registers[name] != value for o in others):
                continue
            is_now = now.registers[name]
            if name in LOST and not rules.all_registers:
                if is_now >= KERNEL_HALF and is_now < ERRORS:
                    found.append(f"{name} is {is_now:#x}, a kernel address")
            elif is_now != value:
                found.append(f"{name} is {is_now:#x}, not {value:#x}")
        wrong = _unlike(now.stack, first.stack, [other.stack for other in others])
        if wrong:
            found.append(f"{len(wrong)} bytes of the user's stack changed")
        return found + self._wrong_stacks(view, now, rules) + self._wrong_threads(view, now, rules)

    def _wrong_stacks(self, view: View, now: _End, rules: Rules) -> list[str]:
        """IST stacks of which the event made no use, and the core's address on top of all (E4)."""
        assert self._round is not None
        core = self.state.core_address(self.cpu).to_bytes(8, "little")
        found = []
        for name, content in now.stacks.items():
            used = name in rules.stacks or IST_STACKS[name] in view.arrived
            if content[-8:] != core:
                found.append(f"the top word of stack {name} is not the core's address")
            elif not used and content != self._round.stacks[name]:
                found.append(f"stack {name}, which nobody uses, has changed")
        return found

    def _wrong_threads(self, view: View, now: _End, rules: Rules) -> list[str]:
        running = now.core.current - self.state.save_area_end
        first, found = self._learned[0], []
        for number, address in enumerate(self._addresses):
            members = RUNNING_MEMBERS if address == running else THREAD_MEMBERS
            if self._mortal(number, now, rules):
                continue
            if number in self._elsewhere:
                members = CANARIES
            elif address != running and self._fpu_changed(number, now):
                where = self.images.name(self.state.field(first.threads[number], "frame.rip"))
                found.append(f"the FPU state of the thread at {where} has changed")
            for member in members:
                was = self.state.field(first.threads[number], member)
                is_now = self.state.field(now.threads[number], member)
                if was != is_now and not self._ignored(number, member, now.threads[number], rules):
                    if member == "waits_on" and self._waits_anew(view, address, is_now):
                        continue
                    where = self.images.name(self.state.field(first.threads[number], "frame.rip"))
                    found.append(f"{member} of the thread at {where} is {is_now:#x}, not {was:#x}")
        return found

    def _mortal(self, number: int, now: _End, rules: Rules) -> bool:
        """With other cores, its end is in their hands: whose TCB this is differs each time.

        If it is one at all: the page may be given back. The thread itself is judged by the
        registers at the path's end, where it runs, if it lives.
        """
        if not rules.mortal or not self._elsewhere:
            return False
        place = self.images.range_of(rules.mortal)
        threads = (self._learned[0].threads[number], now.threads[number])
        return any(self.state.field(thread, "frame.rip") in place for thread in threads)

    def _waits_anew(self, view: View, thread: int, at: int) -> bool:
        """A saved reply is made anew each time; with other cores, in memory that is another one.

        For when the one before is free is in their hands. It must be one, and this thread's.
        """
        [found] = view.machine.gdb.read_all([self.state.reply_piece(at)], self.cpu)
        return bool(self._elsewhere and found and self.state.is_reply_to(found, thread))

    def _fpu_changed(self, number: int, now: _End) -> bool:
        """Not judged if it varies anyway, or if the area is another one each time."""
        if {(number, FPU), (number, "fpu")} & self._unstable:
            return False
        return now.fpu[number] != self._learned[0].fpu[number]

    def _ignored(self, number: int, member: str, thread: bytes, rules: Rules) -> bool:
        """What varies anyway, and the words that a message is going to overwrite."""
        if (number, member) in self._unstable:
            return True
        if member in MESSAGE:
            return self.state.field(thread, "state") in self._awaiting
        if member == "frame.rip" and rules.sliced:
            return self.state.field(thread, member) == self.images.resolve(rules.sliced)
        if member in ("state", "flags") and rules.sleeper:
            at = self.images.resolve(rules.sleeper)
            return self.state.field(thread, "frame.rip") == at
        return False

    def halted(self, view: View, registers: Registers) -> Verdict:
        """Nothing will wake it: the event's work, if any is left, is lost."""
        where = self.images.name(registers.pc)
        if self._outstanding(view):
            return Verdict(Outcome.LOST, f"sleeps at {where} with the event's work undone")
        return Verdict(Outcome.HANG, f"sleeps at {where}")


@functools.cache
def _exits(path: FilePath) -> dict[int, str]:
    """All instructions of the kernel that leave it, return to what was interrupted, or sleep."""
    kernel = Image(path)
    text = range(kernel.symbol("__text_start").address, kernel.symbol("__text_end").address)
    return {
        instruction.address: instruction.mnemonic
        for symbol in kernel.symbols
        if symbol.code and symbol.address in text
        for instruction in kernel.disassemble(symbol.address, symbol.address + symbol.size)
        if _leaves(instruction)
    }


def _changed_state(now: Core, point: _Point) -> list[str]:
    if (point.nest, point.state) == (now.nest, now.state):
        return []
    return [f"nest {now.nest} and state {STATES[now.state]} are left behind, "
            f"not {point.nest} and {STATES[point.state]}"]  # fmt: skip


def _changed_registers(point: _Point, registers: Registers, flags: int) -> list[str]:
    was = point.registers
    changed = registers.changed(was, [name for name in GENERAL if name != "rsp"])
    found = [f"{n} was {was[n]:#x}, goes back as {registers[n]:#x}" for n in changed]
    if flags != point.flags:
        found.append(f"rflags was {point.flags:#x}, goes back as {flags:#x}")
    return found


def _wrong_core(core: Core) -> list[str]:
    found = []
    if core.nest or core.state != USER_STATE:
        found.append(f"core_nest {core.nest}, state {core.state} in user mode")
    if core.pending or core.irq_pending:
        found.append(f"{core.pending:#x} pending in user mode")
    return found


def _two_words(raw: bytes) -> tuple[int, int]:
    return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")


def _pages(where: range) -> list[tuple[int, int]]:
    """The pieces of a range that are mapped or not as a whole."""
    pieces = []
    at = where.start
    while at < where.stop:
        size = min(where.stop, (at | (PIECE - 1)) + 1) - at
        pieces.append((at, size))
        at += size
    return pieces


def _read_groups(
    view: View, groups: Sequence[Sequence[tuple[int, int]]], cpu: int
) -> list[list[bytes]]:
    """Several lists of pieces by one round trip; zeros for what is not mapped."""
    flat = [piece for group in groups for piece in group]
    read = iter(view.machine.gdb.read_all(flat, cpu))
    return [[next(read) or bytes(size) for _, size in group] for group in groups]


class KernelProbe:
    """Names nest, state and stack at a boundary."""

    def __init__(self, images: Images, *, kernel: FilePath, cpu: int = 0) -> None:
        self.state = KernelState(kernel, images)
        self.cpu = cpu

    def __call__(self, machine: Machine, registers: Registers) -> Context:
        """Read them."""
        core = self.state.core(machine, self.cpu)
        return Context(core.nest, STATES[core.state], self._stack(registers.sp))

    def _stack(self, sp: int) -> str:
        area = self.state.core_address(self.cpu)
        for name, top in STACK_TOPS.items():
            if area + top - STACK_SIZE < sp <= area + top:
                return name
        return "user" if sp < KERNEL_HALF else "TCB"
