# SPDX-License-Identifier: MIT
"""What the stack checks must be told about a kernel."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path


@dataclass(frozen=True)
class StackRules:
    """What the machine code does not say about the stack.

    SIZE is the stack's, in bytes. Besides the deepest chain it must hold FRAMES entries that
    interrupt the kernel: each of FRAME_BYTES, what the CPU pushes, and of the deepest of the stubs
    NESTED, as far as they stay on the stack they find. FINAL functions never return and are entered
    once, so that they end every chain: the deepest is added. INDIRECT maps a caller's pattern to
    the patterns of what its indirect calls reach.
    """

    size: int
    frames: int = 3
    frame_bytes: int = 48
    nested: tuple[str, ...] = ()
    final: tuple[str, ...] = ()
    indirect: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, size: int) -> StackRules:
        """Read the rules from a TOML file; KeyError or TypeError if it says what is no rule."""
        text = tomllib.loads(path.read_text())
        indirect = {rule["caller"]: tuple(rule["reaches"]) for rule in text.pop("indirect", [])}
        for key in {"nested", "final"} & text.keys():
            text[key] = tuple(text[key])
        return cls(size=size, indirect=indirect, **text)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Does NAME match one of PATTERNS, as in a shell?"""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
