# SPDX-License-Identifier: MIT
"""What all tests share."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from onestack.deadline import Deadline
from onestack.elf import Images
from onestack.machine import BootWay, Machine, MachineSpec
from onestack.pytest_plugin import Guest, GuestOf

pytest_plugins = ["agent_fixtures"]

TOP = Path(__file__).resolve().parent.parent
TOY = TOP / "build/foreign/toy.elf"


def toy_spec(**options: object) -> MachineSpec:
    """A machine that boots the toy kernel. `options` as for MachineSpec."""
    assert TOY.is_file(), f"{TOY} is missing: run `tools/env scons` first"
    return MachineSpec(kernel=TOY, memory=32, **options)  # type: ignore[arg-type]


# What the `machine` marker may say of our own kernel, and what it is if it says nothing.
VARIANT = {"entry": "tcb", "nmi": "ist", "debug": False, "toolchain": "gcc"}


# Several cores in turns on one host thread. An idle guest waits in real time: else its clock would
# jump to the next timeout whenever the harness thinks.
IN_TURNS = {"icount": 0, "sleep": True}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Ours."""
    parser.addoption(
        "--icount", action="store_true", help="tests of several cores: under -icount, in turns"
    )


@pytest.fixture(scope="session")
def guest_of(pytestconfig: pytest.Config) -> GuestOf:
    """Our kernel's variants: `machine(entry=, nmi=, debug=, toolchain=)`, and MachineSpec's."""

    def make(options: Mapping[str, Any]) -> Guest:
        chosen = {key: options.get(key, value) for key, value in VARIANT.items()}
        name = f"{chosen['entry']}-{chosen['nmi']}-{'debug' if chosen['debug'] else 'release'}"
        build = TOP / "build" / (name + ("-clang" if chosen["toolchain"] == "clang" else ""))
        kernel, init = build / "kernel.elf", TOP / "build/user/init.elf"
        program = str(options.get("append", "")).partition("run=")[2].partition(" ")[0]
        image = TOP / f"build/user/{program}.elf"  # of a name that no program has there is none
        user = (image,) if program and image.exists() else ()
        spec: dict[str, Any] = {"kernel": kernel, "initrd": init}
        if options.get("boot") in (BootWay.ISO_BIOS, BootWay.ISO_UEFI):
            spec = {"cdrom": build / "onestack.iso"}
        spec |= {key: value for key, value in options.items() if key not in VARIANT}
        if pytestconfig.getoption("--icount") and spec.get("cores", 1) > 1:
            spec = IN_TURNS | spec
        ready = spec.pop("ready", "")
        return Guest(MachineSpec(**spec), (kernel, *(user or (init,))), ready)

    return make


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker; let Ctrl-C reach children, which ignore it if a shell put us behind."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers",
        "cores(*counts, icount=()): once on a machine with so many cores, for each of the numbers; "
        "and for those of icount with the cores in turns",
    )


@pytest.fixture(scope="module")
def cores(request: pytest.FixtureRequest) -> int:
    """How many cores the machine of this round has."""
    return int(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test marked `cores(1, 2)` becomes two, with `icount=(2,)` a third."""
    mark = metafunc.definition.get_closest_marker("cores")
    if mark is None:
        return
    metafunc.fixturenames.append("cores")
    machine = pytest.mark.machine
    rounds = [
        pytest.param(count, marks=machine(cores=count), id=f"{count}-cores") for count in mark.args
    ]
    rounds += [
        pytest.param(count, marks=machine(cores=count, **IN_TURNS), id=f"{count}-cores-icount")
        for count in mark.kwargs.get("icount", ())
    ]
    metafunc.parametrize("cores", rounds, indirect=True, scope="module")


@pytest.fixture(scope="session")
def toy_images() -> Images:
    return Images.load(TOY)


def gone(pid: int) -> bool:
    """Whether a process has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_gone(pid: int) -> bool:
    """Whether a process ends soon."""
    deadline = Deadline(20.0)
    while not gone(pid) and not deadline.expired:
        time.sleep(0.01)
    return gone(pid)


def panic_report(machine: Machine, start: int = 0) -> str:
    """What the console said from `start` on, to the end of a panic's report.

    The failure of whoever waited does not wait for that: a busy host may be slow to bring it.
    """
    deadline = Deadline(20.0)
    while "panic: end" not in machine.console.text[start:]:
        deadline.check("end of the panic's report")
        time.sleep(0.01)
        machine.console.drain()
    return machine.console.text[start:]


LATENCY = 0.1  # seconds that a failure may take from the host's side of the wire to the test


def at_once(attempt: Callable[[], float]) -> bool:
    """Whether one of some attempts takes no longer: a busy host may hold up any of them.

    What is wrong with the harness holds up all.
    """
    return any(attempt() < LATENCY for _ in range(20))
