/* SPDX-License-Identifier: MIT */
#include "kernel/debug/lock_check.h"

#if CONFIG_DEBUG

#include "kernel/arch/clock.h"
#include "kernel/arch/cpu_bits.h"
#include "kernel/arch/entry.h"
#include "kernel/debug/panic.h"

static bool started, boot_over;

/* The harness plants an inversion here. */
static volatile const uint8_t type_ranks[OBJ_TYPE_COUNT] = {
    [OBJ_THREAD] = RANK_THREAD,       [OBJ_SPACE] = RANK_SPACE,    [OBJ_ENDPOINT] = RANK_OBJECT,
    [OBJ_NOTIFICATION] = RANK_OBJECT, [OBJ_REPLY] = RANK_OBJECT,   [OBJ_MEMORY] = RANK_MEMORY,
    [OBJ_IRQ] = RANK_OBJECT,          [OBJ_IOPORTS] = RANK_OBJECT, [OBJ_QUOTA] = RANK_OBJECT,
};

static unsigned rank_of(const struct lock *lock)
{
    const struct object *object = (const struct object *)((const char *)lock -
                                                          offsetof(struct object, lock));

    return lock->rank != RANK_BY_TYPE ? lock->rank : type_ranks[object->type];
}

/* Both ends of a long copy, of a page that is reclaimed. */
static bool comes_in_pairs(unsigned rank)
{
    return rank == RANK_SPACE || rank == RANK_MEMORY;
}

/* A nested entry, or one on a stack of its own: IRQ, NMI, machine check. */
static bool is_nested(const struct core *core)
{
    uint64_t offset = (uint64_t)__builtin_frame_address(0) - (uint64_t)core;

    return core->nest != 1 ||
           (offset >= CORE_STACK_BASE(STACK_NMI) && offset < CORE_STACK_TOP(STACK_COUNT - 1));
}

void lock_wanted(const struct lock *lock)
{
    struct core *core = core_here();

    if (!started) {
        return;
    }
    if (is_nested(core)) {
        panic("lock %p is taken in a nested entry, nest %u", (const void *)lock, core->nest);
    }
    /* Who holds it may wait until we have forgotten a translation: we have to answer meanwhile. */
    if (boot_over && !(__builtin_ia32_readeflags_u64() & RFLAGS_IF)) {
        panic("lock %p is waited for with IF=0", (const void *)lock);
    }
    if (core->locks.count > 0) {
        const struct lock *last = core->locks.held[core->locks.count - 1].lock;
        unsigned above = rank_of(last), rank = rank_of(lock);

        if (rank < above || (rank == above && (!comes_in_pairs(rank) || lock <= last))) {
            panic("lock order: %p of rank %u is taken while %p of rank %u is held",
                  (const void *)lock, rank, (const void *)last, above);
        }
    }
}

void lock_taken(const struct lock *lock)
{
    struct core *core = core_here();

    if (!started) {
        return;
    }
    if (core->locks.count == LOCKS_MOST) {
        panic("more than %u locks are held", LOCKS_MOST);
    }
    core->locks.held[core->locks.count].lock = lock;
    core->locks.held[core->locks.count].from = (uint64_t)__builtin_return_address(0);
    core->locks.held[core->locks.count].since = clock_now();
    core->locks.count++;
    core->locks.taken++;
}

/* In any order: lock_both() gives up the first that it took. */
void lock_given(const struct lock *lock)
{
    struct core *core = core_here();
    struct lock_record *locks = &core->locks;
    unsigned i = 0;

    if (!started) {
        return;
    }
    while (i < locks->count && locks->held[i].lock != lock) {
        i++;
    }
    if (i == locks->count) {
        panic("lock %p is given up by a core that does not hold it", (const void *)lock);
    }
    uint64_t ticks = clock_now() - locks->held[i].since;
    unsigned rank = rank_of(lock);

    if (ticks > locks->longest[rank].ticks) {
        locks->longest[rank].ticks = ticks;
        locks->longest[rank].from = locks->held[i].from;
        locks->longest[rank].to = (uint64_t)__builtin_return_address(0);
    }
    for (locks->count--; i < locks->count; i++) {
        locks->held[i] = locks->held[i + 1];
    }
}

void lock_check_start(void)
{
    started = true;
}

void lock_check_boot_over(void)
{
    boot_over = true;
}

void lock_check_none(const struct core *core)
{
    if (core->locks.count != 0) {
        panic("lock %p is held at an exit", (const void *)core->locks.held[0].lock);
    }
}

#endif
