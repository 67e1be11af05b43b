# SPDX-License-Identifier: MIT
"""`onestack inject`: one event at one instruction."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from onestack import artefacts, kernelfile
from onestack.bars import waiting
from onestack.commands.common import (
    OK,
    WITHIN,
    Command,
    count,
    file_argument,
    show,
    wait_ready,
)
from onestack.deadline import Deadline
from onestack.elf import Images
from onestack.errors import DeadlineError, GuestError, UsageError
from onestack.events import event_named, standard_events
from onestack.inject import Delivery, Injector
from onestack.machine import Machine


def _arguments(parser: argparse.ArgumentParser) -> None:
    file_argument(parser)
    parser.add_argument("--at", required=True, metavar="LOCATION", help="symbol+0x10 or 0x…")
    parser.add_argument(
        "--after", metavar="LOCATION", help="come here first: --at may lie on several ways"
    )
    parser.add_argument(
        "--event", default="nmi", metavar="NAME", help=f"{', '.join(standard_events())}"
    )
    parser.add_argument("--irq", type=lambda text: int(text, 0), default=0xF0, metavar="VECTOR")
    parser.add_argument("--cpu", type=count, default=0, metavar="N")
    parser.add_argument(
        "--run",
        dest="seconds",
        type=float,
        default=0.2,
        metavar="SECONDS",
        help="then run on so long, default 0.2",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep artefacts of a failure here")


def _run(options: argparse.Namespace) -> int:
    kernel = kernelfile.load(options.file)
    target = kernel.target
    images = Images.load(*target.elfs)
    event = event_named(options.event, standard_events(options.irq, options.cpu))
    if options.cpu >= target.spec.cores:
        raise UsageError(f"no CPU {options.cpu}", f"There are {target.spec.cores}, from 0 on")
    with Machine(target.spec) as machine:
        wait_ready(machine, target.ready)
        if target.setup and kernel.paths:
            target.setup(machine, images, kernel.paths[0])
        injector = Injector(machine, images)
        for place in filter(None, (options.after, options.at)):
            with waiting(f"to come to {place}", WITHIN):
                injector.stop_at(place, WITHIN)
        arrivals, failure = [], None
        try:
            for shot in event.shots:
                delivery = injector.inject(shot.what)
                arrivals.append(_arrival(shot.what.name, delivery, images))
            machine.resume()
            machine.watch.wait(None, Deadline(options.seconds), "failure")
        except DeadlineError:
            pass  # it runs on, as it should
        except GuestError as error:
            failure = error
            if options.keep:
                artefacts.save(machine, options.keep, images)
    lines = [
        "{event}: struck {struck}, entered {handler}, returns to {returns_to}".format(**arrival)
        for arrival in arrivals
    ]
    outcome = str(failure or "runs on")
    if lines or options.json:
        show(options, {"arrivals": arrivals, "outcome": outcome}, "\n".join(lines))
    if failure:
        raise failure
    return OK


def _arrival(event: str, delivery: Delivery, images: Images) -> dict[str, Any]:
    return {
        "event": event,
        "vector": delivery.vector,
        "struck": images.name(delivery.struck),
        "handler": images.name(delivery.handler),
        "returns_to": images.name(delivery.saved),
    }


COMMAND = Command(
    "inject",
    "inject an event at an instruction and see that it arrives",
    "onestack inject toy.toml --at syscall_entry --event nmi",
    _arguments,
    _run,
)
