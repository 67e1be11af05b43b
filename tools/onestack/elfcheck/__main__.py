# SPDX-License-Identifier: MIT
"""Command line: `python -m onestack.elfcheck kernel.elf --objects *.o --stack-size 8192`."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from onestack.elfcheck import StackRules, check_image, check_model_names


def size_of(text: str) -> int:
    """A number, or FILE:NAME for the #define of NAME in FILE."""
    if ":" not in text:
        return int(text, 0)
    path, name = text.rsplit(":", 1)
    found = re.search(rf"^#define\s+{name}\s+(\w+)", Path(path).read_text(), re.MULTILINE)
    if found is None:
        raise argparse.ArgumentTypeError(f"no #define of {name} in {path}")
    return int(found[1], 0)


def main() -> int:
    """Exit status: 0 sound, 1 violations (each on a line), 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="onestack.elfcheck", description=main.__doc__)
    parser.add_argument("elf", type=Path, help="the linked kernel")
    parser.add_argument(
        "--objects",
        nargs="*",
        type=Path,
        default=[],
        metavar="OBJECT",
        help="what it was linked from; .su files are looked for beside them",
    )
    parser.add_argument(
        "--stack-size",
        type=size_of,
        required=True,
        metavar="BYTES|FILE:NAME",
        help="size of a kernel stack, or the header and #define that says it",
    )
    parser.add_argument(
        "--stack-rules",
        type=Path,
        metavar="TOML",
        help="what the machine code does not say: nested, final, indirect",
    )
    parser.add_argument(
        "--models",
        nargs="*",
        metavar="MODEL",
        help="entry models that no source outside their folder may name",
    )
    options = parser.parse_args()
    rules = (
        StackRules.load(options.stack_rules, options.stack_size)
        if options.stack_rules
        else StackRules(options.stack_size)
    )
    found = check_image(options.elf, options.objects, rules)
    if options.models:
        found += check_model_names(Path(), options.models)
    for violation in found:
        print(f"{options.elf}: {violation}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
