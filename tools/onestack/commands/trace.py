# SPDX-License-Identifier: MIT
"""`onestack trace`: the kernel's trace rings as a timeline."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from onestack import trace
from onestack.commands.common import (
    OK,
    Command,
    add_guest,
    guest,
    regex,
    show,
    wait_ready,
)
from onestack.deadline import Deadline
from onestack.elf import Images
from onestack.errors import DeadlineError, GuestError
from onestack.machine import Machine


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_guest(parser)
    parser.add_argument("--send", metavar="TEXT", help="then type this line")
    parser.add_argument(
        "--until", metavar="REGEX", type=regex, help="and wait for this; a panic ends it too"
    )
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


def _run(options: argparse.Namespace) -> int:
    chosen = guest(options)
    # a kernel that panics would end QEMU, and its memory, through the debug-exit device
    spec = replace(chosen.spec, debug_exit=False)
    images = Images.load(*chosen.elfs)
    failure: GuestError | None = None
    with Machine(spec) as machine:
        try:
            wait_ready(machine, chosen.ready)
            if options.send is not None:
                machine.console.send_line(options.send)
            if options.until:
                wait_ready(machine, options.until)
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
    slices = sum(event["ph"] == "B" and "args" in event for event in events)
    arrows = sum(event["ph"] == "s" for event in events)
    lost = sum(core["lost"] for core in content["otherData"].values())
    facts = {
        "file": str(options.output),
        "slices": slices,
        "arrows": arrows,
        "lost": lost,
        "cores": len(content["otherData"]),
    }
    shown = f"{slices} slices, {arrows} arrows, {facts['cores']} cores"
    said = f"{options.output}: {shown}; {lost} older records lost"
    show(options, facts, f"{said}. Open it in ui.perfetto.dev or chrome://tracing")
    if failure:
        raise failure
    return OK


COMMAND = Command(
    "trace",
    "write the kernel's trace rings as a timeline for Perfetto or chrome://tracing",
    "onestack trace --kernel build/tcb-ist-release/kernel.elf --initrd build/user/init.elf \\\n"
    "    --append trace=1 --ready 'onestack> ' --send 'run regs' --until 'regs ended'",
    _arguments,
    _run,
)
