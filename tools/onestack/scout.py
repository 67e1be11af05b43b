# SPDX-License-Identifier: MIT
"""What a kernel file needs to know of a kernel, from its ELF files and from booting it once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from onestack.cpu import cpu_state, lint1_is_nmi
from onestack.deadline import Deadline
from onestack.elf import Image, Images, disassemble
from onestack.errors import DeadlineError, GuestError, OnestackError
from onestack.machine import Machine, MachineSpec

CALLS = (b"\x0f\x05", b"\xcd\x80", b"\x0f\x34")  # syscall, int 0x80, sysenter
CALL_TEXTS = ("syscall", "int 0x80", "sysenter")
MOST_SITES = 200  # breakpoints at a time
OFTEN = 4  # visits that make a site one that the guest comes to again and again
PANIC = r"panic|PANIC|Panic"
KILLED = r"[Ss]egfault|SEGFAULT|[Pp]rocess killed"
LINUX = b"HdrS"  # at LINUX_AT of every bootable image of Linux
LINUX_AT = 0x202


@dataclass(frozen=True)
class Site:
    """A system call instruction: where, the instruction after it, how often it was come to."""

    start: str
    end: str
    address: int
    visits: int = 0


@dataclass(frozen=True)
class Findings:
    """What one boot has shown. `problem` says why it has shown no more."""

    sites: tuple[Site, ...] = ()
    ready: str = ""
    long_mode: bool | None = None
    lint1: bool = False
    problem: str = ""


def is_linux(path: Path) -> bool:
    """Whether a file is an image of Linux that QEMU's -kernel boots."""
    with path.open("rb") as file:
        return file.read(LINUX_AT + len(LINUX))[LINUX_AT:] == LINUX


def call_sites(images: Images) -> list[Site]:
    """The system call instructions in the files, as far as symbols lead to them."""
    found = []
    for image in images.images:
        for address in sorted(set(_candidates(image))):
            symbol = image.lookup(address)
            if symbol is None:
                continue
            code = image.bytes_at(symbol.address, address - symbol.address + 2)
            last = None
            for last in disassemble(code, symbol.address, image.bits):  # noqa: B007
                pass
            if last and last.address == address and last.text in CALL_TEXTS:
                found.append(Site(images.name(address), images.name(last.end), address))
    return found


def _candidates(image: Image) -> Iterator[int]:
    for start, data in image.code():
        for pattern in CALLS:
            yield from (start + match.start() for match in re.finditer(re.escape(pattern), data))


def console_patterns(images: Images, words: str, most: int = 3) -> list[str]:
    """Patterns for sentences with one of `words` that the files' own strings may print."""
    found: dict[str, None] = {}
    printed = re.compile(rb"[\x20-\x7e]*(?:" + words.encode() + rb")[\x20-\x7e]*")
    for image in images.images:
        for match in printed.finditer(image.path.read_bytes()):
            text = match[0].decode().partition("%")[0]
            if " " in text.strip():  # a sentence, not a symbol's name
                found[re.escape(text).replace("\\ ", " ") + r"[^\n]*\n"] = None
    return list(found)[:most]


@dataclass
class _Look:
    """One boot, watched."""

    machine: Machine
    sites: Sequence[Site]
    visits: Counter[int] = field(default_factory=Counter)
    shown: str = ""  # what the console had shown when a site was first come to

    def run(self, deadline: Deadline) -> None:
        """Count the visits until one site has been come to often enough, and some more."""
        machine, by_address = self.machine, {site.address for site in self.sites}
        machine.gdb.change_breakpoints(by_address)
        while not deadline.expired:
            machine.resume()
            stop = machine.gdb.wait_stop(deadline, "system call")
            address = machine.gdb.registers(stop.cpu).pc
            if address in by_address:
                if not self.visits:
                    machine.console.drain()
                    self.shown = machine.console.text
                self.visits[address] += 1
            if max(self.visits.values(), default=0) >= OFTEN * max(4, len(self.visits)):
                return


def boot_and_look(spec: MachineSpec, images: Images, seconds: float) -> Findings:
    """Boot the kernel and watch it for a while. The guest's faults do not raise."""
    sites = call_sites(images)[:MOST_SITES]
    spec = replace(spec, icount=None, snapshots=False)
    problem, state, lint1 = "", None, False
    with Machine(spec, paused=True) as machine:
        look = _Look(machine, sites)
        try:
            look.run(Deadline(seconds))
        except (DeadlineError, GuestError) as error:
            problem = str(error)
        with suppress(OnestackError):
            machine.pause()
            state, lint1 = cpu_state(machine), lint1_is_nmi(machine)
        machine.console.drain()
        shown = look.shown or machine.console.text
    often = [s for s in sites if look.visits[s.address] >= OFTEN]
    if not sites:
        problem = "no system call instruction in any function of the files"
    elif not often:
        problem = problem or "the guest comes to no system call again and again"
    return Findings(
        tuple(replace(s, visits=look.visits[s.address]) for s in often),
        _ready_line(shown),
        state.long_mode if state else None,
        lint1,
        problem if not often else "",
    )


def _ready_line(shown: str) -> str:
    """The last whole line of the console as a pattern, without what may differ next time."""
    lines = [line.strip() for line in shown.splitlines()[-8:] if line.strip()]
    if not lines or not shown.endswith("\n"):
        lines = lines[:-1]
    for line in reversed(lines):
        text = re.sub(r"^\[[ 0-9.]+\] *", "", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line))
        if len(text) >= 4:
            stable = re.escape(text).replace("\\ ", " ")
            return re.sub(r"\b0x[0-9a-f]+|\d+", r"\\w+", stable)
    return ""
