# SPDX-License-Identifier: MIT
"""`onestack symbolize`: addresses to names and lines."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from onestack.commands.common import OK, Command, show
from onestack.elf import Images
from onestack.symbolize import Symbolizer

ADDRESS = re.compile(r"\b(?:0x)?([0-9a-f]{6,16})\b")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("elf", type=Path, nargs="+", metavar="ELF", help="files with symbols")
    parser.add_argument(
        "-a", "--address", action="append", default=[], metavar="ADDRESS", help="name this one"
    )


def _run(options: argparse.Namespace) -> int:
    symbolizer = Symbolizer(Images.load(*options.elf))
    if options.address:
        places = [symbolizer.place(symbolizer.images.resolve(a)) for a in options.address]
        facts = {
            "places": [
                {"address": hex(p.address), "name": p.name, "source": str(p.source or "")}
                for p in places
            ]
        }
        show(options, facts, "\n".join(map(str, places)))
        return OK
    for line in sys.stdin:
        names = []
        for found in ADDRESS.findall(line):
            if symbolizer.images.image_at(int(found, 16)):
                place = symbolizer.place(int(found, 16))
                names.append(f"{place.name} {place.source or ''}".strip())
        print(line.rstrip("\n") + (f"    # {'; '.join(names)}" if names else ""), flush=True)
    return OK


COMMAND = Command(
    "symbolize",
    "name addresses: those given, or all in the text on standard input",
    "onestack symbolize kernel.elf -a 0xffffffff81001234\n"
    "  onestack symbolize kernel.elf < panic.log",
    _arguments,
    _run,
)
