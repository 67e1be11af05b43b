# SPDX-License-Identifier: MIT
"""`onestack init`: what it finds out about a kernel, what it asks, what it writes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from conftest import TOP, TOY
from onestack import kernelfile
from onestack.elf import Images
from onestack.errors import UsageError
from onestack.machine import MachineSpec
from onestack.newfile import Answers, ask_all, first_answers, render
from onestack.scout import call_sites

TOY32 = TOP / "build/foreign/toy32.elf"


def read_back(answers: Answers, folder: Path) -> kernelfile.KernelFile:
    file = folder / "k.toml"
    file.write_text(render(answers, folder))
    return kernelfile.load(file)


def test_system_calls_are_found_by_their_instructions() -> None:
    sites = {site.start: site.end for site in call_sites(Images.load(TOY))}
    assert sites["user_null"] == "user_null_after"
    assert len(sites) == 6  # and no byte pair in the middle of another instruction
    assert [site.start for site in call_sites(Images.load(TOY32))] == ["user_null"]


def test_watching_a_kernel_boot(tmp_path: Path) -> None:
    answers = first_answers(MachineSpec(kernel=TOY, memory=32), [])
    # not user_a's first system call, and not that of a check that failed
    wanted = ["user_null", "user_copy", "user_yield", "user_b+0x5"]
    assert [site.start for site in answers.sites] == wanted
    assert answers.ready == "toy: ready"
    assert answers.findings.long_mode is True
    assert answers.findings.lint1
    kernel = read_back(answers, tmp_path)
    assert [path.start for path in kernel.paths] == [*wanted, "user_null"]
    assert kernel.target.spec.kernel is not None
    assert kernel.target.spec.kernel.samefile(TOY)
    assert any("toy: panic" in bad.regex for bad in kernel.target.spec.bad_patterns)


def test_what_is_special_about_a_kernel_is_said(tmp_path: Path) -> None:
    answers = first_answers(MachineSpec(kernel=TOY32, memory=32), [])
    text = render(answers, tmp_path)
    assert "32-bit mode" in text
    assert "LINT1 is masked" in text
    assert answers.ready == r"toy\w+: ready"
    assert answers.killed == (r"toy32: process killed: vector [^\n]*\n",)


def test_without_a_look_the_file_says_what_is_missing(tmp_path: Path) -> None:
    answers = first_answers(MachineSpec(kernel=TOY), [], look=0)
    assert "No path was found: it was not booted" in render(answers, tmp_path)
    assert read_back(answers, tmp_path).paths == ()


def test_answers_of_a_user(tmp_path: Path) -> None:
    questions = []
    replies = iter(["64", "2", "a 'quoted' line", "", "", "user_yield,user_null"])

    def ask(question: str) -> str:
        questions.append(question)
        return next(replies)

    first = first_answers(MachineSpec(kernel=TOY, memory=32), [], look=0)
    kernel = read_back(ask_all(first, ask), tmp_path)
    spec = kernel.target.spec
    assert (spec.memory, spec.cores, spec.append) == (64, 2, "a 'quoted' line")
    assert [path.end[0] for path in kernel.paths[:2]] == [
        "user_yield_after",
        "user_null_after",
    ]
    assert len(questions) == 6
    assert all(question.endswith("]: ") for question in questions)


def test_answers_that_make_no_sense() -> None:
    first = first_answers(MachineSpec(kernel=TOY), [], look=0)
    with pytest.raises(UsageError, match="'much' is no number"):
        ask_all(first, lambda _question: "much")
    replies = iter(["", "", "", "", "", "user_nul"])
    with pytest.raises(UsageError, match="Did you mean user_null"):
        ask_all(first, lambda _question: next(replies))


def test_kernel_without_symbols(tmp_path: Path) -> None:
    bare = tmp_path / "bare.elf"
    subprocess.run(["strip", "-o", bare, TOY], check=True)
    answers = first_answers(MachineSpec(kernel=bare, memory=32), [], look=1)
    assert answers.sites == ()
    assert "no file has symbols; give an unstripped one by --elf" in render(answers, tmp_path)


def test_command_line(tmp_path: Path) -> None:
    command = ["onestack", "init", str(TOY), "--memory", "32", "--defaults"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "toy.toml: 4 system call paths" in done.stdout
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "toy.toml exists. Give another -o, or --force" in done.stderr
    nobody = subprocess.run(
        [*command[:-1], "--force", "--look", "0"],
        cwd=tmp_path, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert nobody.returncode == 2
    assert nobody.stderr == "onestack: nobody answers. Use --defaults\n"
