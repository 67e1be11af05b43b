# SPDX-License-Identifier: MIT
"""The NMI protocol's model: it holds, its planted holes are found, and it is the kernel's."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from onestack.elf import Image, Instruction, Symbol

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
MODEL = HERE / "nmi.pml"
HOLES = ("WINDOW", "IDLE", "UNMASK", "UNMASK_BP", "MASKED", "DISTRUST", "WIPE", "DRAIN")
STEP = re.compile(r"/\* (?P<label>[a-z]\w*): (?P<words>[a-z][a-z ]*) \*/")
WINDOW = re.compile(r"#define IN_\w+\(p\) \((?P<steps>.*)\)")
SECTION = "/* ----"
NAMES = {"lretq": "retfq"}  # capstone's


def check(folder: Path, *defines: str) -> str:
    """What spin's exhaustive search says of the model with these macros."""
    shutil.copy(MODEL, folder)
    flags = [f"-D{define}" for define in defines]
    subprocess.run(["spin", "-a", *flags, MODEL.name], cwd=folder, check=True)
    compiler = ["gcc", "-O1", "-w", "-DSAFETY", "-o", "pan", "pan.c"]
    subprocess.run(compiler, cwd=folder, check=True)
    done = subprocess.run(
        ["./pan", "-m100000"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def errors(report: str) -> int:
    """How many spin has found."""
    found = re.search(r"errors: (\d+)", report)
    assert found, report
    assert "max search depth too small" not in report
    return int(found[1])


def test_the_protocol_holds(tmp_path: Path) -> None:
    report = check(tmp_path)
    assert errors(report) == 0, report
    # every step was taken: what is never reached proves nothing
    assert re.findall(r"nmi\.pml:\d+, state \d+, \"(.*)\"", report) == ["-end-"], report


@pytest.mark.parametrize("hole", HOLES)
def test_a_planted_hole_is_found(tmp_path: Path, hole: str) -> None:
    report = check(tmp_path, f"HOLE_{hole}")
    assert errors(report) > 0
    assert "assertion violated" in report


def test_every_hole_of_the_model_is_planted() -> None:
    assert set(re.findall(r"HOLE_(\w+)", MODEL.read_text())) == set(HOLES)


# ---- the model against the kernel


@dataclass(frozen=True)
class Step:
    """A step of the model, and what is in the instruction that it says it is."""

    line: int
    section: int
    label: str
    words: frozenset[str]

    def matches(self, instruction: Instruction) -> bool:
        """Whether an instruction has all these words."""
        return self.words <= set(instruction.text.replace(",", " ").split())

    def __str__(self) -> str:
        return f"nmi.pml:{self.line}: {self.label}: {' '.join(sorted(self.words))}"


def steps() -> list[Step]:
    """The model's, in its order."""
    found, section = [], 0
    for number, line in enumerate(MODEL.read_text().splitlines(), 1):
        section += SECTION in line
        for step in STEP.finditer(line):
            words = frozenset(NAMES.get(word, word) for word in step["words"].split())
            found.append(Step(number, section, step["label"], words))
    return found


@pytest.fixture(scope="module", params=["tcb", "percpu", "ist", "perthread"])
def kernel(request: pytest.FixtureRequest) -> Image:
    return Image(TOP / f"build/{request.param}-ist-release/kernel.elf")


def function_at(kernel: Image, label: str) -> Symbol:
    """The function that a label is in."""
    address = kernel.symbol(label).address
    within = [s for s in kernel.symbols if s.size and s.address <= address < s.address + s.size]
    assert within, f"{label} is in no function"
    return within[0]


def misplaced(kernel: Image, order: Sequence[Step]) -> list[str]:
    """Steps that are no instruction of the kernel, or that it takes earlier than the model says.

    Of each section of the model, those in one function must come one after the other there.
    """
    found = []
    reached: dict[tuple[int, str], int] = {}
    for step in order:
        function = function_at(kernel, step.label)
        first = kernel.symbol(step.label).address
        place = (step.section, function.name)
        start = reached.get(place, first)
        code = kernel.disassemble(first, function.address + function.size)
        at = [each.address for each in code if step.matches(each)]
        later = [address for address in at if address >= start]
        if not later:
            found.append(f"{step}: {'comes too early' if at else 'no such instruction'}")
        else:
            reached[place] = later[0] + 1
    return found


def test_steps_are_the_kernel_s_instructions_in_its_order(kernel: Image) -> None:
    order = steps()
    assert len(order) > 30
    assert not misplaced(kernel, order)


def test_a_step_out_of_order_is_found(kernel: Image) -> None:
    order = steps()
    at = next(i for i, step in enumerate(order) if step.label == "exit_iret_leave")
    order[at - 1], order[at] = order[at], order[at - 1]
    assert misplaced(kernel, order)


def test_a_step_that_the_kernel_does_not_take_is_found(kernel: Image) -> None:
    assert misplaced(kernel, [Step(0, 0, "exit_iret_check", frozenset({"sti"}))])


def test_windows_are_the_kernel_s(kernel: Image) -> None:
    """The steps from which the model goes back are those between a window's two labels."""
    table = kernel.bytes_at(
        kernel.symbol("__windows_start").address,
        kernel.symbol("__windows_end").address - kernel.symbol("__windows_start").address,
    )
    words = [int.from_bytes(table[i : i + 8], "little") for i in range(0, len(table), 8)]
    windows = set(zip(words[::2], words[1::2], strict=True))
    mine = set()
    for found in WINDOW.finditer(MODEL.read_text()):
        names = re.findall(r"p == (\w+)", found["steps"])
        mine.add((kernel.symbol(names[0]).address, kernel.symbol(names[-1]).address))
    assert mine <= windows
    # ist has one more, for a frame that never went to the TCB
    more = {kernel.symbol(name).address for name in ("ist_exit_check",) if name in kernel.by_name}
    assert {first for first, _ in windows - mine} == more
