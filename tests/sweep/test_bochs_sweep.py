# SPDX-License-Identifier: MIT
"""A part of the sweep under Bochs; tests/sweep/bochs_sweep.py and `scons soak` do the whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bochs_sweep import STRUCK, Walker, boundaries
from kernel_target import DEFAULT, TOP

from onestack.bochs import Bochs, BochsSpec
from onestack.elf import Images

KERNEL_BASE = 0xFFFFFFFF80000000  # kernel/arch/layout.h


@pytest.fixture
def walker(request: pytest.FixtureRequest) -> Iterator[Walker]:
    images = Images.load(DEFAULT.kernel, TOP / "build/user/sweep.elf")
    with Bochs(BochsSpec(DEFAULT.kernel.with_name("onestack.iso"))) as bochs:
        yield Walker(bochs, images, STRUCK[request.param])


@pytest.mark.parametrize(
    ("walker", "every"), [("shadow", 1), ("call", 1), ("opcode", 8)], indirect=["walker"]
)
def test_nmis_under_bochs(walker: Walker, every: int) -> None:
    path = walker.path()
    steps = boundaries(path)[::every]
    assert len(steps) >= 25
    assert not walker.sweep(path, steps)


@pytest.mark.parametrize("walker", ["shadow"], indirect=True)
def test_an_nmi_waits_behind_mov_ss_for_syscall(walker: Walker) -> None:
    """As on hardware, and not under TCG: it finds the kernel with the user's stack."""
    bochs = walker.bochs
    bochs.command("s")
    assert walker.rip() == walker.images.resolve("sweep_shadow_call")
    bochs.command("take nmi")
    bochs.command("s 2")
    assert walker.images.name(walker.rip()).startswith("vector_2")
    assert walker.word("rsp") == walker.images.resolve("syscall_entry"), "what was interrupted"


@pytest.mark.parametrize("walker", ["shadow"], indirect=True)
def test_a_kernel_without_windows_is_condemned(walker: Walker) -> None:
    """The control: an NMI after the exit's last check is not looked at before user mode."""
    windows = walker.images.range_of("__windows_start..__windows_end")
    for address in range(windows.start, windows.stop, 4):
        walker.bochs.command(f"setpmem {address - KERNEL_BASE:#x} 4 0")
    path = walker.path()
    said = walker.sweep(path, range(len(path)))
    assert "exit_sysret" in said
    assert "not to sweep_woken" in said
