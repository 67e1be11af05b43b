# SPDX-License-Identifier: MIT
"""A kernel described in a TOML file: how it boots, its paths, who judges.

Paths in the file are relative to it. Every key is listed here; an unknown one is an error.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path as FilePath
from typing import Any, Literal

from onestack.campaign import Labels, Part
from onestack.console import DEFAULT_BAD_PATTERNS, BadPattern
from onestack.elf import Images
from onestack.errors import Failure, UsageError
from onestack.events import Event, Shot, event_named, standard_events
from onestack.inject import Injection, Irq, Nmi
from onestack.machine import BootWay, Machine, MachineSpec
from onestack.oracle import UserOracle
from onestack.patch import PatchFault
from onestack.path import Path, StackProbe
from onestack.profile import Plan, Purpose
from onestack.target import Target

CLOCKS = ("instructions", "real")
FILES = ("kernel", "initrd", "cdrom", "disk")
MACHINE_KEYS = {
    *FILES,
    *("append", "boot", "memory", "cores", "cpu", "machine", "thread", "args", "qemu", "clock"),
}
GUEST_KEYS = {"elfs", "ready", "panic", "killed", "type", "prompt", "entry", "nmi"}
PATH_KEYS = {"name", "start", "end", "after", "stimulus", "scope", "cpu", "max_instructions"}
ORACLE_KEYS = {"registers", "stack", "memory", "fail", "python"}
SWEEP_KEYS = {"events", "irq", "breakpoint_at", "nmi_by", "patience", "warm_up"}
FAULT_KEYS = {"name", "at", "code", "expect", "length"}
BENCH_KEYS = {"type", "end", "within", "targets"}
PROFILE_KEYS = {"name", "start", "first", "append", "skip", "irq"}
PURPOSE_KEYS = {"name", "functions", "line"}
TOP_KEYS = {
    *("machine", "guest", "path", "oracle", "stacks", "sweep", "fault", "bench"),
    *("profile", "purpose"),
}


@dataclass(frozen=True)
class TypedSetup:
    """A setup that types a line at the console and waits for an answer."""

    text: str
    prompt: str

    def __call__(self, machine: Machine, images: Images, path: Path) -> None:
        """Type it."""
        del images, path
        machine.console.send_line(self.text)
        machine.console.expect(self.prompt, 60.0)


@dataclass(frozen=True)
class BenchPlan:
    """How a guest is made to print its figures: see bench.py."""

    text: str = ""
    end: str = r"(?m)^bench: end\r?\n"
    within: float = 120.0
    targets: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class KernelFile:
    """What a file says."""

    target: Target
    paths: tuple[Path, ...]
    events: tuple[Event, ...]
    labels: Labels
    bench: BenchPlan
    profiles: tuple[Plan, ...] = ()
    purposes: tuple[Purpose, ...] = ()

    def profile(self, name: str) -> Plan:
        """The profile of this name."""
        for plan in self.profiles:
            if plan.name == name:
                return plan
        known = ", ".join(plan.name for plan in self.profiles) or "none"
        raise UsageError(f"no profile {name!r}", f"There are: {known}")

    def parts(self, paths: list[str], events: list[str]) -> list[Part]:
        """The paths and events of these names, each under each; empty: all."""
        named = {path.name: path for path in self.paths}
        for name in paths:
            if name not in named:
                raise UsageError(f"no path {name!r}", f"There are: {', '.join(named)}")
        known = {event.name: event for event in self.events}
        chosen = [event_named(name, known) for name in events] or self.events
        return [Part(named[name], event) for name in (paths or named) for event in chosen]


def load(path: FilePath) -> KernelFile:
    """Read a kernel file. UsageError says what is wrong with it."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}") from error
    try:
        return _Reader(path, content).kernel_file()
    except (TypeError, ValueError, KeyError) as error:
        raise UsageError(f"{path}: {error}") from error


class _Reader:
    """Turns the tables of one file into what they mean."""

    def __init__(self, path: FilePath, content: Mapping[str, Any]) -> None:
        self._path = path
        self._here = path.resolve().parent
        self._content = content
        self._check("the file", content, TOP_KEYS)

    def _check(self, where: str, table: Mapping[str, Any], known: set[str]) -> None:
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1) or sorted(known)
                raise UsageError(
                    f"{self._path}: unknown key {key!r} in {where}", f"Known: {', '.join(near)}"
                )

    def _table(self, name: str, known: set[str]) -> dict[str, Any]:
        table = self._content.get(name, {})
        if not isinstance(table, dict):
            raise UsageError(f"{self._path}: {name} is no table", f"Write [{name}]")
        self._check(f"[{name}]", table, known)
        return table

    def _tables(self, name: str, known: set[str]) -> list[dict[str, Any]]:
        tables = self._content.get(name, [])
        if not isinstance(tables, list):
            raise UsageError(f"{self._path}: {name} is no list of tables", f"Write [[{name}]]")
        for table in tables:
            self._check(f"[[{name}]]", table, known)
        return tables

    def _regex(self, text: str) -> str:
        try:
            re.compile(text)
        except re.error as error:
            problem = f"{self._path}: {text!r} is no regular expression: {error}"
            raise UsageError(problem) from None
        return text

    def _machine(self, panics: list[str], killed: list[str]) -> MachineSpec:
        options = dict(self._table("machine", MACHINE_KEYS))
        for name in FILES:
            if name in options:
                options[name] = self._here / options[name]
        options["boot"] = BootWay(options.get("boot", "pvh"))
        options["args"] = tuple(options.get("args", ()))
        for text in (*panics, *killed):
            self._regex(text)
        patterns = [BadPattern(text) for text in panics]
        patterns += [BadPattern(text, kind=Failure.KILLED) for text in killed]
        clock = options.pop("clock", CLOCKS[0])
        if clock not in CLOCKS:
            raise UsageError(f"{self._path}: clock = {clock!r}", f"There are: {', '.join(CLOCKS)}")
        # a clock of instructions, so that paths repeat; asleep in real time, so that it stands
        # still when the harness stops the guest
        counted = clock == CLOCKS[0]
        return MachineSpec(
            **options,
            icount=0 if counted else None,
            sleep=counted,
            snapshots=True,
            bad_patterns=(*patterns, *DEFAULT_BAD_PATTERNS),
        )

    def _oracle(self) -> Callable[[Images], Any]:
        table = self._table("oracle", ORACLE_KEYS)
        if "python" in table:
            return load_python(self._here, table["python"])
        options: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
        }
        return partial(UserOracle, **options)

    def _stimulus(self, table: Mapping[str, Any] | None) -> Injection | None:
        if table is None:
            return None
        self._check("stimulus", table, {"irq", "nmi", "cpu"})
        cpu = table.get("cpu", 0)
        return Irq(table["irq"], cpu) if "irq" in table else Nmi(cpu)

    def _paths(self) -> tuple[Path, ...]:
        found = []
        for table in self._tables("path", PATH_KEYS):
            options = dict(table)
            for key in ("end", "scope"):
                value = options.get(key, ())
                options[key] = (value,) if isinstance(value, str) else tuple(value)
            options["stimulus"] = self._stimulus(options.get("stimulus"))
            found.append(Path(**options))
        return tuple(found)

    def _events(self, table: Mapping[str, Any]) -> tuple[Event, ...]:
        way: Literal["msi", "qmp"] = table.get("nmi_by", "msi")
        if way not in ("msi", "qmp"):
            raise UsageError(f"{self._path}: nmi_by is {way!r}", "Use msi or qmp")
        known = standard_events(table.get("irq", 0xF0), 0, table.get("breakpoint_at", ""))
        chosen = [event_named(name, known) for name in table.get("events", ("nmi",))]
        return tuple(_with_nmi_by(way, event) for event in chosen)

    def kernel_file(self) -> KernelFile:
        """All of it."""
        guest = self._table("guest", GUEST_KEYS)
        sweep = self._table("sweep", SWEEP_KEYS)
        bench = self._table("bench", BENCH_KEYS)
        spec = self._machine(guest.get("panic", []), guest.get("killed", []))
        elfs = tuple(self._here / name for name in guest.get("elfs", ()))
        if not elfs and spec.kernel is not None:
            elfs = (spec.kernel,)
        target = Target(
            spec,
            elfs,
            ready=self._regex(guest.get("ready", "")),
            setup=TypedSetup(guest["type"], guest["prompt"]) if "type" in guest else None,
            oracle=self._oracle(),
            probe=partial(StackProbe, stacks=self._content.get("stacks", {})),
            faults=tuple(
                PatchFault(
                    f["name"],
                    f["at"],
                    bytes.fromhex(f["code"]),
                    f.get("expect", ""),
                    f.get("length", 0),
                )
                for f in self._tables("fault", FAULT_KEYS)
            ),
            warm_up=sweep.get("warm_up", 3),
            patience=sweep.get("patience", 2.0),
        )
        plan = BenchPlan(
            bench.get("type", ""),
            bench.get("end", BenchPlan.end),
            bench.get("within", BenchPlan.within),
            tuple(bench.get("targets", {}).items()),
        )
        labels = Labels(guest.get("entry", ""), guest.get("nmi", ""), spec.cores)
        profiles = tuple(Plan(**p) for p in self._tables("profile", PROFILE_KEYS))
        purposes = tuple(
            Purpose(p["name"], tuple(p.get("functions", ["*"])), p.get("line", ""))
            for p in self._tables("purpose", PURPOSE_KEYS)
        )
        events = self._events(sweep)
        return KernelFile(target, self._paths(), events, labels, plan, profiles, purposes)


def _with_nmi_by(way: Literal["msi", "qmp"], event: Event) -> Event:
    """The event with its NMIs sent that way."""
    shots = tuple(
        Shot(Nmi(shot.what.cpu, way), shot.on) if isinstance(shot.what, Nmi) else shot
        for shot in event.shots
    )
    return Event(event.name, shots, event.plant)


def load_python(here: FilePath, name: str) -> Callable[[Images], Any]:
    """`file.py:callable`, relative to a folder: what somebody plugs in."""
    file, separator, attribute = name.partition(":")
    path = here / file
    if not separator or not path.is_file():
        raise UsageError(f"no Python file at {name!r}", "Write file.py:callable")
    module = sys.modules.get(path.stem)
    if module is None:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # workers of a campaign import it by this name
        sys.modules[path.stem] = module
        sys.path.append(str(here))
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[path.stem]
            raise UsageError(f"{path}: {type(error).__name__}: {error}") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise UsageError(f"{path} has no callable {attribute!r}")
    return found  # type: ignore[no-any-return]
