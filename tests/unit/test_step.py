# SPDX-License-Identifier: MIT
"""`onestack step` by Textual's pilot: one watches an interrupt enter the kernel, push by push."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from conftest import TOP, toy_spec
from onestack.elf import Images
from onestack.inject import Injector, Irq
from onestack.kernelfile import load_python
from onestack.machine import Machine
from onestack.step_app import StepApp
from onestack.stepper import Stepper, TssView

TOML = TOP / "tests/foreign/toy.toml"
VIEW = "tests/step_view.py:make"
PROMPT = "onestack> "


def drive(app: StepApp, script: Callable[[Pilot[None]], Awaitable[None]]) -> None:
    async def run() -> None:
        async with app.run_test(size=(150, 50)) as pilot:
            await script(pilot)

    asyncio.run(run())


def text(pilot: Pilot[None], name: str) -> str:
    return str(pilot.app.query_one(name, Static).render())


@pytest.mark.machine(ready=PROMPT)
def test_an_nmi_enters_our_kernel_push_by_push(machine: Machine, images: Images) -> None:
    machine.console.send_line("run busy 3")
    machine.console.expect("busy: ready", 30.0)
    machine.pause()
    stepper = Stepper(machine, images, load_python(TOP, VIEW)(images))
    while machine.gdb.registers().cpl != 3:
        stepper.next_boundary()

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("n")
        assert "nmi is pending (vector 0x2)" in text(pilot, "#said")
        user_rip = machine.gdb.registers().pc
        await pilot.press("s")
        assert machine.gdb.registers().cpl == 0
        assert "vector_2" in text(pilot, "#code-text")
        stacks = text(pilot, "#stacks-text")
        assert "NMI (live)" in stacks
        assert f"{user_rip:016x}" in stacks  # the CPU has pushed it there
        depth = [machine.gdb.registers().sp]
        for _ in range(4):
            await pilot.press("s")
            depth.append(machine.gdb.registers().sp)
        assert depth[-1] < depth[0]
        await pilot.press("e")
        assert "left to user mode after" in text(pilot, "#said")
        registers = text(pilot, "#registers-text")
        assert "ring 3" in registers
        assert "core_nest 0" in registers
        assert "core_state user" in registers
        await pilot.press("m", "s")
        assert "vector_18" in text(pilot, "#code-text")
        assert "#MC (live)" in text(pilot, "#stacks-text")

    drive(StepApp(stepper), script)


@pytest.mark.machine(ready=PROMPT)
def test_an_irq_pushes_into_the_save_area(machine: Machine, images: Images) -> None:
    machine.console.send_line("run busy 3")
    machine.console.expect("busy: ready", 30.0)
    machine.pause()
    stepper = Stepper(machine, images, load_python(TOP, VIEW)(images))
    while machine.gdb.registers().cpl != 3:
        stepper.next_boundary()
    stepper.picture()
    rip = machine.gdb.registers().pc
    stepper.inject(Irq(0xF8))  # above the timer's, so it is first
    assert stepper.step() == ""
    picture = stepper.picture()
    [area] = [stack for stack in picture.stacks if stack.name == "TCB save area"]
    assert area.live  # E2: RSP0 is its end
    words = {word.label: word for word in area.words}
    assert words["rip"].value == rip
    assert words["cs"].value & 3 == 3
    assert any(word.here for word in area.words)
    # the CPU has pushed five words, whatever was there before; the stub pushes on, one by one
    frame = ["rip", "cs", "rflags", "rsp", "ss"]
    assert [word.label for word in area.words if word.fresh] == frame
    pushed = []
    for _ in range(6):
        assert stepper.step() == ""
        [area] = [one for one in stepper.picture().stacks if one.name == "TCB save area"]
        fresh = [word.label for word in area.words if word.fresh]
        if fresh:  # the way to them is a jump
            assert fresh == [word.label for word in area.words if word.here]
            pushed += fresh
    assert pushed[:4] == ["error", "rax", "rcx", "rdx"]


def test_any_kernel_by_its_tss(toy_images: Images) -> None:
    with Machine(toy_spec(icount=0, sleep=True)) as machine:
        machine.console.expect("toy: ready")
        Injector(machine, toy_images).stop_at("user_null")
        stepper = Stepper(machine, toy_images, TssView(toy_images))

        async def script(pilot: Pilot[None]) -> None:
            assert "user_null" in str(pilot.app.sub_title)
            assert "syscall" in text(pilot, "#code-text")
            assert "user (live)" in text(pilot, "#stacks-text")
            await pilot.press("e")
            assert "entered the kernel after" in text(pilot, "#said")
            assert "syscall_entry" in text(pilot, "#code-text")
            await pilot.press("c")
            assert "running" in text(pilot, "#said")
            await pilot.press("s")
            assert "it runs: c stops it" in text(pilot, "#said")
            await pilot.press("c")
            assert "stopped" in text(pilot, "#said")
            await pilot.press("m", "c")  # no CR4.MCE: a triple fault
            await pilot.pause(0.5)
            assert "triple fault" in text(pilot, "#said")

        drive(StepApp(stepper), script)


def test_one_look_at_our_kernel_from_the_command_line() -> None:
    build = TOP / "build"
    command = [sys.executable, "-m", "onestack.cli", "step", "--json", "--ready", PROMPT]
    command += ["--kernel", str(build / "tcb-ist-release/kernel.elf")]
    command += ["--initrd", str(build / "user/init.elf"), "--view", str(TOP / VIEW)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["facts"]["core_nest"] in ("0", "1", "2")


def test_one_look_for_scripts() -> None:
    command = [
        sys.executable,
        "-m",
        "onestack.cli",
        "step",
        str(TOML),
        "--at",
        "syscall_entry+0x15",
    ]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert "syscall_entry+0x15" in seen["where"]
    assert seen["live"] == ["RSP0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "Use --json for one look" in done.stderr
