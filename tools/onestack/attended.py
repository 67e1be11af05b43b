# SPDX-License-Identifier: MIT
"""A QEMU that a person attends to: its serial line in the terminal, or gdb in front of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from onestack import exitcodes
from onestack.bars import waiting
from onestack.deadline import Deadline
from onestack.errors import Failure, GuestError, OnestackError
from onestack.machine import MachineSpec, QemuError, check_qemu, die_with

GDB_SIDE = Path(__file__).with_name("gdbside.py")
BOOT_TIMEOUT = 60.0  # seconds for the guest to get ready
LONGEST_FOLDER = 70  # characters: the path of a socket has 107 at most
START_TIMEOUT = 20.0  # seconds for QEMU to make its sockets


class GdbError(OnestackError):
    """There is no gdb."""


@contextmanager
def _ctrl_c_is_the_childs() -> Iterator[None]:
    """Whoever has the terminal gets Ctrl-C; the terminal is afterwards as it was, and ours."""
    saved = termios.tcgetattr(0) if os.isatty(0) else None
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)
        if saved is not None:
            _take_terminal()
            termios.tcsetattr(0, termios.TCSADRAIN, saved)


def _take_terminal() -> None:
    """Make this process's group the one that the terminal's Ctrl-C goes to."""
    old = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # what a background process gets for that
    with suppress(OSError):  # a terminal that belongs to another session
        os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, old)


def on_terminal(spec: MachineSpec, gdb: str | None = None) -> None:
    """Give the terminal to QEMU's serial line until the guest ends it, or Ctrl-A X.

    With `gdb` it stands still until a gdb has come to that socket. GuestError: it ended badly.
    """
    check_qemu(spec.qemu)
    command = [*replace(spec, keep=False).arguments(), "-serial", "mon:stdio"]
    if gdb:
        if Path(gdb).is_socket() and _answers(Path(gdb)):
            raise QemuError(f"socket {gdb} is in use", "Give another one, or end who has it")
        command += ["-gdb", f"unix:{gdb},server=on,wait=off", "-S"]
        print(f"gdb {spec.kernel or ''} -ex 'target remote {gdb}'", file=sys.stderr)
    parent = os.getpid()
    with _ctrl_c_is_the_childs():
        done = subprocess.run(command, check=False, preexec_fn=lambda: die_with(parent))
    if done.returncode not in (0, exitcodes.POWEROFF):
        raise GuestError(Failure.EXITED, exitcodes.describe(done.returncode), done.returncode)


def _answers(path: Path) -> bool:
    """Whether somebody listens there. A socket that a dead QEMU has left does not count."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


@dataclass(frozen=True)
class Session:
    """What gdb shall do: scripts to load, commands to execute, then end or ask the user."""

    scripts: Sequence[Path] = ()
    commands: Sequence[str] = ()
    batch: bool = False


def under_gdb(
    spec: MachineSpec,
    elfs: Sequence[Path],
    session: Session,
    *,
    ready: str = "",
    capture: bool = False,
) -> tuple[int, str]:
    """Start QEMU and gdb in front of it, and end both together: gdb's status, and what it printed.

    The guest stands before its first instruction, or where it is once its console has shown the
    regular expression `ready`. What gdb prints goes to the terminal unless it is captured.
    """
    if shutil.which("gdb") is None:
        raise GdbError("no gdb", "Install the package gdb")
    check_qemu(spec.qemu)
    room = None if len(tempfile.gettempdir()) < LONGEST_FOLDER else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="onestack-gdb-", dir=room))
    try:
        with _qemu(spec, folder, stopped=not ready) as qemu:
            if ready:
                with waiting(f"for {ready!r}", BOOT_TIMEOUT):
                    deadline = Deadline(BOOT_TIMEOUT)
                    _wait_console(qemu, folder / "console.log", re.compile(ready), deadline)
            command = _gdb_command(folder, elfs, session)
            parent = os.getpid()
            with _ctrl_c_is_the_childs():
                done = subprocess.run(
                    command,
                    check=False,
                    env={**os.environ, "ONESTACK_GDB": str(folder)},
                    stdout=subprocess.PIPE if capture else None,
                    text=True,
                    preexec_fn=lambda: _begin_gdb(parent),
                )
            return done.returncode, done.stdout or ""
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _begin_gdb(parent: int) -> None:
    """Between fork and exec: Ctrl-C is for gdb alone, not for us nor for who has started us."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignoring it would be inherited
    die_with(parent)
    if os.isatty(0):
        os.setpgid(0, 0)
        _take_terminal()


def _gdb_command(folder: Path, elfs: Sequence[Path], session: Session) -> list[str]:
    command = ["gdb", "-q", *(["-batch"] if session.batch else ["-ex", "set confirm off"])]
    command += ["-ex", "set pagination off", *map(str, elfs[:1])]
    for elf in elfs[1:]:
        command += ["-ex", f"add-symbol-file {elf}"]
    command += ["-ex", f"target remote {folder / 'gdb'}"]
    for script in (GDB_SIDE, *session.scripts):
        command += ["-x", str(script)]
    for text in session.commands:
        command += ["-ex", text]
    return command


@contextmanager
def _qemu(spec: MachineSpec, folder: Path, *, stopped: bool) -> Iterator[subprocess.Popen[bytes]]:
    """QEMU with its gdbstub and its console on sockets in a folder, the console also in a file."""
    console = f"socket,id=console,path={folder}/console,server=on,wait=off"
    command = [*spec.arguments(), "-chardev", f"{console},logfile={folder}/console.log"]
    command += ["-serial", "chardev:console", "-gdb", f"unix:{folder}/gdb,server=on,wait=off"]
    parent = os.getpid()
    with (folder / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            [*command, *(["-S"] if stopped else [])],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is gdb's
            preexec_fn=lambda: die_with(parent),  # noqa: PLW1509  (calls into libc only)
        )
    try:
        deadline = Deadline(START_TIMEOUT)
        while not (folder / "gdb").exists():
            if process.poll() is not None:
                said = (folder / "stderr").read_text(errors="replace").strip().splitlines()
                raise QemuError(f"QEMU did not start: {said[-1] if said else process.returncode}")
            deadline.check("start of QEMU")
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_console(
    qemu: subprocess.Popen[bytes], log: Path, ready: re.Pattern[str], deadline: Deadline
) -> None:
    while not ready.search(log.read_text(errors="replace") if log.exists() else ""):
        if qemu.poll() is not None:
            raise GuestError(Failure.EXITED, exitcodes.describe(qemu.returncode), qemu.returncode)
        deadline.check(f"{ready.pattern!r} on the console")
        time.sleep(0.02)
