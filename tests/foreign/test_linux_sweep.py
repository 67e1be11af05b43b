# SPDX-License-Identifier: MIT
"""A real kernel without symbols: it survives, and a harness that breaks it on purpose sees that."""

from __future__ import annotations

from dataclasses import dataclass, replace

import debian_kernel
import pytest

from conftest import TOP
from onestack import kernelfile
from onestack.campaign import Campaign, Part, PartResult
from onestack.events import Event, Shot
from onestack.inject import Nmi
from onestack.machine import Machine
from onestack.oracle import Outcome

TOML = TOP / "tests/foreign/linux.toml"
SHORT = 24  # boundaries of a path here; `scons sweep` has them all


@pytest.fixture(scope="module")
def kernel() -> kernelfile.KernelFile:
    try:
        debian_kernel.make()
    except debian_kernel.NotFetchedError as error:
        pytest.skip(f"apt does not bring {debian_kernel.PACKAGE}: {error}")
    return kernelfile.load(TOML)


def sweep(kernel: kernelfile.KernelFile, path: str, event: Event) -> PartResult:
    [part] = [Part(one, event) for one in kernel.paths if one.name == path]
    [result] = Campaign(kernel.target, [part], limit=SHORT).run()
    assert not result.unreached, result.unreached
    return result


@pytest.mark.parametrize("path", ["syscall", "timer"])
def test_linux_survives(kernel: kernelfile.KernelFile, path: str) -> None:
    result = sweep(kernel, path, kernel.events[0])
    assert result.outcomes() == {"survived": SHORT}
    assert result.instructions > 150  # the whole way in and out
    said = "; ".join(result.assumptions)
    assert "are in no ELF file" in said


def test_linux_survives_on_two_cpus(kernel: kernelfile.KernelFile) -> None:
    """By real time: QEMU's clock of instructions does not get this kernel past its second CPU."""
    spec = replace(
        kernel.target.spec,
        cores=2,
        append=f"{kernel.target.spec.append} isolcpus=1",  # the program stays on the first
        icount=None,
        sleep=False,
    )
    [path] = [one for one in kernel.paths if one.name == "syscall"]
    target = replace(kernel.target, spec=spec)
    [result] = Campaign(target, [Part(path, kernel.events[0])], limit=SHORT).run()
    assert result.outcomes() == {"survived": SHORT}
    said = "; ".join(result.assumptions)
    assert "events strike CPU 0; the others run on meanwhile" in said
    assert "time is real" in said


@dataclass(frozen=True)
class Harm(Nmi):
    """An NMI that costs a register: what a handler that saves too little does."""

    register: str = "rbx"
    name: str = "nmi that clobbers"

    def fire(self, machine: Machine) -> None:
        value = machine.gdb.registers(self.cpu)[self.register]
        machine.gdb.write_register(self.register, value ^ 0xFF, self.cpu)
        super().fire(machine)


def test_a_clobbered_register_is_found_where_it_is_live(kernel: kernelfile.KernelFile) -> None:
    """The user's r15 is in the register at the beginning and the end, and saved in between."""
    harm = Event("harm", (Shot(Harm(register="r15")),))
    near = replace(kernel.paths[0], name="entry")
    [result] = Campaign(kernel.target, [Part(near, harm)], limit=SHORT).run()
    outcomes = [cell.outcome for cell in result.cells]
    # first and last instruction: in user mode and just before it
    assert outcomes[0] is Outcome.CORRUPTED
    assert "r15 is 0xccccc33, not 0xccccccc" in result.cells[0].detail
    assert Outcome.SURVIVED in outcomes
