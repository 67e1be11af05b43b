/* SPDX-License-Identifier: MIT */
/*
 * Deadlines and slices, in ticks of the clock (arch/clock.h). Each core has one one-shot timer, set to the nearest deadline of its
 * threads or the end of the running thread's slice: no periodic tick. Deadlines stand in a
 * hierarchical wheel: set and cancel are O(1), and a wait ends at most one TIMER_TICK late, never
 * early. When more than TIMER_BATCH are due at once, so many end in each tick (or four times as many only
 * go on to a finer slot): however many threads somebody has had sleep to the same moment, interrupts are
 * not kept waiting, nor is who has other work.
 */
#ifndef ONESTACK_TIMER_H
#define ONESTACK_TIMER_H

#include "kernel/arch/core.h"

#define TIMER_TICK_SHIFT 14 /* TSC cycles of a tick, as a power of two */
#define TIMER_BATCH      16

void timer_wheel_init(struct core *core);
/* End `thread`'s wait with E_TIMEOUT at `deadline` (TSC). It stands in no wheel. */
void timer_set(struct core *core, struct thread *thread, uint64_t deadline);
/* No effect if it stands in none. */
void timer_cancel(struct core *core, struct thread *thread);
/* TSC of now + nanoseconds, saturating. */
uint64_t timer_deadline(uint64_t nanoseconds);
/* The timer fired: wake whose time has come. */
void timer_event(struct core *core);
void timer_program(struct core *core, uint64_t when);

/*
 * See to it that the timer fires at `when` (TSC) or earlier. One that fires too early only looks, so it
 * is never set later: most switches find it right as it is.
 */
static inline void timer_arm(struct core *core, uint64_t when)
{
    if (__builtin_expect(when < core->timer_armed, 0)) {
        timer_program(core, when);
    }
}

#endif
