# SPDX-License-Identifier: MIT
"""`onestack gdb`: QEMU, and gdb in front of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from onestack import attended
from onestack.commands.common import (
    FOUND,
    OK,
    Command,
    add_guest,
    guest,
    show,
)
from onestack.errors import UsageError


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_guest(parser, "boot until the console shows this; else it stands at its reset vector")
    parser.add_argument(
        "-x", "--script", type=Path, action="append", default=[], metavar="FILE", help="for gdb"
    )
    parser.add_argument(
        "--ex", action="append", default=[], metavar="COMMAND", help="let gdb do this first"
    )
    parser.add_argument("--batch", action="store_true", help="end after that; --json: likewise")


def _run(options: argparse.Namespace) -> int:
    chosen = guest(options)
    for file in (*chosen.elfs, *options.script):
        if not file.is_file():
            raise UsageError(f"no such file: {file}")
    batch = options.batch or options.json
    status, said = attended.under_gdb(
        chosen.spec,
        chosen.elfs,
        attended.Session(options.script, options.ex, batch),
        ready=chosen.ready,
        capture=options.json,
    )
    if options.json:
        show(options, {"status": status, "output": said}, "")
    return OK if status == 0 else FOUND


COMMAND = Command(
    "gdb",
    "start a kernel and gdb in front of it, with the guest's console as commands of gdb's",
    "onestack gdb --kernel build/tcb-ist-release/kernel.elf --initrd build/user/init.elf \\\n"
    "    --ready 'onestack> ' --script tools/gdb/onestack.py\n"
    "  onestack gdb toy.toml --batch --ex 'break syscall_entry' --ex continue --ex 'info all'",
    _arguments,
    _run,
)
