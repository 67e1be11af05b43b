# SPDX-License-Identifier: MIT
"""What the stack checks must be told about a kernel."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class StackRules:
    """What the machine code does not say about the stack.

    SIZE is the stack's, in bytes. FRAMES of FRAME_BYTES are added for entries that interrupt the
    kernel, and the depth of each function in NESTED, which such entries run. FINAL functions never
    return and are entered once, so that they end every chain: the deepest is added. FRESH functions
    begin by giving up the whole stack: they end every chain, and start one of their own. INDIRECT maps a
    caller's pattern to the patterns of what its indirect calls reach.
    """

    size: int
    frames: int = 3
    frame_bytes: int = 176
    nested: tuple[str, ...] = ()
    final: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    indirect: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, size: int) -> StackRules:
        """Read the rules from a TOML file; KeyError or TypeError if it says what is no rule."""
        text = tomllib.loads(path.read_text())
        indirect = {rule["caller"]: tuple(rule["reaches"]) for rule in text.pop("indirect", [])}
        for key in {"nested", "final", "fresh"} & text.keys():
            text[key] = tuple(text[key])
        return cls(size=size, indirect=indirect, **text)
