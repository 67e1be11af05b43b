# SPDX-License-Identifier: MIT
"""`onestack boot`: a kernel on the terminal, or until the console shows something."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import termios
from dataclasses import replace

from onestack import exitcodes
from onestack.commands.common import OK, Command, add_machine, file_argument, machine_spec, show
from onestack.errors import Failure, GuestError
from onestack.machine import Machine, MachineSpec, check_qemu, die_with


def _arguments(parser: argparse.ArgumentParser) -> None:
    file_argument(parser, optional=True)
    add_machine(parser)
    parser.add_argument("--expect", metavar="REGEX", help="end as soon as the console shows this")
    parser.add_argument("--send", metavar="TEXT", help="type this line once it has been shown")
    parser.add_argument("--then", metavar="REGEX", help="and wait for this")
    parser.add_argument(
        "--within", type=float, default=60.0, metavar="SECONDS", help="for each wait, default 60"
    )
    parser.add_argument(
        "--gdb", metavar="SOCKET", help="start stopped, wait for gdb on this socket"
    )


def _run(options: argparse.Namespace) -> int:
    spec = machine_spec(options)
    if not options.expect:
        return _boot_interactively(spec, options.gdb)
    with Machine(spec) as machine:
        try:
            machine.console.expect(options.expect, options.within)
            if options.send is not None:
                machine.console.send_line(options.send)
            if options.then:
                machine.console.expect(options.then, options.within)
        finally:
            machine.console.drain()
            facts = {"console": machine.console.text, "qemu": machine.version}
            show(options, facts, machine.console.text.rstrip())
    return OK


def _boot_interactively(spec: MachineSpec, gdb: str | None) -> int:
    """Give the terminal to QEMU's serial line; Ctrl-A X ends it."""
    check_qemu(spec.qemu)
    command = [*replace(spec, keep=False).arguments(), "-serial", "mon:stdio"]
    if gdb:
        command += ["-gdb", f"unix:{gdb},server=on,wait=off", "-S"]
        print(f"gdb {spec.kernel or ''} -ex 'target remote {gdb}'", file=sys.stderr)
    parent = os.getpid()
    saved = termios.tcgetattr(0) if os.isatty(0) else None
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the guest's
    try:
        done = subprocess.run(
            command,
            check=False,
            preexec_fn=lambda: die_with(parent),
        )
    finally:
        signal.signal(signal.SIGINT, old)
        if saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
    if done.returncode in (0, exitcodes.POWEROFF):
        return OK
    raise GuestError(Failure.EXITED, exitcodes.describe(done.returncode), done.returncode)


COMMAND = Command(
    "boot",
    "boot a kernel; the terminal is its serial line (Ctrl-A X ends it)",
    "onestack boot --kernel build/tcb-ist-release/kernel.elf --initrd build/user/init.elf\n"
    "  onestack boot toy.toml --expect 'toy: ready' --within 5",
    _arguments,
    _run,
)
