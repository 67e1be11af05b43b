/* SPDX-License-Identifier: MIT */
#include "kernel/timer.h"

#include "kernel/abi/error.h"
#include "kernel/arch/clock.h"
#include "kernel/debug/panic.h"
#include "kernel/debug/watchdog.h"
#include "kernel/ipc.h"
#include "kernel/mail.h"
#include "kernel/obj/endpoint.h"
#include "kernel/sched.h"

#define LEVEL_SHIFT 6
#define SLOT_DUE    (WHEEL_LEVELS * WHEEL_SLOTS) /* thread.timer_slot: in the list of those due */
#define TICK_MAX    ((1ULL << (LEVEL_SHIFT * WHEEL_LEVELS)) - 1)

uint64_t timer_deadline(uint64_t nanoseconds)
{
    uint64_t now = clock_now();
    uint64_t ticks = clock_from_ns(nanoseconds);

    return ticks > ~0ULL - now ? ~0ULL : now + ticks;
}

void timer_wheel_init(struct core *core)
{
    core->wheel.tick = clock_now() >> TIMER_TICK_SHIFT;
    core->timer_armed = ~0ULL;
}

/* The lowest level on which `tick` and the wheel's present differ; there lies its slot. */
static void wheel_insert(struct timer_wheel *wheel, struct thread *thread)
{
    uint64_t tick = (thread->deadline >> TIMER_TICK_SHIFT) + 1; /* up: never early */
    unsigned level, slot;

    if (tick <= wheel->tick) {
        tick = wheel->tick + 1;
    }
    if (tick > TICK_MAX) {
        tick = TICK_MAX;
    }
    level = (63 - (unsigned)__builtin_clzll(tick ^ wheel->tick)) / LEVEL_SHIFT;
    slot = tick >> (level * LEVEL_SHIFT) & (WHEEL_SLOTS - 1);
    thread->timer_slot = (uint16_t)(level * WHEEL_SLOTS + slot);
    thread->timer_prev = NULL;
    thread->timer_next = wheel->slots[level][slot];
    if (thread->timer_next) {
        thread->timer_next->timer_prev = thread;
    }
    wheel->slots[level][slot] = thread;
    wheel->occupied[level] |= 1ULL << slot;
}

/* The tick at which the wheel next has something to do, ~0 = never. Lower levels come first. */
static uint64_t wheel_next(const struct timer_wheel *wheel, unsigned *level, unsigned *slot)
{
    for (unsigned l = 0; l < WHEEL_LEVELS; l++) {
        if (wheel->occupied[l]) {
            unsigned shift = l * LEVEL_SHIFT;
            uint64_t above = wheel->tick >> (shift + LEVEL_SHIFT) << LEVEL_SHIFT;

            *level = l;
            *slot = (unsigned)__builtin_ctzll(wheel->occupied[l]);
            return (above | *slot) << shift;
        }
    }
    return ~0ULL;
}

/* Cancelling leaves the timer as it is: it fires for nothing, and is set anew here. */
static void wheel_arm(struct core *core)
{
    unsigned level, slot;
    uint64_t tick = core->wheel.due ? (clock_now() >> TIMER_TICK_SHIFT) + 1
                                    : wheel_next(&core->wheel, &level, &slot);

    if (tick != ~0ULL) {
        timer_arm(core, tick << TIMER_TICK_SHIFT);
    }
}

void timer_set(struct core *core, struct thread *thread, uint64_t deadline)
{
    KASSERT(!(thread->flags & THREAD_FLAG_TIMER));
    thread->deadline = deadline;
    thread->flags |= THREAD_FLAG_TIMER;
    wheel_insert(&core->wheel, thread);
    wheel_arm(core);
}

/* The first of a list leaves it. In the list of those due only the first one says where it is. */
static void remove_first(struct timer_wheel *wheel, const struct thread *thread)
{
    unsigned level = thread->timer_slot / WHEEL_SLOTS;
    unsigned slot = thread->timer_slot % WHEEL_SLOTS;
    struct thread *next = thread->timer_next;

    if (next) {
        next->timer_prev = NULL;
        next->timer_slot = thread->timer_slot;
    }
    if (thread->timer_slot == SLOT_DUE) {
        wheel->due = next;
        return;
    }
    wheel->slots[level][slot] = next;
    if (!next) {
        wheel->occupied[level] &= ~(1ULL << slot);
    }
}

void timer_cancel(struct core *core, struct thread *thread)
{
    if (!(thread->flags & THREAD_FLAG_TIMER)) {
        return;
    }
    thread->flags &= (uint16_t)~THREAD_FLAG_TIMER;
    if (!thread->timer_prev) {
        remove_first(&core->wheel, thread);
        return;
    }
    thread->timer_prev->timer_next = thread->timer_next;
    if (thread->timer_next) {
        thread->timer_next->timer_prev = thread->timer_prev;
    }
}

/* Its time has come, unless only a coarse slot's has: then it goes to a finer one, and this is false. */
static bool expire(struct core *core, struct thread *thread)
{
    if (thread->deadline >> TIMER_TICK_SHIFT >= core->wheel.tick) {
        wheel_insert(&core->wheel, thread);
        return false;
    }
    thread->flags &= (uint16_t)~THREAD_FLAG_TIMER; /* it is in no slot: nothing to cancel */
    if (!thread_leave_wait(core, thread)) {
        ipc_ask_to_leave(thread, CLAIM_LATE);
        thread->flags |= THREAD_FLAG_TIMER;
        wheel_insert(&core->wheel, thread); /* another core is at it: see at the next tick */
        return true;
    }
    thread_wake(core, thread, thread->state == THREAD_SLEEPING ? E_OK : E_TIMEOUT);
    return true;
}

/* The next slot whose tick has come, all of it, becomes the list of those due; false: there is none. */
static bool turn(struct timer_wheel *wheel, uint64_t now)
{
    unsigned level, slot;
    uint64_t tick = wheel_next(wheel, &level, &slot);

    if (tick > now) {
        if (tick == ~0ULL) {
            wheel->tick = now;
        }
        return false;
    }
    wheel->due = wheel->slots[level][slot];
    wheel->due->timer_slot = SLOT_DUE;
    wheel->slots[level][slot] = NULL;
    wheel->occupied[level] &= ~(1ULL << slot);
    wheel->tick = tick;
    return true;
}

void timer_event(struct core *core)
{
    struct timer_wheel *wheel = &core->wheel;
    uint64_t now = clock_now() >> TIMER_TICK_SHIFT;

    core->timer_armed = ~0ULL;
    for (unsigned work = 0; work < 4 * TIMER_BATCH && (wheel->due || turn(wheel, now));) {
        struct thread *thread = wheel->due;

        remove_first(wheel, thread);
        work += expire(core, thread) ? 4 : 1;
    }
    wheel_arm(core);
    watchdog_event(core);
}

void timer_program(struct core *core, uint64_t when)
{
    uint64_t now = clock_now();

    core->timer_armed = when;
    clock_wake_in(when > now ? when - now : 0);
}
