# SPDX-License-Identifier: MIT
"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

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
