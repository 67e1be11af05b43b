# SPDX-License-Identifier: MIT
"""Which of a kernel's global variables are written while it works (plugins/writes.c)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onestack import plugins

HEAD, WORD = struct.Struct("<Q"), struct.Struct("<2Q")


@dataclass(frozen=True)
class Written:
    """A word of memory: how often it was written, by which vCPUs."""

    address: int
    count: int
    cpus: frozenset[int]


class Watcher:
    """The plugin for one machine; `arguments` are for its MachineSpec. FOLDER keeps its files."""

    def __init__(self, data: range, folder: Path) -> None:
        plugin = plugins.build("writes", folder)
        self._data, self._file = data, folder / "writes"
        where = f"range={data.start:#x}-{data.stop:#x}"
        self.arguments = ("-plugin", f"{plugin},out={self._file},{where}")

    def watch(self, *, on: bool = True) -> None:
        """From now on, or no more."""
        with self._file.open("r+b") as file:
            file.write(HEAD.pack(on))

    def written(self) -> Iterator[Written]:
        """All words that were written meanwhile."""
        content = self._file.read_bytes()[HEAD.size :]
        for i, (cpus, count) in enumerate(WORD.iter_unpack(content)):
            if count:
                who = frozenset(n for n in range(64) if cpus >> n & 1)
                yield Written(self._data.start + 8 * i, count, who)
