# SPDX-License-Identifier: MIT
"""A part of the interleaving sweep of each race. interleave_all.py plays all of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from interleaving import Interleaver
from races import RACES

from onestack.elf import Images
from onestack.patch import PatchFault

PART = 4  # boundaries of each race


@pytest.fixture(scope="module")
def interleaver() -> Iterator[Interleaver]:
    with Interleaver() as interleaver:
        yield interleaver


@pytest.mark.parametrize("name", RACES)
def test_a_race_ends_as_if_one_came_after_the_other(interleaver: Interleaver, name: str) -> None:
    report = interleaver.sweep(RACES[name], PART)
    assert report.boundaries > report.unreached, "it never comes by there"
    assert not report.failures, report.told(interleaver.images)


def lock_that_does_not_lock(images: Images) -> list[PatchFault]:
    """A sender looks whether somebody receives, and takes him, as if it had the endpoint's lock."""
    kernel = images.images[0]
    entry = kernel.symbol("sys_send")
    code = kernel.disassemble(entry.address, entry.address + entry.size)
    send = int(next(one.operands for one in code if one.mnemonic == "jmp"), 16)
    at = next(o.address for o in kernel.disassemble(send, send + 0x200) if o.mnemonic == "xchg")
    return [PatchFault("no lock", f"{at:#x}", b"\x31\xc0", expect="xchg")]  # xor %eax, %eax


def test_a_check_split_from_its_act_is_found() -> None:
    race = RACES["send-and-cancel-of-the-receiver"]
    with Interleaver(faults=lock_that_does_not_lock) as planted:
        report = planted.sweep(race, within=("dequeue",))
    assert report.failures, "the planted race is not found"
    assert len(report.failures) < report.boundaries, "it shows between the check and the act only"
