# SPDX-License-Identifier: MIT
"""A machine under QEMU: the only code that knows QEMU's command line."""

from __future__ import annotations

import ctypes
import enum
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from onestack import exitcodes
from onestack.console import DEFAULT_BAD_PATTERNS, BadPattern, Console
from onestack.coverage import plugin_arguments
from onestack.deadline import Deadline
from onestack.errors import Failure, GuestError, OnestackError, UsageError
from onestack.gdbstub import GdbStub, Stop
from onestack.qmp import Qmp
from onestack.watch import Watch

OLDEST_QEMU = (7, 2)
START_TIMEOUT = 20.0  # seconds for QEMU to answer on QMP, on a busy host
OVMF = Path("/usr/share/ovmf/OVMF.fd")
DISK_SIZE = 1 << 30  # bytes; the sparse file in which snapshots are kept

_libc = ctypes.CDLL(None, use_errno=True)  # loaded here: nothing to import between fork and exec
PR_SET_PDEATHSIG = 1
FIRST_PAUSE = 0.001  # seconds; then doubled
HLT = b"\xf4"


class BootWay(enum.StrEnum):
    """How the machine gets to the kernel's entry."""

    PVH = "pvh"  # -kernel, by the PVH note, or by the Linux boot protocol
    ISO_BIOS = "iso-bios"
    ISO_UEFI = "iso-uefi"
    DISK = "disk"


class QemuError(OnestackError):
    """QEMU is absent, too old, or did not start."""


@dataclass(frozen=True)
class MachineSpec:
    """All that distinguishes one machine from another. Comparable and hashable.

    `memory` is in MiB. `icount` is the shift of `-icount shift=N` (0: one guest instruction is one
    nanosecond), None for real time. With `sleep` an idle guest waits for its timers in real time;
    without, its clock jumps to the next timer: repeatable, but it also jumps at each stop. `args`
    are added to the command line as they are, last. `keep` keeps a machine that reset or powered
    off paused and readable instead of ending QEMU.
    """

    kernel: Path | None = None
    initrd: Path | None = None
    append: str = ""
    cdrom: Path | None = None
    disk: Path | None = None
    boot: BootWay = BootWay.PVH
    memory: int = 256
    cores: int = 1
    cpu: str = "max"
    machine: str = "q35"
    icount: int | None = None
    sleep: bool = False
    snapshots: bool = False
    thread: str = ""
    keep: bool = True
    debug_exit: bool = True
    args: tuple[str, ...] = ()
    qemu: str = "qemu-system-x86_64"
    bad_patterns: tuple[BadPattern, ...] = DEFAULT_BAD_PATTERNS

    def __post_init__(self) -> None:
        """Refuse what cannot work, by UsageError."""
        needed = {BootWay.PVH: "kernel", BootWay.DISK: "disk"}.get(self.boot, "cdrom")
        if getattr(self, needed) is None:
            raise UsageError(f"booting by {self.boot} needs `{needed}`")
        for what in ("kernel", "initrd", "cdrom", "disk"):
            path: Path | None = getattr(self, what)
            if path is not None and not path.is_file():
                raise UsageError(f"no such {what}: {path}", "Has it been built?")
        if self.memory < 1:
            raise UsageError(f"memory={self.memory} is no number of MiB")
        if not 1 <= self.cores <= 255:
            raise UsageError(f"cores={self.cores} is not 1 to 255")

    def arguments(self) -> list[str]:
        """QEMU's arguments, without what connects the harness to it."""
        accelerator = "tcg" + (f",thread={self.thread}" if self.thread else "")
        out = [self.qemu, "-machine", self.machine, "-accel", accelerator, "-cpu", self.cpu]
        out += ["-m", f"{self.memory}M", "-smp", str(self.cores), "-nodefaults", "-display", "none"]
        shutdown = "pause" if self.keep else "poweroff"
        out += ["-action", f"reboot=shutdown,shutdown={shutdown}"]
        if self.icount is not None:
            out += ["-icount", f"shift={self.icount},sleep={'on' if self.sleep else 'off'}"]
        if self.debug_exit:
            out += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]
        out += self._boot_arguments()
        return [*out, *self.args]

    def _boot_arguments(self) -> list[str]:
        if self.boot is BootWay.PVH:
            out = ["-kernel", str(self.kernel)]
            if self.initrd:
                out += ["-initrd", str(self.initrd)]
            if self.append:
                out += ["-append", self.append]
            return out
        if self.boot is BootWay.DISK:
            return ["-drive", f"file={self.disk},format=raw,snapshot=on"]
        out = ["-cdrom", str(self.cdrom), "-boot", "d"]
        if self.boot is BootWay.ISO_UEFI:
            if not OVMF.exists():
                raise QemuError(f"no {OVMF}", "Install the package ovmf")
            out += ["-bios", str(OVMF)]
        return out


def check_qemu(program: str) -> str:
    """The version of `program` as text. QemuError if it is absent or too old."""
    if shutil.which(program) is None:
        raise QemuError(f"no {program}", "Install the package qemu-system-x86")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\d+)\.(\d+)[.\d]*", said.stdout)
    if not found:
        raise QemuError(f"{program} does not tell its version")
    if (int(found[1]), int(found[2])) < OLDEST_QEMU:
        oldest = ".".join(map(str, OLDEST_QEMU))
        raise QemuError(f"{found[0]} of QEMU is too old", f"{oldest} or later is needed")
    return found[0].removeprefix("version ")


def die_with(parent: int) -> None:
    """In a child between fork and exec: be killed when the parent's thread ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


@dataclass
class _Ends:
    """Socket pairs between us and QEMU: our end by name, QEMU's to be inherited."""

    ours: dict[str, socket.socket] = field(default_factory=dict)
    theirs: dict[str, socket.socket] = field(default_factory=dict)

    def pair(self, name: str) -> int:
        """Make a pair; return the descriptor that QEMU gets."""
        self.ours[name], self.theirs[name] = socket.socketpair()
        return self.theirs[name].fileno()

    def close(self) -> None:
        for end in (*self.ours.values(), *self.theirs.values()):
            end.close()


class Machine:
    """A running QEMU with its console, QMP and gdbstub. Use it as a context manager.

    It starts with the CPUs stopped and goes on once all three are attached, so that nothing is
    missed; `paused=True` leaves that to the caller. QEMU is told to die with the thread that
    started it, so none is left behind even if this process is killed.

    Run control goes through the gdbstub: resume() and pause().
    """

    console: Console
    qmp: Qmp
    gdb: GdbStub

    def __init__(self, spec: MachineSpec, *, paused: bool = False) -> None:
        self.spec = spec
        self.version = check_qemu(spec.qemu)
        self.status: int | None = None
        self._events_seen = 0
        self._log_seen = 0
        self.watch = Watch()
        self.folder = Path(tempfile.mkdtemp(prefix="onestack-"))
        self.folder.chmod(0o700)
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._ends = _Ends()
        try:
            self._start()
            if not paused:
                self.resume()
        except BaseException:
            self.close()
            raise

    # ---- life

    def command_line(self) -> list[str]:
        """QEMU's whole command line; makes the socket pairs it names."""
        out = self.spec.arguments()
        for name in ("console", "qmp", "gdb"):
            out += ["-chardev", f"socket,id={name},fd={self._ends.pair(name)}"]
        out += ["-serial", "chardev:console", "-mon", "chardev=qmp,mode=control"]
        out += ["-gdb", "chardev:gdb", "-S", "-d", "cpu_reset", "-D", str(self.folder / "qemu.log")]
        out += plugin_arguments(self.spec.kernel or self.spec.cdrom)
        if self.spec.snapshots:
            disk = self.folder / "snapshots.qcow2"
            _make_qcow2(disk)
            out += ["-drive", f"if=none,id=snapshots,format=qcow2,file={disk}"]
        return out

    def _start(self) -> None:
        command = self.command_line()
        parent = os.getpid()
        with (self.folder / "stderr").open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=[end.fileno() for end in self._ends.theirs.values()],
                start_new_session=True,  # Ctrl-C is for us, and we end QEMU
                preexec_fn=lambda: die_with(parent),  # noqa: PLW1509  (calls into libc only)
            )
        for end in self._ends.theirs.values():
            end.close()
        self._pidfd = os.pidfd_open(self._process.pid)
        deadline = Deadline(START_TIMEOUT)
        try:
            self.qmp = Qmp(self._ends.ours["qmp"], deadline)
        except OnestackError:
            self._report_no_start()
            raise
        self.watch.add(self._pidfd, self._take_exit)
        self.watch.add(self.qmp.event_fd, self._take_events)
        self.console = Console(self._ends.ours["console"], self.watch, self.spec.bad_patterns)
        self.gdb = GdbStub(self._ends.ours["gdb"], self.watch, deadline)

    def _report_no_start(self) -> None:
        """If QEMU has ended by itself, raise QemuError with its own words."""
        assert self._process is not None
        try:
            status = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return
        said = (self.folder / "stderr").read_text(errors="replace").strip().splitlines()
        reason = said[-1] if said else exitcodes.describe(status)
        raise QemuError(f"QEMU did not start: {reason.removeprefix(self.spec.qemu + ': ')}")

    def close(self) -> None:
        """End QEMU and remove what it left. Idempotent; console log and QMP transcript stay."""
        if self._process is not None:
            self._process.kill()
            self.status = self._process.wait() if self.status is None else self.status
        if hasattr(self, "console"):
            self.console.drain()
        if hasattr(self, "qmp"):
            self.qmp.close()
        self._ends.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        """Return the machine, which runs already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End QEMU."""
        self.close()

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether there is still a QEMU."""
        return self._process is not None and self._process.poll() is None

    # ---- what ends a guest

    def _take_exit(self) -> None:
        assert self._process is not None
        self.console.drain()
        self.watch.remove(self._pidfd)
        self.status = self._process.wait()
        raise GuestError(Failure.EXITED, exitcodes.describe(self.status), self.status)

    def _take_events(self) -> None:
        self.qmp.acknowledge()
        fresh = self.qmp.events[self._events_seen :]
        self._events_seen += len(fresh)
        for event in fresh:
            if failure := self._failure_in(event):
                self.console.drain()
                raise failure

    def _failure_in(self, event: Mapping[str, object]) -> GuestError | None:
        """What an event of QMP says about the guest's end, if anything."""
        name, data = event["event"], event.get("data")
        data = data if isinstance(data, dict) else {}
        if name == "GUEST_PANICKED":
            return GuestError(Failure.PANIC, "QEMU reports GUEST_PANICKED")
        if name not in ("SHUTDOWN", "RESET") or not data.get("guest"):
            return None
        reason = str(data.get("reason", "unknown"))
        log, old = self.qemu_log(), self._log_seen
        self._log_seen = len(log)
        if reason == "guest-reset" and "triple fault" in log[old:].lower():
            reason = "triple fault"
        return GuestError(Failure.RESET, reason)

    def qemu_log(self) -> str:
        """QEMU's own log: the CPUs' state at each reset, and a triple fault by name."""
        try:
            return (self.folder / "qemu.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_exit(self, deadline: Deadline | float = 10.0) -> int:
        """Wait until QEMU ends by itself; return its status (exitcodes.describe() names it).

        GuestError if the guest panics or resets instead.
        """
        try:
            self.watch.wait(None, Deadline.of(deadline), "end of QEMU")
        except GuestError as error:
            if error.kind is Failure.EXITED and error.status is not None:
                return error.status
            raise
        raise AssertionError("unreachable: that wait only ends by an exception")

    # ---- run control

    def resume(self) -> None:
        """Let all CPUs run, also from a breakpoint."""
        if self.gdb.breakpoints:
            for cpu in self.gdb.cpus():
                if self.gdb.registers(cpu).pc in self.gdb.breakpoints:
                    self.gdb.step_over(cpu)
        self.gdb.cont()

    def pause(self) -> Stop:
        """Stop all CPUs where they are. Harmless if they stand still."""
        return self.gdb.interrupt()

    def run_to(
        self, address: int, deadline: Deadline | float = 10.0, *, cpu: int | None = None
    ) -> Stop:
        """Run until some CPU is about to execute `address`, or with `cpu` until that one is.

        Others' breakpoints stop it too. A running machine is stopped for a moment to set the
        breakpoint.
        """
        if self.gdb.running:
            self.pause()
        mine = address not in self.gdb.breakpoints
        self.gdb.set_breakpoint(address)
        try:
            self.resume()
            return self.wait_for(cpu, deadline, f"arrival at {address:#x}")
        except OnestackError:
            if self.alive and self.gdb.running:
                self.pause()
            raise
        finally:
            if mine and self.alive and not self.gdb.running:
                self.gdb.remove_breakpoint(address)

    def wait_for(self, cpu: int | None, deadline: Deadline | float, what: str) -> Stop:
        """Wait for a stop; with `cpu` for one of that CPU: others at a breakpoint go on by it."""
        deadline = Deadline.of(deadline)
        while True:
            stop = self.gdb.wait_stop(deadline, what)
            if cpu in (None, stop.cpu):
                return stop
            self.pass_by(stop.cpu)
            self.gdb.cont()

    def pass_by(self, cpu: int) -> None:
        """Let a CPU execute the instruction with a breakpoint at which it stands, alone.

        The step of a `hlt` has no end: it sleeps, and is stopped in its sleep.
        """
        gdb = self.gdb
        at = gdb.registers(cpu).pc
        wanted = frozenset(gdb.breakpoints)
        gdb.change_breakpoints(wanted - {at})
        if gdb.read(at, 1, cpu) != HLT:
            gdb.step(cpu)
        else:
            pause = FIRST_PAUSE
            while gdb.registers(cpu).pc == at:
                gdb.cont(cpu)
                time.sleep(pause)  # on a busy host its thread does not run at once
                pause *= 2
                gdb.interrupt()
        gdb.change_breakpoints(wanted)

    # ---- snapshots

    def save(self, name: str) -> None:
        """Keep the whole state of the stopped machine under `name`. Needs `snapshots=True`."""
        self.qmp.hmp(f"savevm {name}", 60.0)

    def load(self, name: str) -> None:
        """Bring a kept state back, after a reset too. The machine stands still."""
        if self.qmp.execute("query-status")["status"] in ("shutdown", "guest-panicked"):
            self._leave_shutdown()
        self.qmp.hmp(f"loadvm {name}", 60.0)
        self.watch_events_from_now()

    def _leave_shutdown(self) -> None:
        """Reset for real: QEMU does not load a state into a machine that has ended."""
        self.qmp.execute("set-action", reboot="reset")
        self.qmp.execute("system_reset")
        deadline = Deadline(10.0)
        while self.qmp.execute("query-status")["status"] != "prelaunch":
            deadline.check("reset of the machine")
            time.sleep(0.001)
        self.qmp.execute("set-action", reboot="shutdown")

    def watch_events_from_now(self) -> None:
        """Forget events that have come so far; a reset on purpose makes some."""
        self.qmp.acknowledge()
        self._events_seen = len(self.qmp.events)


def _make_qcow2(path: Path) -> None:
    """An empty qcow2 image to keep snapshots in (QEMU's own tool for it is another package)."""
    cluster_bits, cluster = 16, 1 << 16
    l1_entries = max(1, DISK_SIZE // (cluster * cluster // 8))
    header = b"QFI\xfb" + b"".join(
        value.to_bytes(size, "big")
        for value, size in (
            (2, 4),  # version
            (0, 8), (0, 4),  # backing file
            (cluster_bits, 4),
            (DISK_SIZE, 8),
            (0, 4),  # no encryption
            (l1_entries, 4), (3 * cluster, 8),  # L1 table: in the fourth cluster
            (cluster, 8), (1, 4),  # refcount table: the second cluster, one long
            (0, 4), (0, 8),  # no snapshots yet
        )
    )  # fmt: skip
    refcounts = (1).to_bytes(2, "big") * 4
    with path.open("wb") as image:
        image.write(header.ljust(cluster, b"\0"))
        image.write((2 * cluster).to_bytes(8, "big").ljust(cluster, b"\0"))
        image.write(refcounts.ljust(cluster, b"\0"))
        image.write(b"\0" * cluster)
