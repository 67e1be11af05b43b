# SPDX-License-Identifier: MIT
"""`onestack check`: a linked kernel's layout, code and stack depth."""

from __future__ import annotations

import argparse
from pathlib import Path

from onestack.commands.common import FOUND, OK, Command, show
from onestack.elf import Images
from onestack.elfcheck import StackRules, check_image


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("elf", type=Path, metavar="ELF", help="the linked kernel")
    parser.add_argument(
        "--stack-size",
        type=lambda text: int(text, 0),
        required=True,
        metavar="BYTES",
        help="of a kernel stack",
    )
    parser.add_argument(
        "--stack-rules", type=Path, metavar="TOML", help="what the machine code does not say"
    )
    parser.add_argument(
        "--objects",
        type=Path,
        nargs="*",
        default=[],
        metavar="OBJECT",
        help="what it was linked from, with .su files beside them",
    )


def _run(options: argparse.Namespace) -> int:
    Images.load(options.elf)  # for its errors
    rules = (
        StackRules.load(options.stack_rules, options.stack_size)
        if options.stack_rules
        else StackRules(options.stack_size)
    )
    found = check_image(options.elf, options.objects, rules)
    facts = {"violations": [vars(violation) for violation in found]}
    show(options, facts, "\n".join(map(str, found)) or "sound")
    return FOUND if found else OK


COMMAND = Command(
    "check",
    "check a linked kernel's layout, code and stack depth",
    "onestack check kernel.elf --stack-size 0x4000",
    _arguments,
    _run,
)
