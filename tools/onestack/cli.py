# SPDX-License-Identifier: MIT
"""The command `onestack`: one subcommand for each thing that the harness can do."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import termios
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console as Terminal

from onestack import artefacts, bench, campaign, exitcodes, kernelfile, newfile, trace
from onestack.deadline import Deadline
from onestack.elf import Images
from onestack.elfcheck import StackRules, check_image
from onestack.errors import (
    DeadlineError,
    DeliveryError,
    Failure,
    GuestError,
    OnestackError,
    UsageError,
)
from onestack.events import event_named, standard_events
from onestack.inject import Injector
from onestack.machine import BootWay, Machine, MachineSpec, QemuError, check_qemu, die_with
from onestack.progress import SweepProgress
from onestack.report import write_html
from onestack.stepper import Stepper, TssView, register_rows
from onestack.symbolize import Symbolizer

OK, FOUND, USAGE, ENVIRONMENT, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 4, 130
EXIT_CODES = """exit codes:
  0    done; everything survived, every target is met
  1    the guest failed: a panic, a reset, a boundary not survived, a target missed
  2    the command line or a file it names is wrong
  3    this computer lacks something: QEMU, a recent one, a readable file
  4    not everything could be judged
  130  interrupted (Ctrl-C); no QEMU is left behind
"""
ADDRESS = re.compile(r"\b(?:0x)?([0-9a-f]{6,16})\b")


@dataclass(frozen=True)
class Command:
    """A subcommand: what it does, an example, its arguments, its function."""

    name: str
    summary: str
    example: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


# ---- what several commands share


def _add_machine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("machine (instead of a kernel file)")
    group.add_argument("--kernel", type=Path, metavar="ELF", help="boot this by QEMU's -kernel")
    group.add_argument("--initrd", type=Path, metavar="FILE", help="its boot module or initramfs")
    group.add_argument("--append", default="", metavar="TEXT", help="its command line")
    group.add_argument("--cdrom", type=Path, metavar="ISO", help="boot this CD image instead")
    group.add_argument("--uefi", action="store_true", help="boot the CD by UEFI, not by BIOS")
    group.add_argument("--memory", type=int, default=256, metavar="MIB", help="default 256")
    group.add_argument("--cores", type=int, default=1, metavar="N", help="CPUs, default 1")
    group.add_argument("--cpu", default="max", metavar="MODEL", help="QEMU's -cpu, default max")
    group.add_argument(
        "--qemu-arg", action="append", default=[], metavar="ARG", help="one more argument for QEMU"
    )


def _spec(options: argparse.Namespace) -> MachineSpec:
    """The machine that a kernel file or options describe."""
    if getattr(options, "file", None):
        return kernelfile.load(options.file).target.spec
    boot = BootWay.PVH
    if options.cdrom:
        boot = BootWay.ISO_UEFI if options.uefi else BootWay.ISO_BIOS
    elif options.kernel is None:
        raise UsageError("nothing to boot", "Give a kernel file, --kernel or --cdrom")
    return MachineSpec(
        kernel=options.kernel,
        initrd=options.initrd,
        append=options.append,
        cdrom=options.cdrom,
        boot=boot,
        memory=options.memory,
        cores=options.cores,
        cpu=options.cpu,
        args=tuple(options.qemu_arg),
    )


def _show(options: argparse.Namespace, facts: dict[str, Any], text: str) -> None:
    """The result: as JSON if that is wanted, else as text."""
    print(json.dumps(facts, indent=1) if options.json else text)


def _file_argument(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    parser.add_argument(
        "file",
        type=Path,
        nargs="?" if optional else None,
        metavar="KERNEL.toml",
        help="the kernel, how it boots, its paths",
    )


# ---- boot


def _boot_arguments(parser: argparse.ArgumentParser) -> None:
    _file_argument(parser, optional=True)
    _add_machine(parser)
    parser.add_argument("--expect", metavar="REGEX", help="end as soon as the console shows this")
    parser.add_argument("--send", metavar="TEXT", help="type this line once it has been shown")
    parser.add_argument("--then", metavar="REGEX", help="and wait for this")
    parser.add_argument(
        "--within", type=float, default=60.0, metavar="SECONDS", help="for each wait, default 60"
    )
    parser.add_argument(
        "--gdb", metavar="SOCKET", help="start stopped, wait for gdb on this socket"
    )


def _boot(options: argparse.Namespace) -> int:
    spec = _spec(options)
    if not options.expect:
        return _boot_interactively(spec, options.gdb)
    with Machine(spec) as machine:
        try:
            machine.console.expect(options.expect, options.within)
            if options.send is not None:
                machine.console.send_line(options.send)
            if options.then:
                machine.console.expect(options.then, options.within)
        finally:
            machine.console.drain()
            facts = {"console": machine.console.text, "qemu": machine.version}
            _show(options, facts, machine.console.text.rstrip())
    return OK


def _boot_interactively(spec: MachineSpec, gdb: str | None) -> int:
    """Give the terminal to QEMU's serial line; Ctrl-A X ends it."""
    check_qemu(spec.qemu)
    command = [*replace(spec, keep=False).arguments(), "-serial", "mon:stdio"]
    if gdb:
        command += ["-gdb", f"unix:{gdb},server=on,wait=off", "-S"]
        print(f"gdb {spec.kernel or ''} -ex 'target remote {gdb}'", file=sys.stderr)
    parent = os.getpid()
    saved = termios.tcgetattr(0) if os.isatty(0) else None
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the guest's
    try:
        done = subprocess.run(
            command,
            check=False,
            preexec_fn=lambda: die_with(parent),
        )
    finally:
        signal.signal(signal.SIGINT, old)
        if saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
    if done.returncode in (0, exitcodes.POWEROFF):
        return OK
    raise GuestError(Failure.EXITED, exitcodes.describe(done.returncode), done.returncode)


# ---- init


def _init_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image", type=Path, nargs="?", metavar="KERNEL", help="what QEMU's -kernel boots"
    )
    _add_machine(parser)
    parser.add_argument(
        "--elf",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="symbols, also a user program's",
    )
    parser.add_argument("--defaults", action="store_true", help="ask nothing")
    parser.add_argument(
        "--look",
        type=float,
        default=newfile.LOOK,
        metavar="SECONDS",
        help="boot it and watch it so long at most, default 20; 0: do not",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: KERNEL.toml here"
    )
    parser.add_argument("--force", action="store_true", help="write over an older file")


def _init(options: argparse.Namespace) -> int:
    options.kernel = options.kernel or options.image
    spec = _spec(options)
    source = spec.kernel or spec.cdrom
    assert source is not None
    output = options.output or Path(source.stem + ".toml")
    if output.exists() and not options.force:
        raise UsageError(f"{output} exists", "Give another -o, or --force")
    terminal = Terminal(stderr=True)
    with terminal.status("booting it once, to see what it does"):  # shown on a terminal only
        answers = newfile.first_answers(spec, options.elf, options.look)
    if not options.defaults:
        try:
            answers = newfile.ask_all(answers, input)
        except EOFError:
            raise UsageError("nobody answers", "Use --defaults") from None
    output.write_text(newfile.render(answers, output.parent), encoding="utf-8")
    kernelfile.load(output)  # what we write, we can read
    paths = [site.start for site in answers.sites]
    facts = {"file": str(output), "paths": paths, "problem": answers.findings.problem}
    said = f"{output}: {len(paths)} system call paths. Next: onestack sweep {output}"
    if not paths:
        said = (
            f"{output}: no path yet: {answers.findings.problem or 'none chosen'}. See its comments"
        )
    _show(options, facts, said)
    return OK if paths else INCOMPLETE


# ---- inject


def _inject_arguments(parser: argparse.ArgumentParser) -> None:
    _file_argument(parser)
    parser.add_argument("--at", required=True, metavar="LOCATION", help="symbol+0x10 or 0x…")
    parser.add_argument(
        "--event", default="nmi", metavar="NAME", help=f"{', '.join(standard_events())}"
    )
    parser.add_argument("--irq", type=lambda text: int(text, 0), default=0xF0, metavar="VECTOR")
    parser.add_argument("--cpu", type=int, default=0, metavar="N")
    parser.add_argument(
        "--run",
        dest="seconds",
        type=float,
        default=0.2,
        metavar="SECONDS",
        help="then run on so long, default 0.2",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep artefacts of a failure here")


def _inject(options: argparse.Namespace) -> int:
    kernel = kernelfile.load(options.file)
    target = kernel.target
    images = Images.load(*target.elfs)
    event = event_named(options.event, standard_events(options.irq, options.cpu))
    with Machine(target.spec) as machine:
        if target.ready:
            machine.console.expect(target.ready, 60.0)
        if target.setup and kernel.paths:
            target.setup(machine, images, kernel.paths[0])
        injector = Injector(machine, images)
        injector.stop_at(options.at, 60.0)
        arrivals = []
        try:
            for shot in event.shots:
                delivery = injector.inject(shot.what)
                arrivals.append(
                    {
                        "event": shot.what.name,
                        "vector": delivery.vector,
                        "struck": images.name(delivery.struck),
                        "handler": images.name(delivery.handler),
                        "returns_to": images.name(delivery.saved),
                    }
                )
            machine.resume()
            machine.watch.wait(None, Deadline(options.seconds), "failure")
        except DeadlineError:
            pass  # it runs on, as it should
        except GuestError:
            if options.keep:
                artefacts.save(machine, options.keep, images)
            raise
        lines = [
            "{event}: struck {struck}, entered {handler}, returns to {returns_to}".format(**arrival)
            for arrival in arrivals
        ]
        _show(options, {"arrivals": arrivals, "outcome": "runs on"}, "\n".join(lines))
    return OK


# ---- sweep


def _sweep_arguments(parser: argparse.ArgumentParser) -> None:
    _file_argument(parser)
    parser.add_argument("--path", action="append", default=[], metavar="NAME", help="only this one")
    parser.add_argument("--event", action="append", default=[], metavar="NAME", help="likewise")
    parser.add_argument(
        "-j", "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="QEMUs at a time"
    )
    parser.add_argument(
        "--limit", type=int, default=0, metavar="N", help="boundaries for each path"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("build/sweep.json"), metavar="FILE"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as well")
    parser.add_argument("--fresh", action="store_true", help="do not go on with a stopped sweep")


def _sweep(options: argparse.Namespace) -> int:
    kernel = kernelfile.load(options.file)
    parts = kernel.parts(options.path, options.event)
    state = options.output.with_suffix(f".{options.file.stem}.state")
    if options.fresh:
        state.unlink(missing_ok=True)
    work = campaign.Campaign(
        kernel.target,
        parts,
        kernel.labels,
        state=state,
        processes=options.jobs,
        limit=options.limit,
    )
    terminal = Terminal(stderr=True)
    with terminal.status("recording the paths"):  # shown on a terminal only
        work.plan()
    with SweepProgress(work, terminal) as progress:
        results = work.run(progress.tell)
    symbolizer = Symbolizer(Images.load(*kernel.target.elfs))
    cells = campaign.write(results, symbolizer, options.output, check_qemu(kernel.target.spec.qemu))
    if options.html:
        write_html(cells, options.html)
    facts = {"paths": [campaign.as_json(result, symbolizer) for result in results]}
    _show(options, facts, _sweep_text(results, symbolizer))
    if any(result.failures for result in results):
        return FOUND
    return INCOMPLETE if any(result.unreached for result in results) else OK


def _sweep_text(results: Sequence[campaign.PartResult], symbolizer: Symbolizer) -> str:
    lines = []
    for result in results:
        outcomes = ", ".join(f"{count} {name}" for name, count in result.outcomes().items())
        lines.append(f"{result.part.key}: {len(result.cells)} boundaries: {outcomes or 'none'}")
        for cell in result.failures:
            where = symbolizer.images.name(cell.boundary.address)
            lines.append(f"  {where}: {cell.outcome}: {cell.detail}")
        for reason, count in Counter(cell.detail for cell in result.unreached).items():
            lines.append(f"  not judged: {count} boundaries: {reason}")
    said = dict.fromkeys(text for result in results for text in result.assumptions)
    return "\n".join([*lines, *(f"assumed: {text}" for text in said)])


# ---- step


def _step_arguments(parser: argparse.ArgumentParser) -> None:
    _file_argument(parser, optional=True)
    _add_machine(parser)
    parser.add_argument(
        "--elf", type=Path, action="append", default=[], metavar="FILE", help="more symbols"
    )
    parser.add_argument("--ready", metavar="REGEX", help="wait until the console shows this")
    parser.add_argument("--at", metavar="LOCATION", help="and until this is about to be executed")
    parser.add_argument(
        "--view", metavar="FILE.py:NAME", help="what knows the kernel's stacks (stepper.KernelView)"
    )
    parser.add_argument("--irq", type=lambda text: int(text, 0), default=0xF0, metavar="VECTOR")


def _step(options: argparse.Namespace) -> int:
    try:
        from onestack.step_app import StepApp  # noqa: PLC0415  (Textual is an extra)
    except ModuleNotFoundError:
        raise UsageError("no Textual", "pip install 'onestack[step]'") from None
    spec = _spec(options)
    target = kernelfile.load(options.file).target if options.file else None
    elfs = target.elfs if target else [file for file in (spec.kernel, *options.elf) if file]
    images = Images.load(*elfs)
    make = kernelfile.load_python(Path(), options.view) if options.view else TssView
    with Machine(spec) as machine:
        if ready := options.ready or (target.ready if target else ""):
            machine.console.expect(ready, 60.0)
        if options.at:
            Injector(machine, images).stop_at(options.at, 60.0)
        machine.pause()
        stepper = Stepper(machine, images, make(images))
        if options.json:  # for scripts: one look, without a screen
            picture = stepper.picture()
            rows = {name: hex(value) for name, value, _ in register_rows(picture)}
            live = [stack.name for stack in picture.stacks if stack.live]
            facts = {
                "where": picture.where,
                "registers": rows,
                "facts": dict(picture.facts),
                "live": live,
            }
            _show(options, facts, "")
        elif sys.stdout.isatty():
            StepApp(stepper, options.irq).run()
        else:
            raise UsageError("step needs a terminal", "Use --json for one look")
    return OK


# ---- trace


def _trace_arguments(parser: argparse.ArgumentParser) -> None:
    _file_argument(parser, optional=True)
    _add_machine(parser)
    parser.add_argument(
        "--elf", type=Path, action="append", default=[], metavar="FILE", help="more symbols"
    )
    parser.add_argument("--ready", metavar="REGEX", help="wait until the console shows this")
    parser.add_argument("--send", metavar="TEXT", help="then type this line")
    parser.add_argument("--until", metavar="REGEX", help="and wait for this; a panic ends it too")
    parser.add_argument(
        "--run",
        dest="seconds",
        type=float,
        default=0.2,
        metavar="SECONDS",
        help="without --until: trace so long, default 0.2",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("build/trace.json"), metavar="FILE"
    )


def _trace(options: argparse.Namespace) -> int:
    # a kernel that panics would end QEMU, and its memory, through the debug-exit device
    spec = replace(_spec(options), debug_exit=False)
    target = kernelfile.load(options.file).target if options.file else None
    elfs = target.elfs if target else [file for file in (spec.kernel, *options.elf) if file]
    images = Images.load(*elfs)
    failure: GuestError | None = None
    with Machine(spec) as machine:
        try:
            if ready := options.ready or (target.ready if target else ""):
                machine.console.expect(ready, 60.0)
            if options.send is not None:
                machine.console.send_line(options.send)
            if options.until:
                machine.console.expect(options.until, 60.0)
            else:
                machine.watch.wait(None, Deadline(options.seconds), "failure")
        except DeadlineError:
            if options.until:
                raise
        except GuestError as error:
            failure = error  # its last moments are what is wanted
        machine.pause()
        content = trace.write(machine, images, options.output)
    events = content["traceEvents"]
    slices = sum(event["ph"] == "B" for event in events)
    lost = sum(core["lost"] for core in content["otherData"].values())
    facts = {
        "file": str(options.output),
        "slices": slices,
        "lost": lost,
        "cores": len(content["otherData"]),
    }
    said = f"{options.output}: {slices} slices on {facts['cores']} cores, {lost} older ones lost"
    _show(options, facts, f"{said}. Open it in ui.perfetto.dev or chrome://tracing")
    if failure:
        raise failure
    return OK


# ---- bench


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    _file_argument(parser)
    parser.add_argument(
        "--from", dest="start", metavar="LOCATION", help="step from here and count instructions"
    )
    parser.add_argument("--to", metavar="LOCATION", help="up to here")
    parser.add_argument("--name", default="path", metavar="NAME", help="call that count so")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("build/bench.json"), metavar="FILE"
    )


def _bench(options: argparse.Namespace) -> int:
    kernel = kernelfile.load(options.file)
    target, plan = kernel.target, kernel.bench
    if bool(options.start) != bool(options.to):
        raise UsageError("--from and --to belong together")
    spec = replace(target.spec, sleep=False)
    with Machine(spec) as machine:
        if target.ready:
            machine.console.expect(target.ready, 60.0)
        if options.start:
            injector = Injector(machine, Images.load(*target.elfs))
            least, mean, most = bench.count_between(injector, options.start, options.to)
            labels = kernel.labels
            metrics = [
                bench.Metric(
                    options.name, "instructions", least, mean, most, 3, labels.entry, labels.cores
                )
            ]
        else:
            metrics = bench.measure(
                machine,
                text=plan.text,
                end=plan.end,
                within=plan.within,
                targets=dict(plan.targets),
                labels=kernel.labels,
            )
        bench.write(metrics, options.output, machine.version)
    lines = [
        f"{m.name:28} {m.mean:>12g} {m.unit}"
        + ("" if m.met is None else f"   target {m.target:g}: {'met' if m.met else 'MISSED'}")
        for m in metrics
    ]
    _show(options, {"metrics": [bench.as_json(m) for m in metrics]}, "\n".join(lines))
    return FOUND if any(m.met is False for m in metrics) else OK


# ---- symbolize, check, report


def _symbolize_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("elf", type=Path, nargs="+", metavar="ELF", help="files with symbols")
    parser.add_argument(
        "-a", "--address", action="append", default=[], metavar="ADDRESS", help="name this one"
    )


def _symbolize(options: argparse.Namespace) -> int:
    symbolizer = Symbolizer(Images.load(*options.elf))
    if options.address:
        places = [symbolizer.place(symbolizer.images.resolve(a)) for a in options.address]
        facts = {
            "places": [
                {"address": hex(p.address), "name": p.name, "source": str(p.source or "")}
                for p in places
            ]
        }
        _show(options, facts, "\n".join(map(str, places)))
        return OK
    for line in sys.stdin:
        names = []
        for found in ADDRESS.findall(line):
            if symbolizer.images.image_at(int(found, 16)):
                place = symbolizer.place(int(found, 16))
                names.append(f"{place.name} {place.source or ''}".strip())
        print(line.rstrip("\n") + (f"    # {'; '.join(names)}" if names else ""), flush=True)
    return OK


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("elf", type=Path, metavar="ELF", help="the linked kernel")
    parser.add_argument(
        "--stack-size",
        type=lambda text: int(text, 0),
        required=True,
        metavar="BYTES",
        help="of a kernel stack",
    )
    parser.add_argument(
        "--stack-rules", type=Path, metavar="TOML", help="what the machine code does not say"
    )
    parser.add_argument(
        "--objects",
        type=Path,
        nargs="*",
        default=[],
        metavar="OBJECT",
        help="what it was linked from, with .su files beside them",
    )


def _check(options: argparse.Namespace) -> int:
    Images.load(options.elf)  # for its errors
    rules = (
        StackRules.load(options.stack_rules, options.stack_size)
        if options.stack_rules
        else StackRules(options.stack_size)
    )
    found = check_image(options.elf, options.objects, rules)
    facts = {"violations": [vars(violation) for violation in found]}
    _show(options, facts, "\n".join(map(str, found)) or "sound")
    return FOUND if found else OK


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "cells", type=Path, nargs="?", default=Path("build/sweep.cells.json"), metavar="CELLS.json"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("build/sweep.html"), metavar="FILE"
    )
    parser.add_argument(
        "--bench", type=Path, metavar="bench.json", help="figures for the table of variants"
    )


def _report(options: argparse.Namespace) -> int:
    write_html(options.cells, options.output, options.bench)
    _show(options, {"html": str(options.output)}, str(options.output))
    return OK


COMMANDS = (
    Command(
        "boot",
        "boot a kernel; the terminal is its serial line (Ctrl-A X ends it)",
        "onestack boot --kernel build/tcb-ist-release/kernel.elf --initrd build/user/init.elf\n"
        "  onestack boot toy.toml --expect 'toy: ready' --within 5",
        _boot_arguments,
        _boot,
    ),
    Command(
        "init",
        "write a first kernel file, from its ELF and from watching it boot, by asking",
        "onestack init build/foreign/toy.elf --defaults -o toy.toml\n"
        "  onestack init vmlinuz --initrd initramfs.cpio --elf my-init",
        _init_arguments,
        _init,
    ),
    Command(
        "inject",
        "inject an event at an instruction and see that it arrives",
        "onestack inject toy.toml --at syscall_entry --event nmi",
        _inject_arguments,
        _inject,
    ),
    Command(
        "sweep",
        "inject at every instruction of the kernel's paths and judge each time",
        "onestack sweep toy.toml --path null --event nmi --html build/sweep.html",
        _sweep_arguments,
        _sweep,
    ),
    Command(
        "step",
        "watch the CPU instruction by instruction: registers, source, stacks; inject by a key",
        "onestack step toy.toml --at user_null",
        _step_arguments,
        _step,
    ),
    Command(
        "trace",
        "write the kernel's trace rings as a timeline for Perfetto or chrome://tracing",
        "onestack trace --kernel build/tcb-ist-release/kernel.elf --initrd build/user/init.elf \\\n"
        "    --append trace=1 --ready 'onestack> ' --send 'run regs' --until 'regs ended'",
        _trace_arguments,
        _trace,
    ),
    Command(
        "bench",
        "count guest instructions: figures that the guest prints, or a path that is stepped",
        "onestack bench toy.toml --from user_null --to user_null_after --name syscall.null",
        _bench_arguments,
        _bench,
    ),
    Command(
        "symbolize",
        "name addresses: those given, or all in the text on standard input",
        "onestack symbolize kernel.elf -a 0xffffffff81001234\n"
        "  onestack symbolize kernel.elf < panic.log",
        _symbolize_arguments,
        _symbolize,
    ),
    Command(
        "check",
        "check a linked kernel's layout, code and stack depth",
        "onestack check kernel.elf --stack-size 0x4000",
        _check_arguments,
        _check,
    ),
    Command(
        "report",
        "make one HTML file of a sweep: a heat map over the disassembly",
        "onestack report build/sweep.cells.json -o build/sweep.html",
        _report_arguments,
        _report,
    ),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onestack",
        description="Boot an x86 kernel in QEMU and break it on purpose, at exact instructions.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        one = commands.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=f"example:\n  {command.example}\n\n{EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.add_argument("--json", action="store_true", help="print the result as JSON")
        command.arguments(one)
        one.set_defaults(run=command.run)
    return parser


def _exit_code(error: OnestackError) -> int:
    if isinstance(error, UsageError):
        return USAGE
    if isinstance(error, GuestError | DeliveryError):
        return FOUND
    return ENVIRONMENT if isinstance(error, QemuError) else INCOMPLETE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code. Errors of ours are one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except OnestackError as error:
        print(f"onestack: {error}", file=sys.stderr)
        return _exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader has gone: nothing to complain of
        return OK


if __name__ == "__main__":
    sys.exit(main())
