# SPDX-License-Identifier: MIT
"""The guest that is swept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path as FilePath

from onestack.elf import Images
from onestack.machine import Machine, MachineSpec
from onestack.oracle import Oracle, UserOracle
from onestack.patch import PatchFault
from onestack.path import Path, Probe, StackProbe


@dataclass(frozen=True)
class Target:
    """The guest to sweep, in a form that another process can be given.

    `ready` is a regular expression that the console must show. `setup` then brings the guest to
    where the paths are walked, for instance by typing a command. The path's start is passed
    `warm_up` times before the first round. `patience` is the time in seconds, without any stop,
    after which a guest counts as hanging. `oracle` and `probe` are made anew in each process.
    """

    spec: MachineSpec
    elfs: tuple[FilePath, ...]
    ready: str = ""
    setup: Callable[[Machine, Images, Path], None] | None = None
    oracle: Callable[[Images], Oracle] = UserOracle
    probe: Callable[[Images], Probe] = StackProbe
    faults: tuple[PatchFault, ...] = ()
    warm_up: int = 3
    patience: float = 2.0
