# SPDX-License-Identifier: MIT
"""FPU state: user/tests/fpu on several CPUs, and on a kernel that gets it wrong on purpose."""

from __future__ import annotations

import re

import pytest

from onestack.elf import Images
from onestack.exitcodes import describe
from onestack.machine import Machine
from onestack.patch import PatchFault

POWEROFF, FAILED = 33, 39
CPUS = {
    "max": "with AVX",
    "max,-xsaveopt": "with AVX",
    "max,-avx": "without AVX",
    "max,-xsave": "without AVX",
}


@pytest.mark.parametrize(
    ("cpu", "says"),
    [
        pytest.param(c, s, id=c, marks=pytest.mark.machine(cpu=c, append="run=fpu"))
        for c, s in CPUS.items()
    ],
)
def test_everyone_keeps_its_own(machine: Machine, cpu: str, says: str) -> None:
    status = machine.wait_exit(60.0)
    text = machine.console.text
    assert f"fpu: {says}" in text
    assert re.findall(r"^fpu: .*WRONG", text, re.MULTILINE) == [], cpu
    assert status == POWEROFF, describe(status)


def instruction(images: Images, function: str, text: str) -> str:
    """Where the one instruction in `function` is that looks so."""
    image = images.images[0]
    symbol = image.symbol(function)
    code = image.disassemble(symbol.address, symbol.address + symbol.size)
    found = [i for i in code if re.fullmatch(text, i.text)]
    assert len(found) == 1, [i.text for i in code]
    return f"{function}+{found[0].address - symbol.address:#x}"


# What each planted fault must make wrong. (That the registers are also cleaned while CR0.TS is set
# is for CPUs that speculate past it; no program can see it here.)
SLOW, FAST = "fpu_switch_state", "fpu_kept_xsaveopt"
# Real time decides whether a sleeper comes back while another one's registers are loaded.
SWITCHED = "(?:sleep|time slice)"
FAULTS = {
    "nothing is saved": (SLOW, r"xsaveopt64 .*", SWITCHED),
    "nothing is restored": (SLOW, r"xrstor64 .*\[r\w+\]", SWITCHED),
    "CR0.TS stays clear": (SLOW, r"mov cr0, r\w+", SWITCHED),
    "hand-overs save nothing": (FAST, r"xsaveopt64 .*", "yield"),
    "calls save nothing": (FAST, r"xsaveopt64 .*", "calls to another space"),
    "calls restore nothing": (FAST, r"xrstor64 .*\[r\w+\]", "calls to another space"),
    "calls leave CR0.TS clear": (FAST, r"lmsw .*", "calls to one that begins late"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.machine(append="run=fpu", paused=True)
def test_finds_planted_faults(machine: Machine, images: Images, name: str) -> None:
    function, text, wrong = FAULTS[name]
    machine.run_to(images.resolve("kernel_main"))
    fault = PatchFault(name, instruction(images, function, text), b"")
    fault.apply(machine, images)
    machine.resume()
    machine.console.expect(rf"fpu: {wrong}: WRONG", 60.0)
