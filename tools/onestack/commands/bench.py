# SPDX-License-Identifier: MIT
"""`onestack bench`: instruction counts."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from onestack import bench, kernelfile, profile
from onestack.bars import waiting
from onestack.commands.common import FOUND, OK, Command, file_argument, show, wait_ready
from onestack.elf import Images
from onestack.errors import UsageError
from onestack.inject import Injector
from onestack.machine import Machine


def _arguments(parser: argparse.ArgumentParser) -> None:
    file_argument(parser)
    parser.add_argument(
        "--from", dest="start", metavar="LOCATION", help="step from here and count instructions"
    )
    parser.add_argument("--to", metavar="LOCATION", help="up to here")
    parser.add_argument("--name", default="path", metavar="NAME", help="call that count so")
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help="where its instructions go, one by one: a [[profile]] of the kernel file",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("build/bench.json"), metavar="FILE"
    )


def _profile(options: argparse.Namespace, kernel: kernelfile.KernelFile) -> int:
    plan = kernel.profile(options.profile)
    images = Images.load(*kernel.target.elfs)
    spec = kernel.target.spec
    with Machine(replace(spec, append=plan.append or spec.append)) as machine:
        addresses = profile.record(machine, images, plan)
    lines = profile.Explainer(images, kernel.purposes).lines(addresses)
    text = "\n".join(profile.listing(plan.name, lines))
    show(options, profile.as_json(plan.name, lines), text)
    return OK


def _run(options: argparse.Namespace) -> int:
    kernel = kernelfile.load(options.file)
    if options.profile:
        return _profile(options, kernel)
    target, plan = kernel.target, kernel.bench
    if bool(options.start) != bool(options.to):
        raise UsageError("--from and --to belong together")
    if not options.start and plan == kernelfile.BenchPlan():
        raise UsageError(f"{options.file} has no [bench]", "Give --from and --to")
    spec = replace(target.spec, sleep=False)
    with Machine(spec) as machine:
        wait_ready(machine, target.ready)
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
            with waiting("for the guest's figures", plan.within):
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
    show(options, {"metrics": [bench.as_json(m) for m in metrics]}, "\n".join(lines))
    return FOUND if any(m.met is False for m in metrics) else OK


COMMAND = Command(
    "bench",
    "count guest instructions: figures that the guest prints, or a path that is stepped",
    "onestack bench toy.toml --from user_null --to user_null_after --name syscall.null\n"
    "  onestack bench tests/bench/onestack.toml --profile ipc.call",
    _arguments,
    _run,
)
