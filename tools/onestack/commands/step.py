# SPDX-License-Identifier: MIT
"""`onestack step`: the CPU instruction by instruction, on the terminal."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from onestack import kernelfile
from onestack.bars import waiting
from onestack.commands.common import (
    OK,
    WITHIN,
    Command,
    add_guest,
    guest,
    show,
    wait_ready,
)
from onestack.elf import Images
from onestack.errors import UsageError
from onestack.inject import Injector
from onestack.machine import Machine
from onestack.stepper import Stepper, TssView, register_rows


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_guest(parser)
    parser.add_argument("--at", metavar="LOCATION", help="and until this is about to be executed")
    parser.add_argument(
        "--view", metavar="FILE.py:NAME", help="what knows the kernel's stacks (stepper.KernelView)"
    )
    parser.add_argument("--irq", type=lambda text: int(text, 0), default=0xF0, metavar="VECTOR")


def _run(options: argparse.Namespace) -> int:
    try:
        from onestack.step_app import StepApp  # noqa: PLC0415  (Textual is an extra)
    except ModuleNotFoundError:
        raise UsageError("no Textual", "pip install textual") from None
    chosen = guest(options)
    images = Images.load(*chosen.elfs)
    make = kernelfile.load_python(Path(), options.view) if options.view else TssView
    with Machine(chosen.spec) as machine:
        wait_ready(machine, chosen.ready)
        if options.at:
            with waiting(f"to come to {options.at}", WITHIN):
                Injector(machine, images).stop_at(options.at, WITHIN)
        machine.pause()
        stepper = Stepper(machine, images, make(images))
        if options.json:  # for scripts: one look, without a screen
            picture = stepper.picture()
            rows = {name: hex(value) for name, value, _ in register_rows(picture)}
            live = [stack.name for stack in picture.stacks if stack.live]
            facts = {
                "where": picture.where,
                "registers": rows,
                "facts": dict(picture.facts),
                "live": live,
            }
            show(options, facts, "")
        elif sys.stdout.isatty():
            StepApp(stepper, options.irq).run()
        else:
            raise UsageError("step needs a terminal", "Use --json for one look")
    return OK


COMMAND = Command(
    "step",
    "watch the CPU instruction by instruction: registers, source, stacks; inject by a key",
    "onestack step toy.toml --at user_null",
    _arguments,
    _run,
)
