# SPDX-License-Identifier: MIT
"""Is the kernel stack large enough? Frames from the compiler, call chains from the machine code.

The depth of each call is taken from the instructions themselves (push, sub, call ...), so that
assembly and every compiler are measured alike. An indirect call through a constant table goes to
the functions in that table; any other goes to what `StackRules.indirect` says of its caller, else
to every function whose address is taken anywhere. Code that loads another stack pointer is on that
stack from there: a chain of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from onestack.elfcheck.callgraph import CallGraph
from onestack.elfcheck.image import Image, Violation
from onestack.elfcheck.rules import StackRules

FRAME_LIMIT = 1024
"""Bytes of stack that one function may use."""


def check_frames(usage_files: Iterable[Path]) -> list[Violation]:
    """Every frame in the compiler's .su files is of constant size and at most FRAME_LIMIT."""
    found = []
    for path in usage_files:
        for line in path.read_text().splitlines():
            where, size, kind = line.rsplit("\t", 2)
            if int(size) > FRAME_LIMIT:
                found.append(Violation("frame", where, f"{size} bytes, over {FRAME_LIMIT}"))
            if kind == "dynamic":
                found.append(Violation("frame", where, "size known only when it runs"))
    return found


def check_depth(image: Image, rules: StackRules) -> list[Violation]:
    """The deepest chain and what may come on top of it fit into the stack; nothing recurses."""
    calls = CallGraph(image, rules)
    deepest = calls.deepest()
    found = [
        Violation("recursion", calls.name(cycle[0]), " -> ".join(map(calls.name, cycle)))
        for cycle in calls.cycles
    ]
    found += [Violation("stack", image.name_of(at), what) for at, what in calls.oddities.items()]
    found += [
        Violation("stack rule", pattern, "no indirect call needs it")
        for pattern in sorted(rules.indirect.keys() - calls.targets.used_rules)
    ]
    nested = rules.frames * (rules.frame_bytes + calls.nested())
    total = deepest.bytes + nested + calls.last()
    if total > rules.size:
        chain = " -> ".join(map(calls.name, deepest.path))
        sum_of = f"{deepest.bytes} + {nested} nested + {calls.last()} at the end"
        what = f"{total} bytes ({sum_of}) in a stack of {rules.size}: {chain}"
        found.append(Violation("stack", calls.name(deepest.path[0]), what))
    return found
