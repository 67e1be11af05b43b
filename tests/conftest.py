# SPDX-License-Identifier: MIT
"""What all tests share."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from onestack.deadline import Deadline
from onestack.elf import Images
from onestack.machine import MachineSpec

TOP = Path(__file__).resolve().parent.parent
TOY = TOP / "build/foreign/toy.elf"


def toy_spec(**options: object) -> MachineSpec:
    """A machine that boots the toy kernel. `options` as for MachineSpec."""
    assert TOY.is_file(), f"{TOY} is missing: run `tools/env scons` first"
    return MachineSpec(kernel=TOY, memory=32, **options)  # type: ignore[arg-type]


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
    """Whether a process has ended within a few seconds."""
    deadline = Deadline(5.0)
    while not gone(pid) and not deadline.expired:
        time.sleep(0.01)
    return gone(pid)
