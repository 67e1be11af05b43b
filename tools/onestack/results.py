# SPDX-License-Identifier: MIT
"""The JSON files that results are collected in: what they begin with, how they grow."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SCHEMA = 1


def commit() -> str:
    """The commit of the repository around the working directory, or `unknown`."""
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def merge(
    path: Path,
    qemu: str,
    rows: str,
    fresh: Sequence[Mapping[str, Any]],
    key: Sequence[str],
    *,
    indent: int | None = 1,
) -> None:
    """Add entries to the list `rows` of a file; those that agree in `key` are replaced.

    Entries of another commit or QEMU do not stay: a file tells of one guest at one time.
    """
    head = {"schema": SCHEMA, "commit": commit(), "qemu": qemu}
    old: list[Mapping[str, Any]] = []
    if path.exists():
        content = json.loads(path.read_text(encoding="utf-8"))
        if all(content.get(name) == value for name, value in head.items()):
            old = content[rows]
    entries = {tuple(entry[name] for name in key): entry for entry in (*old, *fresh)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    text = json.dumps({**head, rows: list(entries.values())}, indent=indent)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)
