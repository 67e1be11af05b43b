# SPDX-License-Identifier: MIT
"""What is kept of a machine when something went wrong with it."""

from __future__ import annotations

import shlex
from contextlib import suppress
from functools import partial
from pathlib import Path

from onestack import exitcodes, trace
from onestack.elf import Images
from onestack.errors import OnestackError
from onestack.machine import Machine
from onestack.symbolize import Symbolizer


def save(machine: Machine, folder: Path, images: Images | None = None) -> list[Path]:
    """Write console log, QMP transcript, QEMU's own words, registers and backtraces to `folder`.

    A running machine is stopped for it. What cannot be had is said in the file's place. Of a kernel
    that keeps trace rings (trace.py) there is trace.json as well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []

    def write(name: str, content: str) -> None:
        path = folder / name
        path.write_text(content, encoding="utf-8")
        written.append(path)

    machine.console.drain()
    write("console.log", machine.console.text)
    write("qmp.log", "\n".join(machine.qmp.transcript) + "\n")
    write("command.txt", shlex.join(machine.spec.arguments()) + "\n")
    write("qemu.log", machine.qemu_log())
    registers, backtrace = _cpu_states(machine, images)
    write("registers.txt", registers)
    write("backtrace.txt", backtrace)
    if images and machine.alive:
        with suppress(OnestackError):  # most kernels have no rings, or have them switched off
            trace.write(machine, images, folder / "trace.json")
            written.append(folder / "trace.json")
    return written


def _cpu_states(machine: Machine, images: Images | None) -> tuple[str, str]:
    """Registers and backtraces of all CPUs, as text."""
    if not machine.alive:
        status = "" if machine.status is None else f" with {exitcodes.describe(machine.status)}"
        gone = f"QEMU had ended{status}: no registers\n"
        return gone, gone
    symbolizer = Symbolizer(images) if images else None
    dumps, traces = [], []
    try:
        machine.pause()
        for cpu in machine.gdb.cpus():
            registers = machine.gdb.registers(cpu)
            dumps.append(f"CPU {cpu}\n{registers.dump()}\n")
            if symbolizer:
                places = symbolizer.backtrace(registers, partial(machine.gdb.read, cpu=cpu))
                traces.append(f"CPU {cpu}\n" + "\n".join(f"  {place}" for place in places) + "\n")
    except OnestackError as error:
        dumps.append(f"not readable: {error}\n")
    return "\n".join(dumps), "\n".join(traces) or "no ELF file: no backtrace\n"
