# SPDX-License-Identifier: MIT
"""Write a first kernel file, with a comment on everything that one may want to change."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from onestack.elf import Images
from onestack.errors import UsageError
from onestack.machine import BootWay, MachineSpec
from onestack.scout import KILLED, PANIC, Findings, Site, boot_and_look, console_patterns, is_linux

LOOK = 20.0  # seconds that the guest is watched for
MOST_PATHS = 4
# Addresses and stacks that are the same in every boot.
LINUX_OPTIONS = ("console=ttyS0", "nokaslr", "norandmaps", "randomize_kstack_offset=off")

Ask = Callable[[str], str]  # a question -> an answer; empty: the default


@dataclass(frozen=True)
class Answers:
    """All that a kernel file is written from."""

    spec: MachineSpec
    elfs: tuple[Path, ...]
    ready: str = ""
    panic: tuple[str, ...] = ()
    killed: tuple[str, ...] = ()
    sites: tuple[Site, ...] = ()
    findings: Findings = field(default_factory=Findings)


def first_answers(spec: MachineSpec, elfs: Sequence[Path], look: float = LOOK) -> Answers:
    """What can be known without asking. `look` 0: do not boot the guest."""
    if spec.kernel and is_linux(spec.kernel):
        extra = [word for word in LINUX_OPTIONS if word not in spec.append.split()]
        spec = replace(spec, append=" ".join([spec.append, *extra]).strip())
        killed: tuple[str, ...] = (r"segfault at [^\n]*\n", r"traps: [^\n]*\n")
    else:
        killed = ()
        elfs = [*([spec.kernel] if spec.kernel else []), *elfs]
    if not elfs:
        raise UsageError(
            "no ELF file with symbols", "Give one by --elf: the kernel's or a program's"
        )
    images = Images.load(*elfs)
    found = boot_and_look(spec, images, look) if look else Findings(problem="it was not booted")
    if not found.sites and not any(image.symbols for image in images.images):
        found = replace(found, problem="no file has symbols; give an unstripped one by --elf")
    panics = tuple(console_patterns(images, PANIC))
    killed += tuple(console_patterns(images, KILLED))
    sites = found.sites[:MOST_PATHS]
    return Answers(spec, tuple(elfs), found.ready, panics, killed, sites, found)


def ask_all(answers: Answers, ask: Ask) -> Answers:
    """Go through the questions; an empty answer keeps what is there."""
    spec = answers.spec

    def text(question: str, default: str) -> str:
        return ask(f"{question} [{default or 'none'}]: ").strip() or default

    def number(question: str, default: int) -> int:
        answer = text(question, str(default))
        if not answer.isdigit():
            raise UsageError(f"{answer!r} is no number")
        return int(answer)

    spec = replace(
        spec,
        memory=number("Memory of the machine in MiB", spec.memory),
        cores=number("CPUs", spec.cores),
        append=text("The kernel's command line", spec.append),
    )
    ready = text("What the console shows when the kernel is up (regular expression)", answers.ready)
    panic = text("What it shows when it panics, besides `panic: `", "; ".join(answers.panic))
    start = ",".join(site.start for site in answers.sites)
    chosen = text("Paths begin at (user instructions that are come to for ever)", start)
    sites = {site.start: site for site in answers.sites}
    images = Images.load(*answers.elfs)
    return replace(
        answers,
        spec=spec,
        ready=ready,
        panic=tuple(part for part in panic.split("; ") if part),
        sites=tuple(sites.get(name) or _site(images, name) for name in chosen.split(",") if name),
    )


def _site(images: Images, start: str) -> Site:
    """A path from an instruction to the one after it."""
    address = images.resolve(start)
    instruction = images.instruction(address)
    if instruction is None:
        raise UsageError(f"{start} is in none of the files", "Give a place in an ELF file")
    return Site(start, images.name(instruction.end), address)


def _quoted(value: str) -> str:
    """As TOML: without escapes if that is possible."""
    return json.dumps(value) if "'" in value or not value.isprintable() else f"'{value}'"


def _relative(path: Path, folder: Path) -> str:
    return _quoted(os.path.relpath(path.resolve(), folder.resolve()))


def render(answers: Answers, folder: Path) -> str:
    """The file's text, for a file in `folder`."""
    blocks = [_machine(answers, folder), _guest(answers, folder), _paths(answers), _rest(answers)]
    head = (
        "# A kernel for `onestack`: how it boots, the paths to strike on, who judges.\n"
        "# Paths of files are relative to this one. Try: onestack sweep THIS-FILE"
    )
    return "\n\n".join([head, *blocks]) + "\n"


def _machine(answers: Answers, folder: Path) -> str:
    spec = answers.spec
    lines = ["[machine]"]
    for name in ("kernel", "initrd", "cdrom", "disk"):
        path = getattr(spec, name)
        if path is not None:
            lines.append(f"{name} = {_relative(path, folder)}")
    if spec.boot is not BootWay.PVH:
        lines.append(f"boot = '{spec.boot}'")
    lines.append(f"append = {_quoted(spec.append)}" if spec.append else "# append = '...'")
    lines += [
        f"memory = {spec.memory:<14}# MiB; little is quick to save and restore",
        f"cores = {spec.cores:<15}# a second one runs beside the path's",
        "# clock = 'real'        # if a second CPU does not start by a clock of instructions",
        f"cpu = {_quoted(spec.cpu):<17}# QEMU's -cpu",
    ]
    if spec.machine != MachineSpec.machine:
        lines.append(f"machine = {_quoted(spec.machine)}")
    if spec.args:
        lines.append(f"args = {json.dumps(list(spec.args))}")
    else:
        lines.append("# args = ['-device', 'edu']   more of QEMU's, as they are")
    return "\n".join(lines)


def _guest(answers: Answers, folder: Path) -> str:
    lines = ["[guest]"]
    elfs = ", ".join(_relative(path, folder) for path in answers.elfs)
    lines.append(f"elfs = [{elfs}]    # files with symbols; kernel addresses as linked: KASLR off")
    shown = f"ready = {_quoted(answers.ready)}" if answers.ready else "# ready = 'login:'"
    lines.append(f"{shown}    # a regular expression: the console, once the kernel is up")
    panic = ", ".join(map(_quoted, answers.panic))
    lines.append(f"panic = [{panic}]    # on the console: the kernel has panicked")
    killed = ", ".join(map(_quoted, answers.killed))
    lines.append(f"killed = [{killed}]    # on the console: it has killed the user program")
    lines.append("# type = './run-loop'         typed once it is ready; `prompt` says it has begun")
    lines.append("# prompt = 'looping'")
    return "\n".join(lines)


def _paths(answers: Answers) -> str:
    blocks = []
    for site in answers.sites:
        name = site.start.replace("+", ".").replace("!", ".")
        visits = f"    # {site.visits} times while it was watched" if site.visits else ""
        blocks.append(
            f"[[path]]\nname = {_quoted(name)}\nstart = {_quoted(site.start)}{visits}\n"
            f"end = {_quoted(site.end)}"
        )
    if not blocks:
        blocks.append(
            f"# No path was found: {answers.findings.problem or 'none was chosen'}.\n"
            "# `start`: where the guest is before each round, again and again; `end`: where it is\n"
            "# over: as a rule a system call instruction and the one after it.\n"
            "# [[path]]\n# name = 'null'\n# start = 'user_loop+0x10'\n# end = 'user_loop+0x12'"
        )
    first = answers.sites[0].start if answers.sites else "user_loop"
    mark = "" if answers.sites else "# "
    blocks.append(
        f"{mark}[[path]]\n{mark}name = 'irq'    # an interrupt that strikes user mode\n"
        f"{mark}start = {_quoted(first)}\n{mark}end = {_quoted(first)}\n"
        f"{mark}stimulus = {{ irq = 0xf0 }}    # a vector that the kernel acknowledges"
    )
    return "\n\n".join(blocks)


def _rest(answers: Answers) -> str:
    found = answers.findings
    said = []
    if found.long_mode is not None:
        said.append(f"# Seen: {'64' if found.long_mode else '32'}-bit mode.")
    if found.long_mode is not None and not found.lint1:
        said.append(
            "# Seen: LINT1 is masked or no NMI; QEMU's inject-nmi would do nothing, MSI does."
        )
    lines = [
        "[oracle]",
        "stack = 256                   # bytes compared on both sides of the user's stack pointer",
        "# memory = ['user_data']      # more that must stay as it is: symbols or from..to",
        "# fail = ['user_fail']        # where a program goes that checks itself",
        "# python = 'oracle.py:make'   # or an oracle of your own (onestack.oracle.Oracle)",
        "",
        "# [stacks]                    # names for the report",
        "# kernel = 'stack_bottom..stack_top'",
        "",
        "[sweep]",
        "events = ['nmi']              # also irq, mc, nmi-pair, nmi+irq, nmi-then-mc, mc-then-nmi",
        "irq = 0xf0                    # the vector of the event irq",
        "nmi_by = 'msi'                # to one CPU, whatever LINT1 says; 'qmp': to all",
        "patience = 2.0                # seconds after which a guest hangs",
    ]
    return "\n".join([*said, *lines])
