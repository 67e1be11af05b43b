# SPDX-License-Identifier: MIT
"""Which global variables are written while the kernel works: those that are declared SHARED.

The build checks how these lie in memory (onestack.elfcheck.shared); what it cannot see is what is
written through a pointer, or without a locked instruction.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from conftest import TOP
from onestack.elf import Images
from onestack.machine import Machine, MachineSpec
from onestack.patch import PatchFault
from onestack.writes import Watcher

KERNEL = TOP / "build/tcb-ist-release/kernel.elf"
BEGUN, DONE = r"stress: \d+ operations on", r"stress: \d+ operations done"


def written(folder: Path, *faults: PatchFault) -> tuple[set[str], set[str]]:
    """What a run of stress on four cores writes: of the declared ones, and others."""
    images = Images.load(KERNEL)
    data, shared = (
        range(images.resolve(f"__{name}_start"), images.resolve(f"__{name}_end"))
        for name in ("data", "shared")
    )
    watcher = Watcher(data, folder)
    plain = MachineSpec(KERNEL, TOP / "build/user/init.elf", "run=stress 10000", cores=4)
    with Machine(replace(plain, args=watcher.arguments), paused=True) as machine:
        machine.run_to(images.resolve("kernel_main"))
        for fault in faults:
            fault.apply(machine, images)
        machine.resume()
        machine.console.expect(BEGUN, 60.0)
        watcher.watch()
        machine.console.expect(DONE, 100.0)
        found = {True: set[str](), False: set[str]()}
        for word in watcher.written():
            name = images.name(word.address).partition("+")[0]
            found[word.address in shared].add(name)
    return found[True], found[False]


def test_only_what_is_declared_is_written(tmp_path: Path) -> None:
    declared, others = written(tmp_path)
    assert {"idle_cores", "free_frames", "irq_object"} <= declared
    assert not others


def test_a_variable_that_is_not_declared_is_found(tmp_path: Path) -> None:
    """Planted: a core that goes idle notes it in a variable of the boot's."""
    images = Images.load(KERNEL)
    choose = images.range_of("sched_choose")
    code = images.images[0].disassemble(choose.start, choose.stop)
    note = next(one for one in code if one.mnemonic == "lock or")
    away = images.resolve("smp_cr3") - note.end
    changed = note.data[:-4] + away.to_bytes(4, "little", signed=True)
    fault = PatchFault("elsewhere", f"{note.address:#x}", changed, expect="lock or")
    assert "smp_cr3" in written(tmp_path, fault)[1]
