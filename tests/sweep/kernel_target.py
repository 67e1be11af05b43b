# SPDX-License-Identifier: MIT
"""Onestack as a target of sweeps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path as FilePath

from kernel_oracle import KernelOracle, KernelProbe
from kernel_paths import RULES, WALKS

from onestack.campaign import Labels
from onestack.elf import Images
from onestack.machine import Machine, MachineSpec
from onestack.patch import PatchFault
from onestack.path import Path
from onestack.target import Target

TOP = FilePath(__file__).resolve().parents[2]
MODELS = ("tcb", "percpu", "ist", "perthread")
START = 10.0  # seconds for a walk to begin
HOUR_US = 3600 * 10**6  # as the kernel's `timeslice=`


@dataclass(frozen=True)
class Variant:
    """A build of the kernel."""

    entry: str = "tcb"
    nmi: str = "ist"
    debug: bool = False

    @property
    def kernel(self) -> FilePath:
        """Its ELF file."""
        kind = "debug" if self.debug else "release"
        return TOP / f"build/{self.entry}-{self.nmi}-{kind}/kernel.elf"

    def labels(self, cores: int = 1) -> Labels:
        """For sweep.json."""
        return Labels(self.entry, self.nmi, cores)


DEFAULT = Variant()


def begin_walk(machine: Machine, images: Images, path: Path) -> None:
    """Tell user/tests/sweep which loop to enter."""
    del images
    walk = WALKS[path.name]
    machine.console.send_line(walk)
    machine.console.expect(rf"sweep: {walk}\s", START)


def target(
    variant: Variant = DEFAULT,
    *faults: PatchFault,
    patience: float = 2.0,
    cores: int = 1,
    append: str = "",
) -> Target:
    """A build of the kernel, with faults planted; `append` is added to its command line.

    On one core time is the count of instructions. On several it is real, so that they really run
    at the same time; the others do what user/tests/sweep/load.c says. Slices never end there: one
    of the walker's would while the harness thinks, and the path be another in each round.
    """
    kernel, user = variant.kernel, TOP / "build/user"
    options = append if cores == 1 else f"timeslice={HOUR_US} {append}"
    return Target(
        spec=MachineSpec(
            kernel=kernel,
            initrd=user / "init.elf",
            append=f"{options} run=sweep".strip(),
            memory=64,
            cores=cores,
            icount=0 if cores == 1 else None,
            sleep=True,
            snapshots=True,
            debug_exit=False,  # after a panic the machine is still there, to be restored
        ),
        elfs=(kernel, user / "sweep.elf"),
        ready="sweep: ready",
        setup=begin_walk,
        oracle=partial(
            KernelOracle,
            kernel=kernel,
            rules=RULES,
            own_stacks=variant.entry == "perthread",
        ),
        probe=partial(KernelProbe, kernel=kernel),
        faults=faults,
        patience=patience,
    )
