# SPDX-License-Identifier: MIT
"""The second opinion: Bochs boots the same image, and knows CPUs that QEMU does not make."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from onestack.bochs import Bochs, BochsError, BochsSpec
from onestack.elf import Images
from onestack.errors import DeadlineError, Failure, GuestError, UsageError
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
        with pytest.raises(BochsError, match="bad length"):
            bochs.command("setpmem 0 8 0")


# The NMI protocol and the machine's state, where TCG's word is not the last.


def physical(images: Images, where: str | int) -> int:
    """Of the kernel's image (kernel/arch/layout.h)."""
    return images.resolve(where) - 0xFFFFFFFF80000000


def find(images: Images, function: str, mnemonic: str) -> int:
    """The first such instruction of a function of the kernel's."""
    symbol = images.images[0].symbol(function)
    code = images.images[0].disassemble(symbol.address, symbol.address + symbol.size)
    return next(each.address for each in code if each.mnemonic == mnemonic)


JNE_SHORT, JMP_SHORT = 0x75, 0xEB


def nested_nmis(bochs: Bochs, images: Images, rounds: int, jump: int = JNE_SHORT) -> str:
    """NMIs with a breakpoint in their handler, each with a second NMI waiting behind that; then
    what the shell says of them. `jump` is nested_return's first, which chooses the IRET."""
    bochs.console.expect("onestack> ", 60)
    bochs.pause()
    bochs.command(f"setpmem {physical(images, find(images, 'nested_return', 'jne')):#x} 1 {jump}")
    bochs.command(f"setpmem {physical(images, find(images, 'entry_ist', 'cld')):#x} 1 0xcc")
    bochs.command(f"lb {images.resolve('trap_nested'):#x}")
    for _ in range(rounds):
        bochs.command("take nmi")
        bochs.resume()
        assert bochs.wait_end(10) == "magic break"  # at the breakpoint inside the first
        bochs.command("take nmi")
        bochs.resume()
        assert bochs.wait_end(10) == "magic break"  # inside the second
    bochs.command("d 1")
    bochs.resume()
    return bochs.console.run("nmi", "onestack> ", 10)


def test_no_frame_is_lost_inside_an_nmi(iso: Path, guest_of: GuestOf) -> None:
    images = Images.load(*guest_of({}).elfs)
    with Bochs(BochsSpec(iso)) as bochs:
        assert nested_nmis(bochs, images, 10) == "core 0: 20 nmis, 20 worked on"


def test_a_return_by_iret_inside_an_nmi_is_condemned(iso: Path, guest_of: GuestOf) -> None:
    """The control: nested_return always goes by IRET, and the first NMI goes back to nowhere."""
    images = Images.load(*guest_of({}).elfs)
    with Bochs(BochsSpec(iso)) as bochs, pytest.raises((GuestError, DeadlineError)):
        nested_nmis(bochs, images, 2, JMP_SHORT)


@pytest.mark.parametrize("program", ["regs", "exceptions"])
def test_machine_state(iso: Path, program: str) -> None:
    """All registers over all calls; every exception and its error code, a jump to where no address
    is canonical, frames that must not be believed (E9). Of the CPUs here this one has UMIP."""
    with Bochs(BochsSpec(iso, cpu="tigerlake")) as bochs:
        bochs.console.expect("onestack> ", 60)
        answer = bochs.console.run(f"run {program}", "onestack> ", 100)
        assert f"{program} ended with 0" in answer, answer


def test_a_simd_exception(iso: Path) -> None:
    with Bochs(BochsSpec(iso)) as bochs:
        bochs.console.expect("onestack> ", 60)
        answer = bochs.console.run("run exceptions simd", "onestack> ", 60)
        assert answer == "exceptions ended with 0"


CR0_AM = 1 << 18


@pytest.mark.parametrize("mask", [0, CR0_AM], ids=["as it is", "with CR0.AM"])
def test_alignment_check(iso: Path, guest_of: GuestOf, mask: int) -> None:
    """CR0.AM stays clear, so user mode cannot have it. With it, it is one more exception."""
    images = Images.load(*guest_of({}).elfs)
    start = images.resolve("core_init")
    code = images.images[0].disassemble(start, start + 1024)
    [bits] = [each for each in code if each.mnemonic == "or" and "0x1002a" in each.operands]
    with Bochs(BochsSpec(iso)) as bochs:
        bochs.pause()
        bochs.command(f"lb {start:#x}")
        bochs.resume()
        assert bochs.wait_end(60) == "magic break"  # it is at the breakpoint
        at = physical(images, bits.address + len(bits.data) - 4)
        bochs.command(f"setpmem {at:#x} 4 {0x1002A | mask:#x}")
        bochs.command("d 1")
        bochs.resume()
        bochs.console.expect("onestack> ", 60)
        answer = bochs.console.run("run exceptions alignment", "onestack> ", 60)
    assert answer.splitlines()[-1] == f"exceptions ended with {int(mask == 0)}", answer


# E9 is that no exit can fault. And if one did? With a frame that a debugger has made bad the kernel
# ends, and says so: no triple fault, no user code with the kernel's rights.

NON_CANONICAL = 1 << 47
DIRECT_MAP = 0xFFFF800000000000


def spoil_iretq(bochs: Bochs) -> None:
    """RSP is in the TCB, at the frame; RIP is its first word."""
    found = re.search(r"rsp: (\w{8})_(\w{8})", bochs.command("r"))
    assert found
    rip = int(found[1] + found[2], 16) - DIRECT_MAP
    bochs.command(f"setpmem {rip + 4:#x} 4 {NON_CANONICAL >> 32:#x}")


def spoil_sysretq(bochs: Bochs) -> None:
    """RSP is the user's already."""
    bochs.command(f"set rcx = {NON_CANONICAL:#x}")


@pytest.mark.parametrize(
    ("exit_", "spoil"),
    [("exit_iret_leave", spoil_iretq), ("exit_sysret_leave", spoil_sysretq)],
)
def test_an_exit_that_faults_is_a_panic(
    iso: Path, guest_of: GuestOf, exit_: str, spoil: Callable[[Bochs], None]
) -> None:
    images = Images.load(*guest_of({}).elfs)
    with Bochs(BochsSpec(iso)) as bochs:
        bochs.console.expect("onestack> ", 60)
        bochs.pause()
        bochs.command(f"lb {images.resolve(exit_):#x}")
        bochs.resume()
        bochs.console.send_line("mce")
        assert bochs.wait_end(10) == "magic break"  # it is at the breakpoint
        spoil(bochs)
        bochs.command("d 1")
        bochs.resume()
        time.sleep(1)  # so that its report and its end come at once, as on a busy host
        with pytest.raises(GuestError) as caught:
            bochs.wait_end(10)
    assert caught.value.kind is Failure.PANIC
    assert "double fault" in caught.value.detail
