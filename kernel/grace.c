/* SPDX-License-Identifier: MIT */
#include "kernel/grace.h"

#include "kernel/arch/irq_flag.h"
#include "kernel/arch/lapic.h"
#include "kernel/arch/smp.h"
#include "kernel/arch/vectors.h"
#include "kernel/obj/cap.h"
#include "kernel/syscall.h"

/* More than this may not wait: then the core itself waits, with its stack empty. */
#define HELD_MOST 32

static uint64_t bit(const struct core *core)
{
    return 1ULL << core->id;
}

static bool is_empty(const struct garbage *garbage)
{
    return !garbage->objects && !garbage->slots;
}

/* The cores stand in a ring. */
static struct core *next_of(const struct core *core)
{
    uint64_t online = smp_online(), above = online & ~(2 * bit(core) - 1);

    return core_at((unsigned)__builtin_ctzll(above ? above : online));
}

/*
 * Batches go on to the next core, which looks at its mail box when rung, and so comes to the end of its
 * outermost level. Who finds others waiting there already need not ring.
 */
static void pass(const struct core *core, uint64_t batches)
{
    struct core *next = next_of(core);

    if (__atomic_fetch_or(&next->shared.grace_round, batches, __ATOMIC_ACQ_REL) == 0) {
        uint64_t flags = irq_save();

        lapic_send((uint8_t)next->shared.lapic_id, VECTOR_RESCHEDULE);
        irq_restore(flags);
    }
}

static void start_batch(struct core *core)
{
    core->batch = core->garbage;
    core->garbage = (struct garbage){NULL, NULL};
    pass(core, bit(core));
}

static void freed(struct core *core)
{
    __atomic_store_n(&core->grace_freed, core->grace_freed + 1, __ATOMIC_RELEASE);
}

/* Freeing one may give up others: those are of the next batch. */
static void free_batch(struct core *core)
{
    struct garbage batch = core->batch;

    core->batch = (struct garbage){NULL, NULL};
    while (batch.slots) {
        struct cap *slot = batch.slots;

        batch.slots = slot->next;
        cap_slot_free(slot);
        freed(core);
    }
    while (batch.objects) {
        struct object *object = batch.objects;

        batch.objects = (struct object *)object->caps;
        object_unref(object_free(object));
        freed(core);
    }
    if (is_empty(&core->batch) && !is_empty(&core->garbage)) {
        start_batch(core);
    }
}

/* Before: is there anybody to wait for? After: the next batch, and no more than so many. */
static void held(struct core *core)
{
    core->grace_held++;
    if (is_empty(&core->batch)) {
        start_batch(core);
    }
    if (core->grace_held - core->grace_freed > HELD_MOST) {
        core_set_pending(core, CORE_PENDING_MAIL);
    }
}

static bool alone(const struct core *core)
{
    return smp_online() == bit(core);
}

bool grace_hold_object(struct core *core, struct object *object)
{
    if (alone(core)) {
        return false;
    }
    object->caps = (struct cap *)core->garbage.objects;
    core->garbage.objects = object;
    held(core);
    return true;
}

bool grace_hold_slot(struct core *core, struct cap *slot)
{
    if (alone(core)) {
        return false;
    }
    slot->next = core->garbage.slots;
    core->garbage.slots = slot;
    held(core);
    return true;
}

/* What others have sent on its way goes on; one's own batch that is here again has been all around. */
static void turn(struct core *core)
{
    uint64_t round = __atomic_exchange_n(&core->shared.grace_round, 0, __ATOMIC_ACQ_REL);

    if (round & ~bit(core)) {
        pass(core, round & ~bit(core));
    }
    if (round & bit(core)) {
        free_batch(core);
    }
}

/* The stack is empty, so batches may pass, and this core can wait for others that wait for it. */
void grace_event(struct core *core)
{
    turn(core);
    while (core->grace_held - core->grace_freed > HELD_MOST) {
        __builtin_ia32_pause();
        turn(core);
    }
}

/* ---- for accounts that are to be exact ---- */

static bool is_waiting(const struct core *core)
{
    return __atomic_load_n(&core->grace_freed, __ATOMIC_ACQUIRE) !=
           __atomic_load_n(&core->grace_held, __ATOMIC_ACQUIRE);
}

bool grace_pending(void)
{
    for (uint64_t cores = smp_online(); cores; cores &= cores - 1) {
        if (is_waiting(core_at((unsigned)__builtin_ctzll(cores)))) {
            return true;
        }
    }
    return false;
}

/* One core after the other: words[0] are those not yet seen, words[1] is how far the first has to get. */
static void wait_continue(struct core *core, struct thread *self)
{
    while (self->words[0]) {
        const struct core *other = core_at((unsigned)__builtin_ctzll(self->words[0]));

        if (self->words[1] == 0) {
            self->words[1] = __atomic_load_n(&other->grace_held, __ATOMIC_ACQUIRE);
        }
        if (__atomic_load_n(&other->grace_freed, __ATOMIC_ACQUIRE) < self->words[1]) {
            __builtin_ia32_pause();
            self->continuation = wait_continue;
            return;
        }
        self->words[0] &= self->words[0] - 1;
        self->words[1] = 0;
    }
    ((continuation_fn *)self->words[2])(core, self);
}

int64_t grace_wait(struct thread *self, continuation_fn *then)
{
    self->words[0] = smp_online();
    self->words[1] = 0;
    self->words[2] = (uint64_t)then;
    return continue_with(self, wait_continue);
}
