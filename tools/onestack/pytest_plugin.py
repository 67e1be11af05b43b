# SPDX-License-Identifier: MIT
"""pytest: a `machine` fixture that knows what to keep when a test fails.

    @pytest.mark.machine(cores=2, memory=64)
    def test_boots(machine):
        machine.console.expect("login:")

The marker's arguments go through the `guest_of` fixture, which a project overrides to say what
its own options mean; without that they are MachineSpec's, and the kernel comes from the command
line. A guest is started for each test, or with `shared=True` once for the tests of a file that
ask for the same one, until one of them fails. With `paused=True` it stands still at its reset
vector, and the test lets it go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from onestack import artefacts
from onestack.elf import Images
from onestack.inject import Injector
from onestack.machine import Machine, MachineSpec

CONSOLE_TAIL = 25  # lines of the console in the failure report


@dataclass(frozen=True)
class Guest:
    """What a test runs on: a machine, the ELF files in it, what it prints when it is ready."""

    spec: MachineSpec
    elfs: tuple[Path, ...] = ()
    ready: str = ""
    ready_within: float = 30.0


GuestOf = Callable[[Mapping[str, Any]], Guest]


@dataclass
class _Running:
    """A machine and what the plugin must know to bury it."""

    guest: Guest
    machine: Machine
    images: Images
    seen: int = 0  # bytes of console that --onestack-verbose has shown


@dataclass
class _Shared:
    """The guest that tests of one file share."""

    running: _Running | None = None

    def drop(self) -> None:
        """End it."""
        if self.running is not None:
            self.running.machine.close()
            self.running = None


@dataclass
class _Item:
    """What belongs to one test: its machine, whether it failed."""

    running: _Running | None = None
    failed: bool = False
    kept: list[Path] = field(default_factory=list)


_ITEM = pytest.StashKey[_Item]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the plugin."""
    group = parser.getgroup("onestack", "kernels under QEMU")
    group.addoption(
        "--onestack-kernel", metavar="ELF", help="kernel for tests whose project does not say which"
    )
    group.addoption(
        "--onestack-results",
        metavar="DIR",
        default="build/results",
        help="where a failed test's console, QMP, registers and backtrace go (default %(default)s)",
    )
    group.addoption(
        "--onestack-verbose",
        action="store_true",
        help="show QEMU's command line and the console of passing tests too (with -s)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        "machine(**options): the machine a test runs on; shared=True: with others of its file; "
        "paused=True: not yet started",
    )


def options_of(node: pytest.Item) -> dict[str, Any]:
    """The options for a test: of its file's or class's marker, overridden by its own."""
    options: dict[str, Any] = {}
    for mark in reversed(list(node.iter_markers("machine"))):
        options.update(mark.kwargs)
    return options


@pytest.fixture(scope="session")
def guest_of(pytestconfig: pytest.Config) -> GuestOf:
    """Make a guest of a marker's options. Projects override this."""

    def make(options: Mapping[str, Any]) -> Guest:
        kernel = options.get("kernel") or pytestconfig.getoption("--onestack-kernel")
        if kernel is None:
            pytest.fail("no kernel: give --onestack-kernel, or override the guest_of fixture")
        spec = MachineSpec(**{**options, "kernel": Path(kernel)})
        return Guest(spec, (Path(kernel),))

    return make


@pytest.fixture(scope="module")
def _shared_guest() -> Iterator[_Shared]:
    shared = _Shared()
    yield shared
    shared.drop()


@pytest.fixture
def machine(request: pytest.FixtureRequest, guest_of: GuestOf, _shared_guest: _Shared) -> Machine:
    """The machine that the test's `machine` marker asks for, running and ready."""
    item = request.node.stash.setdefault(_ITEM, _Item())
    options = options_of(request.node)
    share, paused = options.pop("shared", False), options.pop("paused", False)
    guest = guest_of(options)
    old = _shared_guest.running
    if old is not None and not (share and old.guest == guest and old.machine.alive):
        _shared_guest.drop()
        old = None
    running = old or _Running(guest, Machine(guest.spec, paused=True), Images.load(*guest.elfs))
    item.running = running
    if share:
        _shared_guest.running = running

    def bury() -> None:  # after the report of a failed setup, too
        if request.config.getoption("--onestack-verbose"):
            _show_console(running)
        if not share or item.failed or not running.machine.alive:
            running.machine.close()
            if _shared_guest.running is running:
                _shared_guest.running = None

    request.addfinalizer(bury)  # noqa: PT021  (a failed _start must find the machine alive)
    if old is None and not paused:
        _start(running, request.config)
    return running.machine


def _start(running: _Running, config: pytest.Config) -> None:
    if config.getoption("--onestack-verbose"):
        print("\nonestack:", " ".join(running.guest.spec.arguments()))
    running.machine.resume()
    if running.guest.ready:
        running.machine.console.expect(running.guest.ready, running.guest.ready_within)


def _show_console(running: _Running) -> None:
    text = running.machine.console.log[running.seen :].decode("utf-8", "replace")
    running.seen += len(running.machine.console.log) - running.seen
    print(text)


@pytest.fixture
def images(request: pytest.FixtureRequest, machine: Machine) -> Images:
    """The symbols of the guest's ELF files."""
    del machine  # it comes first, so that there is a guest
    running = request.node.stash[_ITEM].running
    assert isinstance(running, _Running)
    return running.images


@pytest.fixture
def injector(machine: Machine, images: Images) -> Injector:
    """Injects events into the test's machine."""
    return Injector(machine, images)


# ---- what is kept of a failure


def _folder(item: pytest.Item) -> Path:
    name = re.sub(r"[^\w.=-]+", "-", item.nodeid.replace(".py::", "-")).strip("-")
    return Path(
        item.config.invocation_params.dir, item.config.getoption("--onestack-results"), name
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the artefacts while the machine is there, and say where they are."""
    report = yield
    mine = item.stash.get(_ITEM, None)
    if mine is None or mine.running is None or call.when == "teardown" or not report.failed:
        return report
    mine.failed = True
    machine = mine.running.machine
    folder = _folder(item)
    try:
        mine.kept = artefacts.save(machine, folder, mine.running.images)
    except Exception as error:
        report.sections.append(("onestack", f"no artefacts: {error!r}"))
        return report
    tail = machine.console.text.splitlines()[-CONSOLE_TAIL:]
    report.sections.append(("console", "\n".join(tail)))
    report.sections.append(("onestack", f"console, QMP, registers, backtrace: {folder}"))
    item.user_properties.append(("onestack", str(folder)))
    report.user_properties = item.user_properties
    return report
