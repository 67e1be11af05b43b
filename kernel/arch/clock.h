/* SPDX-License-Identifier: MIT */
/*
 * Time. The clock is the TSC, and everything inside the kernel is measured in its ticks; the LAPIC
 * timer only wakes. Both frequencies are measured once, at boot.
 */
#ifndef ONESTACK_ARCH_CLOCK_H
#define ONESTACK_ARCH_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/arch/cpu.h"

struct clock {
    uint64_t tsc_hz;
    uint64_t lapic_hz; /* of the timer, undivided */
    /* Multiply, then shift right: by 32 for the first, by CLOCK_SHIFT for the others. */
    uint64_t ns_per_tick;
    uint64_t ticks_per_ns;
    uint64_t lapic_per_tick;
};

#define CLOCK_SHIFT 28

extern struct clock machine_clock; /* constant once clock_init() has run */

/*
 * On the boot core, with its LAPIC set up and IF=0. False if the machine has nothing to measure
 * against: no CPUID leaf that tells, and no PIT that counts.
 */
bool clock_init(void);

static inline uint64_t clock_now(void)
{
    return rdtsc();
}

static inline uint64_t clock_to_ns(uint64_t ticks)
{
    return (uint64_t)((unsigned __int128)ticks * machine_clock.ns_per_tick >> 32);
}

/* Saturates: an absurd timeout is one that never comes. */
static inline uint64_t clock_from_ns(uint64_t ns)
{
    unsigned __int128 ticks = (unsigned __int128)ns * machine_clock.ticks_per_ns >> CLOCK_SHIFT;

    return ticks > UINT64_MAX ? UINT64_MAX : (uint64_t)ticks;
}

/*
 * VECTOR_TIMER on this core in `ticks` of the clock or a little later, at once if that is 0. A
 * deadline beyond the timer's 32 bits comes early: whoever takes it looks at the clock.
 */
void clock_wake_in(uint64_t ticks);

#endif
