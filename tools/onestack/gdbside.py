# SPDX-License-Identifier: MIT
"""Loaded into gdb by `onestack gdb`: the guest's console beside the debugger. gdb's Python only."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import gdb


class Console(gdb.Command):
    """console: what the guest has printed since it was last shown."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._shown = 0
        super().__init__("console", gdb.COMMAND_USER)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Called by gdb."""
        del argument, from_tty
        fresh = self._log.read_bytes()[self._shown :]
        self._shown += len(fresh)
        print(fresh.decode("utf-8", "replace").replace("\r", "").rstrip())


class Type(gdb.Command):
    """type TEXT: type a line on the guest's console. It is read once the guest runs."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        super().__init__("type", gdb.COMMAND_USER)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Called by gdb."""
        del from_tty
        self._socket.sendall(argument.encode() + b"\r")


class RunFor(gdb.Command):
    """run-for SECONDS: let the guest run so long, then stop it."""

    def __init__(self) -> None:
        super().__init__("run-for", gdb.COMMAND_USER)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Called by gdb."""
        del from_tty
        # gdb waits in the foreground: somebody else has to press Ctrl-C
        wait = f"sleep {float(argument or 1)}; kill -INT {os.getpid()}"
        with subprocess.Popen(["sh", "-c", wait]):
            gdb.execute("continue")


folder = Path(os.environ["ONESTACK_GDB"])
Console(folder / "console.log")
Type(str(folder / "console"))
RunFor()
print("Stopped. continue lets it run, Ctrl-C stops it; help user-defined lists what is added here.")
