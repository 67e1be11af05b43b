# SPDX-License-Identifier: MIT
"""Bochs: a second model of the CPU, for what TCG does not raise or check.

It boots CD images. The console is as good as QEMU's; there is no gdbstub, but Bochs' own debugger,
which Debian's build always has, takes commands while the guest stands still, an NMI among them. A
guest ends itself by `xchg %bx, %bx` (a nop elsewhere) or by switching the machine off.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from onestack.console import DEFAULT_BAD_PATTERNS, BadPattern, Console
from onestack.deadline import Deadline
from onestack.errors import DeadlineError, Failure, GuestError, OnestackError, UsageError
from onestack.machine import die_with
from onestack.watch import Watch

BIOS = Path("/usr/share/bochs/BIOS-bochs-latest")
VGA_BIOS = Path("/usr/share/bochs/VGABIOS-lgpl-latest")
CLOCK = 100_000_000  # guest instructions in a guest second
START_TIMEOUT = 20.0  # seconds, on a busy host
SIGNAL_TIMEOUT = 1.0  # seconds for the debugger to heed one
REFUSED = re.compile(r"(?m)^Error: |: syntax error ")  # a command
PROMPT = re.compile(rb"<bochs:\d+> $")

CONFIGURATION = """\
megs: {memory}
romimage: file={bios}
vgaromimage: file={vga}
cpu: model={cpu}, count={cores}, ips={clock}, reset_on_triple_fault=0
display_library: rfb, options="timeout=0"
ata0-master: type=cdrom, path={cdrom}, status=inserted
boot: cdrom
com1: enabled=1, mode=socket-client, dev=127.0.0.1:{port}
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
magic_break: enabled=1
clock: sync=none
panic: action=fatal
log: {log}
"""


@dataclass(frozen=True)
class BochsSpec:
    """A machine under Bochs. `cpu` is one of `bochs --help cpu`, `memory` is in MiB."""

    cdrom: Path
    cpu: str = "corei7_skylake_x"
    cores: int = 1
    memory: int = 256
    bad_patterns: tuple[BadPattern, ...] = DEFAULT_BAD_PATTERNS

    def __post_init__(self) -> None:
        """Refuse what cannot work, by UsageError."""
        if not self.cdrom.is_file():
            raise UsageError(f"no such cdrom: {self.cdrom}", "Has it been built?")
        if not 1 <= self.cores <= 254:
            raise UsageError(f"cores={self.cores} is not 1 to 254")


class BochsError(OnestackError):
    """Bochs is absent or did not start."""


def _check_installed() -> None:
    if shutil.which("bochs") is None:
        raise BochsError("no bochs", "Install the package bochs")
    for path, package in ((BIOS, "bochsbios"), (VGA_BIOS, "vgabios")):
        if not path.exists():
            raise BochsError(f"no {path}", f"Install the package {package}")


class Bochs:
    """A running guest. Use it as a context manager; nothing is left behind.

    Waiting on its console ends at once when the guest does, by GuestError with Failure.EXITED.
    """

    console: Console

    def __init__(self, spec: BochsSpec) -> None:
        _check_installed()
        self.spec = spec
        self.watch = Watch()
        self.folder = Path(tempfile.mkdtemp(prefix="onestack-"))
        self.running = False
        self._said = b""  # by the debugger since it was last asked
        self._process: subprocess.Popen[bytes] | None = None
        self._serial: socket.socket | None = None
        try:
            self._start(Deadline(START_TIMEOUT))
        except BaseException:
            self.close()
            raise

    # ---- life

    def _start(self, deadline: Deadline) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            configuration = self.folder / "configuration"
            configuration.write_text(self._configuration(listener.getsockname()[1]))
            parent = os.getpid()
            self._process = subprocess.Popen(
                ["bochs", "-q", "-f", configuration],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,
                preexec_fn=lambda: die_with(parent),  # noqa: PLW1509  (calls into libc only)
            )
            assert self._process.stdout is not None
            self.watch.add(self._process.stdout.fileno(), self._take_output)
            try:
                self.watch.wait(listener.fileno(), deadline, "serial line from Bochs")
            except GuestError as error:
                raise BochsError(f"Bochs did not start: {error.detail}") from None
            self._serial, _ = listener.accept()
        self.console = Console(self._serial, self.watch, self.spec.bad_patterns)
        self._wait_prompt(deadline)
        self.resume()

    def _configuration(self, port: int) -> str:
        return CONFIGURATION.format(
            memory=self.spec.memory,
            bios=BIOS,
            vga=VGA_BIOS,
            cpu=self.spec.cpu,
            cores=self.spec.cores,
            clock=CLOCK,
            cdrom=self.spec.cdrom.resolve(),
            port=port,
            log=self.folder / "log",
        )

    def close(self) -> None:
        """End Bochs and remove what it left. Idempotent; the console's log stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        if hasattr(self, "console"):
            self.console.drain()
        if self._serial is not None:
            self._serial.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        """Return the machine, which runs already."""
        return self

    def __exit__(self, *_: object) -> None:
        """End Bochs."""
        self.close()

    # ---- the debugger

    def _take_output(self) -> None:
        """Read what the debugger says; a prompt while the guest should run means that it ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        fresh = os.read(self._process.stdout.fileno(), 65536)
        self._said += fresh
        if not fresh:
            self.watch.remove(self._process.stdout.fileno())
            raise GuestError(Failure.EXITED, self._reason(), self._process.wait())
        if self.running and PROMPT.search(self._said):
            self.running = False
            self._said = b""  # else the next command would take this prompt for its own
            raise GuestError(Failure.EXITED, "magic break")

    def _reason(self) -> str:
        """Why Bochs has ended, in its own words."""
        text = self._said.decode(errors="replace")
        _, found, message = text.partition("exiting with the following message:\n")
        return message.splitlines()[0] if found else "no reason given"

    def _wait_prompt(self, deadline: Deadline) -> str:
        """Wait for the prompt; return what came before it."""
        assert self._process is not None
        assert self._process.stdout is not None
        while not PROMPT.search(self._said):
            self.watch.wait(self._process.stdout.fileno(), deadline, "prompt of Bochs' debugger")
            self._take_output()
        said, self._said = PROMPT.sub(b"", self._said), b""
        return said.decode(errors="replace")

    def _type(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    def command(self, line: str, deadline: Deadline | float = 10.0) -> str:
        """Have the debugger do something while the guest stands still; return its answer.

        BochsError if it refuses.
        """
        if self.running:
            raise UsageError("the guest runs", "pause() first")
        self._type(line)
        answer = self._wait_prompt(Deadline.of(deadline))
        if REFUSED.search(answer):
            raise BochsError(f"{line}: {answer.strip()}")
        return answer

    def pause(self, deadline: Deadline | float = 10.0) -> None:
        """Stop the guest between two instructions."""
        assert self._process is not None
        deadline = Deadline.of(deadline)
        stopped = not self.running
        self.running = False
        while not stopped:
            # A debugger that has not yet begun to run the guest loses the signal.
            self._process.send_signal(signal.SIGINT)
            try:
                self._wait_prompt(Deadline(min(SIGNAL_TIMEOUT, deadline.remaining)))
                stopped = True
            except DeadlineError:
                deadline.check("prompt of Bochs' debugger")

    def resume(self) -> None:
        """Let the guest run."""
        self._said = b""
        self._type("c")
        self.running = True

    def inject_nmi(self) -> None:
        """Interrupt the first CPU by an NMI, wherever it is; the guest runs afterwards."""
        self.pause()
        answer = self.command("take nmi")
        if "Delivering NMI" not in answer:
            raise BochsError(f"no NMI: {answer.strip()}")
        self.resume()

    def wait_end(self, deadline: Deadline | float = 30.0) -> str:
        """Wait until the guest ends itself: "magic break", or what Bochs says of its end."""
        try:
            self.watch.wait(None, Deadline.of(deadline), "end of the guest under Bochs")
        except GuestError as error:
            if error.kind is not Failure.EXITED:
                raise
            self.watch.serve()  # its last words, if they have come together with its end: a panic's
            self.console.drain()
            return error.detail
        raise AssertionError("unreachable: that wait only ends by an exception")
