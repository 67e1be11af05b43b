# SPDX-License-Identifier: MIT
"""What variants of the kernel there are and what they are called."""

from __future__ import annotations

from pathlib import Path


def entry_models(top: str = ".") -> list[str]:
    """The entry models of the tree at TOP: each is a pair of files, MODEL.S and MODEL.h."""
    files = Path(top, "kernel/arch/entry").glob("*.S")
    found = {path.stem for path in files if path.with_suffix(".h").exists()} - {"vectors"}
    return sorted(found) or ["tcb"]


def variant_name(entry: str, nmi: str, *, debug: bool, toolchain: str) -> str:
    """The folder below build/ for one variant, `tcb-ist-release` for the default."""
    name = f"{entry}-{nmi}-{'debug' if debug else 'release'}"
    return name + ("-clang" if toolchain == "clang" else "")
