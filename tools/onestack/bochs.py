# SPDX-License-Identifier: MIT
"""Bochs: a second model of the CPU, for what TCG does not raise or check.

It boots CD images. A run goes on until the guest executes `xchg %bx, %bx` (Bochs' magic break, a
nop elsewhere) or the deadline comes; there is no injection into it and no gdbstub.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from onestack.errors import DeadlineError, OnestackError, UsageError
from onestack.machine import die_with

BIOS = Path("/usr/share/bochs/BIOS-bochs-latest")
VGA_BIOS = Path("/usr/share/bochs/VGABIOS-lgpl-latest")
CLOCK = 100_000_000  # guest instructions in a guest second

CONFIGURATION = """\
megs: {memory}
romimage: file={bios}
vgaromimage: file={vga}
cpu: model={cpu}, count={cores}, ips={clock}, reset_on_triple_fault=0
display_library: rfb, options="timeout=0"
ata0-master: type=cdrom, path={cdrom}, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={console}
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
magic_break: enabled=1
clock: sync=none
panic: action=fatal
log: {log}
"""

COMMANDS = "c\nq\n"  # of the debugger, which Debian's Bochs always starts in


@dataclass(frozen=True)
class BochsSpec:
    """A machine under Bochs. `cpu` is one of `bochs --help cpu`, `memory` is in MiB."""

    cdrom: Path
    cpu: str = "corei7_skylake_x"
    cores: int = 1
    memory: int = 256

    def __post_init__(self) -> None:
        """Refuse what cannot work, by UsageError."""
        if not self.cdrom.is_file():
            raise UsageError(f"no such cdrom: {self.cdrom}", "Has it been built?")
        if not 1 <= self.cores <= 254:
            raise UsageError(f"cores={self.cores} is not 1 to 254")


class BochsError(OnestackError):
    """Bochs is absent, refused its configuration, or gave up on the guest."""


def _check_installed() -> None:
    if shutil.which("bochs") is None:
        raise BochsError("no bochs", "Install the package bochs")
    for path, package in ((BIOS, "bochsbios"), (VGA_BIOS, "vgabios")):
        if not path.exists():
            raise BochsError(f"no {path}", f"Install the package {package}")


def _run(folder: Path, timeout: float) -> int:
    """Run Bochs on the configuration in FOLDER; return its status. DeadlineError at `timeout`."""
    parent = os.getpid()
    command = ["bochs", "-q", "-f", "configuration", "-rc", "commands"]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=lambda: die_with(parent),  # noqa: PLW1509  (calls into libc only)
        )
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise DeadlineError(
                f"the guest has not ended after {timeout:g} s under Bochs"
            ) from None
        finally:
            process.kill()
            process.wait()


def run_bochs(spec: BochsSpec, timeout: float = 60.0) -> str:
    """Boot `spec` and return what came on COM1 until the guest ended itself.

    `timeout` is in seconds. Raises BochsError if Bochs does not run or panics (a triple fault is
    one such case), DeadlineError if the guest does not end; both messages carry the console.
    """
    _check_installed()
    with tempfile.TemporaryDirectory(prefix="onestack-") as name:
        folder = Path(name)
        console = folder / "console"
        (folder / "commands").write_text(COMMANDS)
        (folder / "configuration").write_text(
            CONFIGURATION.format(
                memory=spec.memory,
                bios=BIOS,
                vga=VGA_BIOS,
                cpu=spec.cpu,
                cores=spec.cores,
                clock=CLOCK,
                cdrom=spec.cdrom.resolve(),
                console=console,
                log=folder / "log",
            )
        )
        try:
            status = _run(folder, timeout)
        except DeadlineError as error:
            raise DeadlineError(f"{error}: {_tail(console)}") from None
        if status != 0:
            raise BochsError(
                f"Bochs ended with {status}: {_reason(folder)}; console: {_tail(console)}"
            )
        return _text(console)


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _tail(path: Path) -> str:
    return repr(_text(path)[-200:])


def _reason(folder: Path) -> str:
    """The first panic that Bochs has told of, before it had its log or in there."""
    lines = (_text(folder / "output") + _text(folder / "log")).splitlines()
    panics = [line.partition(">>PANIC<<")[2].strip() for line in lines if ">>PANIC<<" in line]
    return panics[0] if panics else "no reason given"
