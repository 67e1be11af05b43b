# SPDX-License-Identifier: MIT
"""What it takes to come up: instructions, by function; bytes of the image; seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from onestack import coverage, plugins
from onestack.bench import Metric
from onestack.elf import Image
from onestack.machine import Machine, MachineSpec

TOP = Path(__file__).resolve().parents[2]
WITHIN = 60.0  # seconds for one boot
PROMPT = "onestack> "


@dataclass(frozen=True)
class Way:
    """From the kernel's entry to the first user instruction: how often each function executes."""

    functions: Counter[str]

    @property
    def instructions(self) -> int:
        """All of them."""
        return self.functions.total()


def count_boot(spec: MachineSpec) -> Way:
    """Boot, and stop before the first instruction of the first user program."""
    assert spec.kernel is not None
    assert spec.initrd is not None
    kernel = Image(spec.kernel)
    code = [range(start, start + len(content)) for start, content in kernel.code()]
    with tempfile.TemporaryDirectory() as name:
        plugin = plugins.build("executed", TOP / "build/plugins")
        arguments = tuple(coverage.arguments(plugin, Path(name), code))
        with Machine(replace(spec, args=arguments), paused=True) as machine:
            machine.run_to(Image(spec.initrd).entry, WITHIN)
            executed = coverage.Counts(Path(name) / str(machine.pid)).executed()
    functions: Counter[str] = Counter()
    for address, times in executed.items():
        symbol = kernel.lookup(address)
        functions[symbol.name if symbol else "?"] += times
    return Way(functions)


def image_bytes(kernel: Path) -> dict[str, int]:
    """`text` as size(1) says it, which is how the peers were measured: all that is not writable."""
    with kernel.open("rb") as file:
        sections = [
            section
            for section in ELFFile(file).iter_sections()
            if section["sh_flags"] & SH_FLAGS.SHF_ALLOC
        ]
        kept = [s for s in sections if not s["sh_flags"] & SH_FLAGS.SHF_WRITE]
        code = [s for s in kept if s["sh_flags"] & SH_FLAGS.SHF_EXECINSTR]
        return {
            "kernel.text_bytes": sum(s["sh_size"] for s in kept),
            "kernel.code_bytes": sum(s["sh_size"] for s in code),
        }


# ---- on a wall clock: told, and compared with nothing


def _seconds(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return round(time.monotonic() - start, 2)


def _clean_build() -> float:
    """A copy of the sources, built with two jobs; the tools are there already.

    The CPU's seconds of all jobs: half of them is what two idle cores need at least.
    """
    with tempfile.TemporaryDirectory() as name:
        listed = subprocess.run(
            ["git", "ls-files", "-coz", "--exclude-standard"],
            cwd=TOP,
            capture_output=True,
            text=True,
            check=True,
        )
        for file in filter(None, listed.stdout.split("\0")):
            if (TOP / file).is_file():
                target = Path(name) / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(TOP / file, target)
        tools = Path(sys.executable).parent
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        command = [str(tools / "scons"), "-Q", "-j2"]
        before = os.times()
        subprocess.run(command, cwd=name, env=environment, capture_output=True, check=True)
        after = os.times()
    spent = after.children_user + after.children_system
    return round(spent - before.children_user - before.children_system, 2)


def _prompt(spec: MachineSpec) -> None:
    with Machine(spec) as machine:
        machine.console.expect_exact(PROMPT, WITHIN)


def wall_figures(spec: MachineSpec, entry: str, targets: dict[str, float]) -> list[Metric]:
    """Seconds: a clean build, and from QEMU's start to the shell's prompt. Once each."""
    plain = replace(spec, append="", icount=None)
    start = time.monotonic()
    spent = _clean_build()
    found = {
        "build.seconds": round(time.monotonic() - start, 2),
        "build.cpu_seconds": spent,
        "prompt.seconds.1_core": _seconds(lambda: _prompt(plain)),
        "prompt.seconds.64_cores": _seconds(lambda: _prompt(replace(plain, cores=64))),
    }
    return [
        Metric(name, "seconds", value, value, value, 1, entry, 1, targets.get(name))
        for name, value in found.items()
    ]
