# SPDX-License-Identifier: MIT
"""The timer wheel against a model: never early, at most a tick late, and never many in one go."""

from __future__ import annotations

import ctypes
import itertools
from pathlib import Path

import pytest
from host_c import PHYSICAL, TOP, build
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

TICK = 1 << 14  # TIMER_TICK_SHIFT
BATCH = 16  # TIMER_BATCH
THREADS = 400
SHIM = """
#include "kernel/timer.h"
#include "kernel/ipc.h"
#include "kernel/obj/endpoint.h"
#include "kernel/sched.h"
#include <stdlib.h>
#include <string.h>
static struct core core;
static struct thread threads[400];
static uint64_t now, armed;
void panic(const char *format, ...) { (void)format; abort(); }
void watchdog_event(struct core *core);
void watchdog_event(struct core *core) { (void)core; }
struct clock machine_clock;
uint64_t host_memory;
uint64_t host_now(void) { return now; }
void clock_wake_in(uint64_t ticks) { armed = now + ticks; }
bool thread_leave_wait(struct core *c, struct thread *t) { (void)c, (void)t; return true; }
bool ipc_ask_to_leave(struct thread *t, uint8_t w) { (void)t, (void)w; return false; }
void thread_wake(struct core *c, struct thread *t, int64_t r) { (void)c, (void)r; t->info++; }
void start(uint64_t at);
void start(uint64_t at)
{
    memset(&core, 0, sizeof(core));
    memset(threads, 0, sizeof(threads));
    now = at;
    armed = ~0ULL;
    timer_wheel_init(&core);
}
void set(unsigned i, uint64_t deadline);
void set(unsigned i, uint64_t deadline) { timer_set(&core, &threads[i], deadline); }
void cancel(unsigned i);
void cancel(unsigned i) { timer_cancel(&core, &threads[i]); }
uint64_t woken(unsigned i);
uint64_t woken(unsigned i) { return threads[i].info; }
/* Time goes on to when the timer fires, or to `limit` if it does not before. */
uint64_t advance(uint64_t limit);
uint64_t advance(uint64_t limit)
{
    if (armed > limit) {
        now = limit > now ? limit : now;
        return now;
    }
    now = armed > now ? armed : now;
    armed = ~0ULL;
    timer_event(&core);
    return now;
}
"""
CLOCK = """
#include "kernel/arch/clock.h"
uint64_t host_now(void);
#define clock_now() host_now()
"""
SOURCES = ["kernel/timer.c"]


def wheel(folder: Path, sources: list[str]) -> ctypes.CDLL:
    lib = build(folder, sources, SHIM, PHYSICAL + CLOCK)
    u64 = ctypes.c_uint64
    lib.start.argtypes = [u64]
    lib.set.argtypes = [ctypes.c_uint, u64]
    lib.cancel.argtypes = [ctypes.c_uint]
    lib.woken.argtypes, lib.woken.restype = [ctypes.c_uint], u64
    lib.advance.argtypes, lib.advance.restype = [u64], u64
    return lib


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return wheel(tmp_path_factory.mktemp("timer"), SOURCES)


NEAR = st.integers(0, 200 * TICK)
FAR = st.integers(0, 50).flatmap(lambda bits: st.integers(0, 1 << bits))
DELAYS = st.one_of(NEAR, FAR, st.sampled_from([0, TICK, 64 * TICK, 4096 * TICK, (1 << 64) - 1]))


class Wheel(RuleBasedStateMachine):
    """Threads with deadlines, some of them all the same, and a clock that goes on."""

    lib: ctypes.CDLL

    def __init__(self) -> None:
        super().__init__()
        self.now = 12345 * TICK + 99
        self.lib.start(self.now)
        self.deadlines: dict[int, int] = {}
        self.crowd = 0  # threads since the last time that nobody was late

    def free(self) -> list[int]:
        return [i for i in range(THREADS) if i not in self.deadlines]

    @rule(delay=DELAYS, count=st.sampled_from([1, 1, 1, 3, 40]))
    def set(self, delay: int, count: int) -> None:
        deadline = min(self.now + delay, (1 << 64) - 1)
        self.crowd += count
        for i in self.free()[:count]:
            self.lib.set(i, deadline)
            self.deadlines[i] = deadline

    @precondition(lambda self: self.deadlines)
    @rule(data=st.data(), count=st.sampled_from([1, 1, 20]))
    def cancel(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.deadlines))):
            i = data.draw(st.sampled_from(sorted(self.deadlines)))
            self.lib.cancel(i)
            del self.deadlines[i]

    @rule(delay=st.one_of(NEAR, st.just(1 << 40)))
    def wait(self, delay: int) -> None:
        end = self.now + delay
        for _ in range(5000):
            before = {i: self.lib.woken(i) for i in self.deadlines}
            self.now = self.lib.advance(end)
            ended = [i for i in before if self.lib.woken(i) != before[i]]
            assert len(ended) <= BATCH
            for i in ended:
                assert self.now >= self.deadlines.pop(i), "early"
            # A crowd may be late by what it takes to bring all of it down the wheel's levels.
            ticks = 2 if self.crowd <= 4 else 2 + self.crowd
            late = [at for at in self.deadlines.values() if at + ticks * TICK <= self.now]
            assert not late, f"{self.now - min(late)} late"
            if not ended and self.now >= end:
                self.crowd = len(self.deadlines)
                return
        raise AssertionError("it never comes to the end")


def run(lib: ctypes.CDLL, examples: int) -> None:
    Wheel.lib = lib
    run_state_machine_as_test(
        Wheel,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_against_a_model(lib: ctypes.CDLL) -> None:
    run(lib, 60)


def test_a_crowd_goes_a_batch_a_tick(lib: ctypes.CDLL) -> None:
    """However many have the same deadline: what comes between two batches is a whole tick."""
    start = 1000 * TICK
    lib.start(start)
    for i in range(THREADS):
        lib.set(i, start + 5000)
    times = []
    while sum(lib.woken(i) for i in range(THREADS)) < THREADS:
        times.append(lib.advance((1 << 64) - 1))
    assert len(times) == THREADS // BATCH
    assert all(later - earlier == TICK for earlier, later in itertools.pairwise(times))
    assert times[0] - (start + 5000) <= TICK


def test_one_of_those_due_can_be_cancelled(lib: ctypes.CDLL) -> None:
    lib.start(0)
    for i in range(40):
        lib.set(i, 5000)
    lib.advance((1 << 64) - 1)
    waiting = [i for i in range(40) if not lib.woken(i)]
    assert len(waiting) == 40 - BATCH
    for i in (waiting[0], waiting[-1], waiting[5]):  # first, last or in the middle
        lib.cancel(i)
    for _ in range(3):
        lib.advance((1 << 64) - 1)
    assert [i for i in waiting if not lib.woken(i)] == sorted(waiting[j] for j in (0, 5, -1))


MUTANTS = {
    "early": ("if (thread->deadline >> TIMER_TICK_SHIFT >= core->wheel.tick) {", "if (0) {"),
    "lost": ("next->timer_slot = thread->timer_slot;", ""),
    "all at once": ("work < 4 * TIMER_BATCH", "work < 4000"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_planted_faults_are_found(tmp_path: Path, mutant: str) -> None:
    old, new = MUTANTS[mutant]
    text = (TOP / "kernel/timer.c").read_text()
    assert text.count(old) == 1
    wrong = tmp_path / "timer.c"
    wrong.write_text(text.replace(old, new))
    with pytest.raises(AssertionError):
        run(wheel(tmp_path, [str(wrong)]), 400)
