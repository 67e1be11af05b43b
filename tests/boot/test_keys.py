# SPDX-License-Identifier: MIT
"""A key of the PS/2 keyboard, an edge on line 1, reaches a user driver on every way to boot."""

from __future__ import annotations

from typing import Any

import pytest
from agent import READY, Agent

from onestack.inject import Injector, SendKey
from onestack.machine import BootWay, Machine

WAYS: dict[str, dict[str, Any]] = {
    "pvh-q35": {"machine": "q35"},
    "pvh-pc": {"machine": "pc"},
    "iso-bios-q35": {"boot": BootWay.ISO_BIOS},
    "iso-bios-pc": {"boot": BootWay.ISO_BIOS, "machine": "pc"},
    "iso-uefi-q35": {"boot": BootWay.ISO_UEFI},
}
LINE = 1
DATA, COMMAND = 0x60, 0x64  # of the keyboard's controller
DATA_THERE = 1  # in its status
SET_MODE, MODE = 0x60, 0x45  # interrupts from the keyboard, scan codes translated
START_SCANNING = 0xF4
SCAN_A = 0x1E
RELEASED = 0x80


class Keyboard:
    """As much of a driver as these tests need."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        lines, ports, _ = agent.hardware()
        self.line = agent.make("range_slice", lines, LINE, 1)
        self.ports = agent.make("range_slice", ports, DATA, COMMAND - DATA + 1)
        self.bell = agent.make("notification_create", agent.quota)
        self.write(COMMAND, SET_MODE)
        self.write(DATA, MODE)
        self.write(DATA, START_SCANNING)
        while self.read(COMMAND) & DATA_THERE:
            self.read(DATA)
        assert agent.call("irq_bind", self.line, self.bell, 1) == 0

    def read(self, port: int) -> int:
        return self.agent.sys("ioports_read", self.ports, port, 1).second

    def write(self, port: int, value: int) -> None:
        assert self.agent.call("ioports_write", self.ports, port, 1, value) == 0

    def next_code(self) -> int:
        """Wait for the line's notification; the scan code."""
        while self.agent.sys("poll", self.bell).value:
            pass
        code = self.read(DATA)
        assert self.agent.call("irq_ack", self.line) == 0
        return code


@pytest.mark.parametrize(
    (),
    [pytest.param(id=name, marks=pytest.mark.machine(**way)) for name, way in WAYS.items()],
)
def test_keys(machine: Machine, injector: Injector) -> None:
    machine.console.expect("onestack> ", 30)
    machine.console.send_line("run agent")
    machine.console.expect(READY)
    keyboard = Keyboard(Agent(machine))
    for _ in range(3):
        injector.inject(SendKey(key="a"))
        machine.resume()
        assert keyboard.next_code() == SCAN_A
        assert keyboard.next_code() == SCAN_A | RELEASED
