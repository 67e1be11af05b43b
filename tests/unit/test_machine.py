# SPDX-License-Identifier: MIT
"""Machines with the toy kernel: nothing is left behind, and a crash is told at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import TOY, at_once, gone, toy_spec, wait_gone
from onestack import artefacts
from onestack.console import Console
from onestack.deadline import Deadline
from onestack.elf import Images
from onestack.errors import DeadlineError, Failure, GuestError, UsageError
from onestack.machine import Machine, MachineSpec, QemuError
from onestack.watch import Watch


@pytest.fixture
def toy() -> Iterator[Machine]:
    with Machine(toy_spec()) as machine:
        machine.console.expect("toy: ready")
        yield machine


# ---- nothing left behind


def test_context_manager_ends_qemu_and_removes_its_folder() -> None:
    with Machine(toy_spec()) as machine:
        pid, folder = machine.pid, machine.folder
        assert folder.is_dir()
        assert folder.stat().st_mode & 0o077 == 0
    assert gone(pid)
    assert not folder.exists()
    machine.close()


def test_exception_in_the_body_ends_qemu() -> None:
    pid = 0

    def body() -> None:
        nonlocal pid
        with Machine(toy_spec()) as machine:
            pid = machine.pid
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        body()
    assert gone(pid)


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_qemu_outlives_its_python(with_signal: signal.Signals) -> None:
    script = (
        "import sys, time; from pathlib import Path; from onestack.machine import *\n"
        f"m = Machine(MachineSpec(kernel=Path({str(TOY)!r}), memory=32))\n"
        "print(m.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as python:
        assert python.stdout is not None
        pid = int(python.stdout.readline())
        assert not gone(pid)
        python.send_signal(with_signal)
        python.wait()
    assert wait_gone(pid)


def test_two_machines_do_not_meet() -> None:
    with Machine(toy_spec()) as one, Machine(toy_spec()) as two:
        one.console.expect("toy: ready")
        two.console.expect("toy: ready")
        assert one.folder != two.folder


# ---- refusals


def test_missing_kernel_is_named() -> None:
    with pytest.raises(UsageError, match="no such kernel: /nowhere"):
        MachineSpec(kernel=Path("/nowhere"))


def test_qemu_that_does_not_start_is_quoted() -> None:
    with pytest.raises(QemuError, match="no-such-device"):
        Machine(toy_spec(args=("-device", "no-such-device")))


def test_no_qemu(tmp_path: Path) -> None:
    with pytest.raises(QemuError, match="Install"):
        Machine(toy_spec(qemu=str(tmp_path / "qemu")))


def test_old_qemu(tmp_path: Path) -> None:
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\necho QEMU emulator version 6.1.0\n")
    program.chmod(0o755)
    with pytest.raises(QemuError, match=r"6\.1\.0 of QEMU is too old"):
        Machine(toy_spec(qemu=str(program)))


# ---- crashes are told at once


def test_triple_fault_ends_a_console_wait() -> None:
    def attempt() -> float:
        with Machine(toy_spec()) as toy:
            toy.console.expect("toy: ready")
            toy.pause()
            toy.gdb.write_register("cr3", 0x1000)
            toy.resume()
            with pytest.raises(GuestError, match="triple fault") as caught:
                toy.console.expect("never", 30)
            now = time.time()
            assert caught.value.kind is Failure.RESET
            last = next(e for e in toy.qmp.events if e["event"] == "SHUTDOWN")["timestamp"]
            return now - (float(last["seconds"]) + float(last["microseconds"]) / 1e6)

    assert at_once(attempt)


RESET_CODE = bytes.fromhex("b006 66baf90c ee ebfe")  # outb to port 0xcf9; wait for it


def test_a_reset_ends_a_console_wait(toy_images: Images) -> None:
    def attempt() -> float:
        with Machine(toy_spec()) as toy:
            toy.run_to(toy_images.resolve("syscall_entry"))
            toy.gdb.write(toy_images.resolve("syscall_entry"), RESET_CODE)
            toy.resume()
            with pytest.raises(GuestError, match="guest-reset") as caught:
                toy.console.expect("never", 30)
            now = time.time()
            assert caught.value.kind is Failure.RESET
            last = next(e for e in toy.qmp.events if e["event"] == "SHUTDOWN")["timestamp"]
            return now - (float(last["seconds"]) + float(last["microseconds"]) / 1e6)

    assert at_once(attempt)


def test_the_end_of_qemu_ends_a_console_wait() -> None:
    def attempt() -> float:
        with Machine(toy_spec()) as toy:
            toy.console.expect("toy: ready")
            toy.pause()
            killed: list[float] = []

            def kill() -> None:
                killed.append(time.monotonic())
                os.kill(toy.pid, signal.SIGKILL)

            threading.Timer(0.2, kill).start()
            with pytest.raises(GuestError, match="SIGKILL"):
                toy.console.expect("never", 30)
            return time.monotonic() - killed[0]

    assert at_once(attempt)


def test_triple_fault_ends_a_wait_for_a_breakpoint(toy: Machine, toy_images: Images) -> None:
    toy.pause()
    toy.gdb.write_register("cr3", 0x1000)
    with pytest.raises(GuestError, match="triple fault"):
        toy.run_to(toy_images.resolve("user_fail"), 30)


def test_killed_qemu_ends_a_wait(toy: Machine) -> None:
    timer = threading.Timer(0.2, os.kill, (toy.pid, signal.SIGKILL))
    timer.start()
    with pytest.raises(GuestError, match="SIGKILL") as caught:
        toy.console.expect("never", 30)
    assert caught.value.kind is Failure.EXITED


def test_a_machine_is_readable_after_a_triple_fault(
    toy: Machine, toy_images: Images, tmp_path: Path
) -> None:
    toy.run_to(toy_images.resolve("syscall_entry"))
    toy.gdb.write_register("cr3", 0x1000)
    with pytest.raises(GuestError):
        toy.run_to(toy_images.resolve("user_fail"))
    artefacts.save(toy, tmp_path, toy_images)
    assert "toy: ready" in (tmp_path / "console.log").read_text()
    assert "cr3 0000000000001000" in (tmp_path / "registers.txt").read_text()
    assert "syscall_entry" in (tmp_path / "backtrace.txt").read_text()
    assert "SHUTDOWN" in (tmp_path / "qmp.log").read_text()


def test_artefacts_of_a_machine_that_has_ended(toy: Machine, tmp_path: Path) -> None:
    os.kill(toy.pid, signal.SIGKILL)
    assert toy.wait_exit() == -signal.SIGKILL
    artefacts.save(toy, tmp_path)
    assert "SIGKILL" in (tmp_path / "registers.txt").read_text()


def test_snapshot_comes_back_after_a_triple_fault(toy_images: Images) -> None:
    with Machine(toy_spec(snapshots=True)) as machine:
        machine.console.expect("toy: ready")
        machine.run_to(toy_images.resolve("user_null"))
        before = machine.gdb.registers()
        machine.save("here")
        machine.gdb.write_register("cr3", 0x1000)
        with pytest.raises(GuestError):
            machine.run_to(toy_images.resolve("user_fail"))
        machine.load("here")
        assert dict(machine.gdb.registers()) == dict(before)
        machine.run_to(toy_images.resolve("user_yield"))


def test_detached_guest_runs_on(toy: Machine, toy_images: Images) -> None:
    toy.run_to(toy_images.resolve("user_loop"))
    toy.gdb.set_breakpoint(toy_images.resolve("user_null"))
    toy.gdb.detach()
    assert toy.qmp.execute("query-status")["status"] == "running"
    assert not toy.gdb.breakpoints


# ---- bad patterns on a console of our own


class Wire:
    """A console whose guest is the test."""

    def __init__(self) -> None:
        ours, self.guest = socket.socketpair()
        self.watch = Watch()
        self.console = Console(ours, self.watch, MachineSpec(kernel=TOY).bad_patterns)

    def say_later(self, seconds: float, text: str) -> list[float]:
        """Print after a while; the list gets the moment."""
        moment: list[float] = []

        def say() -> None:
            moment.append(time.monotonic())
            self.guest.sendall(text.encode())

        threading.Timer(seconds, say).start()
        return moment


def test_panic_fails_a_wait_within_the_latency() -> None:
    def attempt() -> float:
        wire = Wire()
        moment = wire.say_later(0.1, "ok\npanic: all is lost\nrip 0\npanic: end\n")
        with pytest.raises(GuestError, match=r"all is lost \| rip 0 \| panic: end"):
            wire.console.expect("prompt", 30)
        return time.monotonic() - moment[0]

    assert at_once(attempt)


def test_panic_without_an_end_fails_within_the_latency() -> None:
    def attempt() -> float:
        wire = Wire()
        moment = wire.say_later(0.1, "panic: cut off\n")
        with pytest.raises(GuestError, match="cut off"):
            wire.console.expect("prompt", 30)
        return time.monotonic() - moment[0]

    assert at_once(attempt)


def test_panic_ends_a_wait_for_something_else() -> None:
    def attempt() -> float:
        wire = Wire()
        other, _keep = socket.socketpair()
        moment = wire.say_later(0.1, "panic: elsewhere\n")
        with pytest.raises(GuestError, match="elsewhere"):
            wire.watch.wait(other.fileno(), Deadline(30), "nothing")
        return time.monotonic() - moment[0]

    assert at_once(attempt)


def test_panic_between_a_return_and_its_line_feed_is_seen() -> None:
    """With its first line: whoever printed last was stopped in the middle of an end of line."""
    wire = Wire()
    wire.guest.sendall(b"ready\rpanic: all is lost\r\nrip 0\r\npanic: end\r\n")
    with pytest.raises(GuestError, match=r"all is lost \| rip 0 \| panic: end"):
        wire.console.expect("prompt", 5)


def test_panic_in_two_pieces_is_seen() -> None:
    wire = Wire()
    wire.guest.sendall(b"pan")
    wire.say_later(0.1, "ic: halves\n")
    with pytest.raises(GuestError, match="halves"):
        wire.watch.wait(None, Deadline(30), "nothing")


def test_what_came_before_the_panic_still_matches() -> None:
    wire = Wire()
    wire.guest.sendall(b"prompt> panic: later\n")
    wire.console.expect("prompt> ", 1)
    wire.guest.sendall(b"\npanic: now\n")
    with pytest.raises(GuestError, match="now"):
        wire.console.expect("prompt> ", 1)


def test_a_word_in_mid_line_is_no_panic() -> None:
    wire = Wire()
    wire.guest.sendall(b"type panic: to try\nprompt> ")
    wire.console.expect("prompt> ", 1)


def test_expected_panic_is_text() -> None:
    wire = Wire()
    wire.guest.sendall(b"panic: on purpose\n")
    with wire.console.failure_expected():
        wire.console.expect("panic: on purpose", 1)


def test_what_is_forgotten_does_not_match() -> None:
    wire = Wire()
    wire.guest.sendall(b"of a guest that is no more\n")
    with pytest.raises(DeadlineError):
        wire.console.expect("prompt", 0.1)
    wire.console.forget()
    with pytest.raises(DeadlineError):
        wire.console.expect("no more", 0.1)


def test_deadline_is_kept() -> None:
    wire = Wire()
    start = time.monotonic()
    with pytest.raises(DeadlineError, match="'prompt'"):
        wire.console.expect("prompt", 0.1)
    assert 0.1 <= time.monotonic() - start < 9, "not ten seconds, which is expect()'s own"


def test_one_deadline_for_several_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait begun when it has passed ends there, on a clock that then stands still."""
    wire = Wire()
    deadline = Deadline(30.0)
    wire.guest.sendall(b"one")
    wire.console.expect("one", deadline)
    later = time.monotonic() + 31.0
    monkeypatch.setattr(time, "monotonic", lambda: later)
    with pytest.raises(DeadlineError):
        wire.console.expect("two", deadline)
