# SPDX-License-Identifier: MIT
"""No file outside kernel/arch/entry may ask which entry model it is built for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ENTRY = Path("kernel/arch/entry")
ROOMS = ("boot", "kernel", "user")


def asks_for(models: Iterable[str]) -> re.Pattern[str]:
    """What naming a model looks like: its files, a configuration macro, a preprocessor test."""
    any_model = "|".join(map(re.escape, models))
    return re.compile(
        rf"entry/({any_model})\b"
        rf"|\b(CONFIG|ENTRY|MODEL)_(ENTRY_|MODEL_)?({any_model})\b"
        rf"|^\s*#\s*(if|ifdef|ifndef|elif)\b.*\b({any_model})\b",
        re.IGNORECASE,
    )


def sources(top: Path) -> Iterator[Path]:
    """The C and assembly files that must not know, relative to TOP."""
    for room in ROOMS:
        for path in sorted((top / room).rglob("*.[chS]")):
            relative = path.relative_to(top)
            if ENTRY not in relative.parents:
                yield relative


def named_models(top: Path, models: Iterable[str]) -> list[str]:
    """Each line of TOP's sources, outside the models' own folder, that names one of MODELS."""
    pattern = asks_for(models)
    return [
        f"{path}:{number}: asks for an entry model: {line.strip()}"
        for path in sources(top)
        for number, line in enumerate((top / path).read_text().splitlines(), 1)
        if pattern.search(line)
    ]
