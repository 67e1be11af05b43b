# SPDX-License-Identifier: MIT
"""`onestack init`: a first kernel file."""

from __future__ import annotations

import argparse
from pathlib import Path

from onestack import kernelfile, newfile
from onestack.bars import waiting
from onestack.commands.common import INCOMPLETE, OK, Command, add_machine, machine_spec, show
from onestack.errors import UsageError


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image", type=Path, nargs="?", metavar="KERNEL", help="what QEMU's -kernel boots"
    )
    add_machine(parser)
    parser.add_argument(
        "--elf",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="symbols, also a user program's",
    )
    parser.add_argument("--defaults", action="store_true", help="ask nothing")
    parser.add_argument(
        "--look",
        type=float,
        default=newfile.LOOK,
        metavar="SECONDS",
        help="boot it and watch it so long at most, default 20; 0: do not",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: KERNEL.toml here"
    )
    parser.add_argument("--force", action="store_true", help="write over an older file")


def _run(options: argparse.Namespace) -> int:
    options.kernel = options.kernel or options.image
    spec = machine_spec(options)
    source = spec.kernel or spec.cdrom
    assert source is not None
    output = options.output or Path(source.stem + ".toml")
    if output.exists() and not options.force:
        raise UsageError(f"{output} exists", "Give another -o, or --force")
    with waiting("watching it boot", options.look):
        answers = newfile.first_answers(spec, options.elf, options.look)
    if not options.defaults:
        try:
            answers = newfile.ask_all(answers, input)
        except EOFError:
            raise UsageError("nobody answers", "Use --defaults") from None
    output.write_text(newfile.render(answers, output.parent), encoding="utf-8")
    kernelfile.load(output)  # what we write, we can read
    paths = [site.start for site in answers.sites]
    facts = {"file": str(output), "paths": paths, "problem": answers.findings.problem}
    said = f"{output}: {len(paths)} system call paths. Next: onestack sweep {output}"
    if not paths:
        said = (
            f"{output}: no path yet: {answers.findings.problem or 'none chosen'}. See its comments"
        )
    show(options, facts, said)
    return OK if paths else INCOMPLETE


COMMAND = Command(
    "init",
    "write a first kernel file, from its ELF and from watching it boot, by asking",
    "onestack init build/foreign/toy.elf --defaults -o toy.toml\n"
    "  onestack init vmlinuz --initrd initramfs.cpio --elf my-init",
    _arguments,
    _run,
)
