# SPDX-License-Identifier: MIT
"""What an operation costs the core that makes it is the same among 4 cores and among 16."""

from __future__ import annotations

from pathlib import Path

import pytest
from agent_support import FOREVER
from core_figures import GROWS, growth, measure, throughput, told, windows
from core_operations import BELOW, HERE, OPERATIONS, Stage
from figures import TARGETS, baseline, compiler, spec

from onestack.elf import Image
from onestack.patch import PatchFault
from onestack.windows import Kind

FEW, MANY = 4, 16
SLACK = 4  # instructions: a look more at a word that another core is to change


def test_no_operation_grows_with_the_number_of_cores() -> None:
    found = growth(measure(FEW), measure(MANY))
    assert found.keys() == OPERATIONS.keys()
    most = {name: each * (MANY - FEW) for name, (_, each) in GROWS.items()}
    assert not {name: more for name, more in found.items() if more > most.get(name, SLACK)}


@pytest.mark.parametrize("name", ["syscall.null", "yield.process"])
def test_the_plugin_counts_what_the_guest_measures(name: str) -> None:
    """By RDTSC, on one core: tests/bench/figures.py."""
    if not baseline():
        pytest.skip(f"no baseline for {compiler()}: figures.py --record makes one")
    assert {span.acting for span in measure(1, [name])[name]} == {baseline()[name]}


def of_a_sleeper_that_comes_late(stage: Stage) -> None:
    """Planted: the counter is armed before the sleeper has called."""
    with stage.worker(BELOW, HERE) as sleeper:
        for _ in range(2):
            with stage.counted(leg=False):
                stage.agent.start("sleep", FOREVER, worker=sleeper)
                stage.agent.call("thread_cancel", stage.agent.threads[sleeper])


def test_a_call_is_counted_and_not_a_sleepers(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one core both are the same instruction of the agent's, and it has waits between them."""
    monkeypatch.setitem(OPERATIONS, "late", (of_a_sleeper_that_comes_late, HERE))
    found = measure(1, ["cancel", "thread.end", "late"])
    counts = {name: {span.acting for span in spans} for name, spans in found.items()}
    assert len(counts["cancel"]) == len(counts["thread.end"]) == 1
    assert min(counts["late"]) > 10 * max(counts["cancel"] | counts["thread.end"])


def test_interrupts_are_not_off_longer_among_several_cores(tmp_path: Path) -> None:
    """Shootdowns too, of several pages and by several cores at once."""
    found = windows(4, tmp_path)
    assert found.contradictions == 0
    assert found.interrupts > 100
    assert found.longest(Kind.WINDOW).longest <= TARGETS["if_off.longest"]


def test_independent_pairs_call_on_two_cores() -> None:
    """How much more two do than one is the host's affair: told, not judged."""
    rounds = throughput()
    assert len(rounds) == 9
    assert all(one.alone > 0 and one.together > 0 for one in rounds)
    print(told(rounds))


def loop_over_all_cores(kernel: Image) -> PatchFault:
    """Planted: `clock` looks at each core that is online."""
    online = kernel.symbol("online").address & 0xFFFFFFFF
    code = b"\x48\x8b\x04\x25" + online.to_bytes(4, "little")  # mov online, %rax
    code += b"\x48\x8d\x48\xff\x48\x21\xc8\x75\xf7"  # 1: lea -1(%rax), %rcx; and; jnz 1b
    code += b"\xc3"
    return PatchFault("loop", "sys_clock", code, length=len(code))


def test_a_planted_loop_over_all_cores_is_found() -> None:
    kernel = spec("tcb").kernel
    assert kernel is not None
    names = ("syscall.null", "syscall.slow")
    fault = loop_over_all_cores(Image(kernel))
    few, many = (measure(count, names, faults=[fault]) for count in (FEW, MANY))
    assert growth(few, many) == {"syscall.null": 0, "syscall.slow": 3 * (MANY - FEW)}
