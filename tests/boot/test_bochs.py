# SPDX-License-Identifier: MIT
"""The second opinion: Bochs boots the same image, and knows CPUs that QEMU does not make."""

from __future__ import annotations

from pathlib import Path

import pytest

from onestack.bochs import Bochs, BochsError, BochsSpec
from onestack.elf import Images
from onestack.errors import Failure, GuestError, UsageError
from onestack.machine import BootWay
from onestack.pytest_plugin import GuestOf


@pytest.fixture
def iso(guest_of: GuestOf) -> Path:
    path = guest_of({"boot": BootWay.ISO_BIOS}).spec.cdrom
    assert path is not None
    return path


def test_boots_takes_nmis_and_switches_off(iso: Path) -> None:
    with Bochs(BochsSpec(iso)) as bochs:
        bochs.console.expect("onestack> ", 60)
        for count in range(1, 21):
            bochs.inject_nmi()
            answer = bochs.console.run("nmi", "onestack> ")
            assert answer == f"core 0: {count} nmis, {count} worked on"
        bochs.console.send_line("poweroff")
        assert "soft power off" in bochs.wait_end()


REFUSED = {"p3_katmai": "the CPU has no long mode", "corei7_haswell_4770": "the CPU lacks SMAP"}


@pytest.mark.parametrize("cpu", REFUSED)
def test_refused_cpu(cpu: str, iso: Path) -> None:
    with Bochs(BochsSpec(iso, cpu=cpu)) as bochs:
        with bochs.console.failure_expected():
            assert bochs.wait_end(60) == "magic break"
        assert bochs.console.text == f"boot refused: {REFUSED[cpu]}\r\n"


def test_frequency_by_cpuid(iso: Path, guest_of: GuestOf) -> None:
    """Of the CPUs here only this one has leaf 15h, which tells: crystal times ratio."""
    clock = Images.load(*guest_of({}).elfs).resolve("machine_clock")
    with Bochs(BochsSpec(iso, cpu="tigerlake")) as bochs:
        bochs.console.expect("onestack> ", 60)
        bochs.pause()
        answer = bochs.command(f"x /1gx {clock:#x}")
    assert int(answer.split()[-1], 16) == 38_400_000 * 126 // 2


# The harness's side.


def test_a_bad_pattern_ends_the_wait(iso: Path) -> None:
    with Bochs(BochsSpec(iso, cpu="p3_katmai")) as bochs, pytest.raises(GuestError) as caught:
        bochs.console.expect("onestack> ", 60)
    assert caught.value.kind is Failure.PANIC
    assert "no long mode" in caught.value.detail


def test_no_such_cpu(iso: Path) -> None:
    with pytest.raises(BochsError, match="cpu directive malformed"):
        Bochs(BochsSpec(iso, cpu="nonsense"))


def test_nothing_to_boot_from(tmp_path: Path) -> None:
    blank = tmp_path / "blank.iso"
    blank.write_bytes(bytes(1 << 16))
    with Bochs(BochsSpec(blank)) as bochs:
        assert "No bootable device" in bochs.wait_end()


def test_commands_need_a_guest_that_stands_still(iso: Path) -> None:
    with Bochs(BochsSpec(iso)) as bochs:
        with pytest.raises(UsageError, match="pause"):
            bochs.command("r")
        bochs.pause()
        assert "rip:" in bochs.command("r")
