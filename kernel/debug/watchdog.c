/* SPDX-License-Identifier: MIT */
#include "kernel/debug/watchdog.h"

#include "kernel/arch/clock.h"
#include "kernel/arch/irq_flag.h"
#include "kernel/arch/lapic.h"
#include "kernel/arch/smp.h"
#include "kernel/arch/vectors.h"
#include "kernel/debug/print.h"
#include "kernel/debug/report.h"
#include "kernel/events.h"
#include "kernel/timer.h"

static uint64_t threshold; /* ticks of the clock; 0 = off */
static uint64_t threshold_ms;

void watchdog_set(uint64_t milliseconds)
{
    threshold_ms = milliseconds;
    threshold = clock_from_ns(milliseconds * 1000000);
}

/* The next one online, after the last the first; NULL: there is no other. */
static struct core *neighbour(const struct core *core)
{
    uint64_t others = smp_online() & ~(1ULL << core->id);
    uint64_t above = others & ~((2ULL << core->id) - 1);

    if (others == 0) {
        return NULL;
    }
    return core_at((unsigned)__builtin_ctzll(above ? above : others));
}

/* In the kernel, and not for as long as a report takes. */
static bool should_get_on(const struct core *core)
{
    return __atomic_load_n(&core->nest, __ATOMIC_RELAXED) != 0 &&
           __atomic_load_n(&core->state, __ATOMIC_RELAXED) != CORE_ST_IDLE &&
           !__atomic_load_n(&core->reports, __ATOMIC_RELAXED);
}

static void tell(struct core *core, struct core *other)
{
    uint32_t number = snapshot_request();

    __atomic_store_n(&core->reports, true, __ATOMIC_RELAXED);
    snapshot_ask(other, NMI_REASON_WATCHDOG);
    bool answers = snapshot_wait(other, number);

    kprintf("watchdog: core %u has made no progress for %lu ms, says core %u\n", other->id,
            threshold_ms, core->id);
    if (answers) {
        print_snapshot(other);
    } else {
        kprintf("  core %u does not answer an NMI\n", other->id);
    }
    kprintf("watchdog: end\n");
    __atomic_store_n(&core->reports, false, __ATOMIC_RELAXED);
}

static void ask_for_a_round(const struct core *other)
{
    uint64_t flags = irq_save();

    lapic_send((uint8_t)other->shared.lapic_id, VECTOR_RESCHEDULE);
    irq_restore(flags);
}

static void look(struct core *core, struct core *other)
{
    uint64_t rounds = __atomic_load_n(&other->rounds, __ATOMIC_RELAXED);
    bool busy = should_get_on(other);

    if (core->watch_asked && busy && rounds == core->watch_rounds) {
        if (!core->watch_told) {
            core->watch_told = true;
            tell(core, other);
        }
        return;
    }
    core->watch_told = false;
    core->watch_asked = busy;
    core->watch_rounds = rounds;
    if (busy) {
        ask_for_a_round(other);
    }
}

void watchdog_event(struct core *core)
{
    if (threshold == 0) {
        return;
    }
    if (clock_now() >= core->watch_due) {
        /* The first time not all may be there, so who is whose neighbour is not yet settled. */
        struct core *other = core->watch_due ? neighbour(core) : NULL;

        if (other) {
            look(core, other);
        }
        core->watch_due = clock_now() + threshold;
    }
    timer_arm(core, core->watch_due);
}
