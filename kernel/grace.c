/* SPDX-License-Identifier: MIT */
#include "kernel/grace.h"

#include "kernel/arch/irq_flag.h"
#include "kernel/arch/lapic.h"
#include "kernel/arch/smp.h"
#include "kernel/arch/vectors.h"

static uint64_t bit(const struct core *core)
{
    return 1ULL << core->id;
}

/* It looks at its mail box, and so comes to the end of its outermost level. */
static void ring(const struct core *core)
{
    uint64_t flags = irq_save();

    lapic_send((uint8_t)core->lapic_id, VECTOR_RESCHEDULE);
    irq_restore(flags);
}

static void start_batch(struct core *core)
{
    uint64_t others = smp_online() & ~bit(core);

    core->batch = core->garbage;
    core->garbage = NULL;
    __atomic_store_n(&core->grace_waiting, others, __ATOMIC_RELEASE);
    while (others) {
        struct core *other = core_at((unsigned)__builtin_ctzll(others));

        others &= others - 1;
        __atomic_fetch_or(&other->grace_from, bit(core), __ATOMIC_ACQ_REL);
        ring(other);
    }
}

static void free_batch(struct core *core)
{
    struct object *object = core->batch;

    core->batch = NULL;
    while (object) {
        struct object *next = (struct object *)object->caps;

        object_unref(object_free(object));
        object = next;
    }
}

bool grace_hold(struct core *core, struct object *object)
{
    if (smp_online() == bit(core)) {
        return false;
    }
    object->caps = (struct cap *)core->garbage; /* it has no capabilities any more */
    core->garbage = object;
    if (!core->batch) {
        start_batch(core);
    }
    return true;
}

void grace_event(struct core *core)
{
    uint64_t from = __atomic_exchange_n(&core->grace_from, 0, __ATOMIC_ACQ_REL);

    while (from) {
        struct core *other = core_at((unsigned)__builtin_ctzll(from));

        from &= from - 1;
        if (__atomic_and_fetch(&other->grace_waiting, ~bit(core), __ATOMIC_ACQ_REL) == 0) {
            ring(other);
        }
    }
    if (core->batch && __atomic_load_n(&core->grace_waiting, __ATOMIC_ACQUIRE) == 0) {
        free_batch(core);
        if (core->garbage) {
            start_batch(core);
        }
    }
}
