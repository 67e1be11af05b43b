# SPDX-License-Identifier: MIT
"""`onestack boot`: a kernel on the terminal, or until the console shows something."""

from __future__ import annotations

import argparse

from onestack import attended
from onestack.bars import waiting
from onestack.commands.common import (
    OK,
    Command,
    add_machine,
    file_argument,
    machine_spec,
    regex,
    show,
)
from onestack.machine import Machine


def _arguments(parser: argparse.ArgumentParser) -> None:
    file_argument(parser, optional=True)
    add_machine(parser)
    parser.add_argument(
        "--expect", metavar="REGEX", type=regex, help="end as soon as the console shows this"
    )
    parser.add_argument("--send", metavar="TEXT", help="type this line once it has been shown")
    parser.add_argument("--then", metavar="REGEX", type=regex, help="and wait for this")
    parser.add_argument(
        "--within", type=float, default=60.0, metavar="SECONDS", help="for each wait, default 60"
    )
    parser.add_argument(
        "--gdb", metavar="SOCKET", help="start stopped, wait for gdb on this socket"
    )


def _run(options: argparse.Namespace) -> int:
    spec = machine_spec(options)
    if not options.expect:
        attended.on_terminal(spec, options.gdb)
        return OK
    with Machine(spec) as machine:
        try:
            with waiting(f"for {options.expect!r}", options.within):
                machine.console.expect(options.expect, options.within)
            if options.send is not None:
                machine.console.send_line(options.send)
            if options.then:
                with waiting(f"for {options.then!r}", options.within):
                    machine.console.expect(options.then, options.within)
        finally:
            machine.console.drain()
            facts = {"console": machine.console.text, "qemu": machine.version}
            show(options, facts, machine.console.text.rstrip())
    return OK


COMMAND = Command(
    "boot",
    "boot a kernel; the terminal is its serial line (Ctrl-A X ends it)",
    "onestack boot --kernel build/tcb-ist-release/kernel.elf --initrd build/user/init.elf\n"
    "  onestack boot toy.toml --expect 'toy: ready' --within 5",
    _arguments,
    _run,
)
