# SPDX-License-Identifier: MIT
"""Switching off: by command and by button, with QEMU's exit port and by ACPI alone."""

from __future__ import annotations

from typing import Any

import pytest

from onestack import exitcodes
from onestack.errors import Failure, GuestError
from onestack.machine import BootWay, Machine

WAYS: dict[str, dict[str, Any]] = {
    "pvh-q35": {"machine": "q35"},
    "pvh-pc": {"machine": "pc"},
    "iso-bios-q35": {"boot": BootWay.ISO_BIOS},
    "iso-bios-pc": {"boot": BootWay.ISO_BIOS, "machine": "pc"},
    "iso-uefi-q35": {"boot": BootWay.ISO_UEFI},
}


def on_each_way(**options: object) -> pytest.MarkDecorator:
    """Run the test on each way to boot, with these options too."""
    rows = [
        pytest.param(id=name, marks=pytest.mark.machine(**way, **options))
        for name, way in WAYS.items()
    ]
    return pytest.mark.parametrize((), rows)


def ended_by_acpi(machine: Machine) -> bool:
    """Wait until the guest has entered S5."""
    with pytest.raises(GuestError) as caught:
        machine.wait_exit()
    return caught.value.kind is Failure.RESET and caught.value.detail == "guest-shutdown"


def test_button(machine: Machine) -> None:
    machine.console.expect("onestack> ", 30)
    machine.qmp.execute("system_powerdown")
    assert machine.wait_exit() == exitcodes.POWEROFF


@on_each_way(debug_exit=False)
def test_button_without_exit_port(machine: Machine) -> None:
    machine.console.expect("onestack> ", 30)
    machine.qmp.execute("system_powerdown")
    assert ended_by_acpi(machine)


@pytest.mark.machine(machine="microvm")
def test_command_without_acpi_registers(machine: Machine) -> None:
    machine.console.expect("onestack> ", 30)
    machine.console.send_line("poweroff")
    assert machine.wait_exit() == exitcodes.POWEROFF


@pytest.mark.machine(debug_exit=False)
def test_command_without_exit_port(machine: Machine) -> None:
    machine.console.expect("onestack> ", 30)
    machine.console.send_line("poweroff")
    assert ended_by_acpi(machine)


@pytest.mark.machine(machine="microvm", debug_exit=False)
def test_no_way_off_is_told(machine: Machine) -> None:
    machine.console.expect("onestack> ", 30)
    machine.console.send_line("poweroff")
    machine.console.expect("poweroff: ")
    machine.console.expect("onestack> ")
