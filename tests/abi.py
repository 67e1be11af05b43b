# SPDX-License-Identifier: MIT
"""The numbers of kernel/abi/, read from its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ABI = Path(__file__).resolve().parents[1] / "kernel/abi"


@dataclass(frozen=True)
class Syscall:
    """One line of syscalls.def."""

    number: int
    name: str
    kind: str
    args: int
    text: str


def _syscalls() -> dict[str, Syscall]:
    pattern = re.compile(r'^SYSCALL\((\d+), (\w+), (\w+), (\d+), "(.*)"\)$', re.MULTILINE)
    rows = pattern.findall((ABI / "syscalls.def").read_text())
    return {
        name: Syscall(int(n), name, kind, int(args), text) for n, name, kind, args, text in rows
    }


def _errors() -> dict[str, int]:
    rows = re.findall(r"^ *E_(\w+) = (-?\d+)", (ABI / "error.h").read_text(), re.MULTILINE)
    return {name: int(value) for name, value in rows}


def _rights() -> dict[str, int]:
    rows = re.findall(r"^#define RIGHT_(\w+) +(0x\w+?)u", (ABI / "cap.h").read_text(), re.MULTILINE)
    return {name: int(value, 16) for name, value in rows}


def _types() -> dict[str, int]:
    rows = re.findall(r"^ *OBJ_(\w+)", (ABI / "cap.h").read_text(), re.MULTILINE)
    return {name: number for number, name in enumerate(rows)}


SLOT = 64  # bytes of a capability's: a handle's low half is its slot's offset
SYSCALLS = _syscalls()
ERRORS = _errors()
RIGHTS = _rights()
TYPES = _types()
