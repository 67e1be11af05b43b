# SPDX-License-Identifier: MIT
"""Kernel sources compiled for the host, to test their logic without a machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
FLAGS = ["-std=gnu17", "-O1", "-g", "-fno-builtin", "-fno-strict-aliasing", "-Wall", "-Wextra"]
FLAGS += ["-Werror"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def _gcc(arguments: list[str], sources: list[Path], output: Path) -> Path:
    command = ["gcc", *FLAGS, f"-I{TOP}", *arguments, "-o", str(output), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


def program(output: Path, sources: list[Path], include: Path | None = None) -> Path:
    """Link SOURCES to a host program that stops at the first bad access or undefined operation.

    INCLUDE, when given, is searched for headers before the repository.
    """
    before = [] if include is None else [f"-I{include}"]
    return _gcc([*before, *SANITIZE], sources, output)


def library(output: Path, sources: list[Path]) -> Path:
    """Link SOURCES to a shared library whose functions call each other, not the C library's."""
    return _gcc(["-shared", "-fPIC", "-Wl,-Bsymbolic"], sources, output)
