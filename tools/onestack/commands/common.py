# SPDX-License-Identifier: MIT
"""What the commands share: what one is, exit codes, the machine that options describe."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onestack import kernelfile
from onestack.bars import waiting
from onestack.errors import UsageError
from onestack.machine import BootWay, Machine, MachineSpec

OK, FOUND, USAGE, ENVIRONMENT, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 4, 130
EXIT_CODES = """exit codes:
  0    done; everything survived, every target is met
  1    the guest failed: a panic, a reset, a boundary not survived, a target missed
  2    the command line or a file it names is wrong
  3    this computer lacks something: QEMU, a recent one, gdb, room on the disk
  4    not everything could be judged
  130  interrupted (Ctrl-C); no QEMU is left behind
"""

WITHIN = 60.0  # seconds for a guest to come up, or to a place


@dataclass(frozen=True)
class Command:
    """A subcommand: what it does, an example, its arguments, its function."""

    name: str
    summary: str
    example: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_elf(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--elf", type=Path, action="append", default=[], metavar="FILE", help="more symbols"
    )


def add_machine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("machine (instead of a kernel file)")
    group.add_argument("--kernel", type=Path, metavar="ELF", help="boot this by QEMU's -kernel")
    group.add_argument("--initrd", type=Path, metavar="FILE", help="its boot module or initramfs")
    group.add_argument("--append", default="", metavar="TEXT", help="its command line")
    group.add_argument("--cdrom", type=Path, metavar="ISO", help="boot this CD image instead")
    group.add_argument("--uefi", action="store_true", help="boot the CD by UEFI, not by BIOS")
    group.add_argument("--memory", type=int, default=256, metavar="MIB", help="default 256")
    group.add_argument("--cores", type=int, default=1, metavar="N", help="CPUs, default 1")
    group.add_argument("--cpu", default="max", metavar="MODEL", help="QEMU's -cpu, default max")
    group.add_argument(
        "--qemu-arg", action="append", default=[], metavar="ARG", help="one more argument for QEMU"
    )


def machine_spec(options: argparse.Namespace) -> MachineSpec:
    """The machine that a kernel file or options describe."""
    if getattr(options, "file", None):
        return kernelfile.load(options.file).target.spec
    boot = BootWay.PVH
    if options.cdrom:
        boot = BootWay.ISO_UEFI if options.uefi else BootWay.ISO_BIOS
    elif options.kernel is None:
        raise UsageError("nothing to boot", "Give a kernel file, --kernel or --cdrom")
    return MachineSpec(
        kernel=options.kernel,
        initrd=options.initrd,
        append=options.append,
        cdrom=options.cdrom,
        boot=boot,
        memory=options.memory,
        cores=options.cores,
        cpu=options.cpu,
        args=tuple(options.qemu_arg),
    )


def add_guest(
    parser: argparse.ArgumentParser, ready: str = "wait until the console shows this"
) -> None:
    """A kernel file or a machine's options; its symbols; when it is up."""
    file_argument(parser, optional=True)
    add_machine(parser)
    add_elf(parser)
    parser.add_argument("--ready", metavar="REGEX", type=regex, help=ready)


@dataclass(frozen=True)
class Guest:
    """What add_guest()'s options say."""

    spec: MachineSpec
    elfs: tuple[Path, ...]
    ready: str


def guest(options: argparse.Namespace) -> Guest:
    """A kernel file knows its symbols and when it is up, else options say so."""
    spec = machine_spec(options)
    if options.file:
        target = kernelfile.load(options.file).target
        return Guest(spec, tuple(target.elfs), options.ready or target.ready)
    elfs = tuple(file for file in (spec.kernel, *options.elf) if file)
    return Guest(spec, elfs, options.ready or "")


def wait_ready(machine: Machine, ready: str) -> None:
    """Until the console shows it, if there is something to wait for."""
    if ready:
        with waiting(f"for {ready!r}", WITHIN):
            machine.console.expect(ready, WITHIN)


def show(options: argparse.Namespace, facts: dict[str, Any], text: str) -> None:
    """The result: as JSON if that is wanted, else as text."""
    print(json.dumps(facts, indent=1) if options.json else text)


def regex(text: str) -> str:
    """A type of argument. UsageError: it is no regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise UsageError(
            f"{text!r} is no regular expression: {error}", "Escape it by \\\\"
        ) from None
    return text


def count(text: str) -> int:
    """A type of argument: 0, 1, 2, ..."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no count")
    return int(text)


def file_argument(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    parser.add_argument(
        "file",
        type=Path,
        nargs="?" if optional else None,
        metavar="KERNEL.toml",
        help="the kernel, how it boots, its paths",
    )
