/* SPDX-License-Identifier: MIT */
#include "kernel/mail.h"

#include "kernel/arch/irq_flag.h"
#include "kernel/arch/lapic.h"
#include "kernel/arch/vectors.h"
#include "kernel/broken.h"
#include "kernel/fault.h"
#include "kernel/inherit.h"
#include "kernel/ipc.h"
#include "kernel/obj/endpoint.h"
#include "kernel/obj/object.h"
#include "kernel/obj/space.h"
#include "kernel/sched.h"
#include "kernel/syscall.h"

/* Into the box; who finds it empty rings. */
static void push(struct core *core, struct thread *thread)
{
    struct thread *first = __atomic_load_n(&core->shared.mail, __ATOMIC_RELAXED);

    do {
        thread->mail_next = first;
    } while (!__atomic_compare_exchange_n(&core->shared.mail, &first, thread, true,
                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    if (!first) {
        uint64_t flags = irq_save();

        lapic_send((uint8_t)core->shared.lapic_id, VECTOR_RESCHEDULE);
        irq_restore(flags);
    }
}

void mail_post(struct thread *thread, uint32_t message)
{
    /* With its last reference gone it is only still there to be looked at (grace.h). */
    if (!object_try_ref(&thread->object)) {
        return;
    }
    /* One that has a message stands in a box, or is just being read: then it goes on by itself. */
    if (__atomic_fetch_or(&thread->mail, message, __ATOMIC_ACQ_REL) == 0) {
        push(__atomic_load_n(&thread->core, __ATOMIC_ACQUIRE), thread);
    } else {
        object_unref(&thread->object);
    }
}

/* Unless it has been ended while it was on its way. */
static void arrive(struct core *core, struct thread *thread)
{
    if (thread->state != THREAD_MOVING) {
        return;
    }
    if (thread->space) {
        space_comes_to(thread->space, core);
    }
    core->arrived++;
    thread->state = THREAD_READY;
    if (thread->flags & THREAD_FLAG_URGENT && !(thread->flags & THREAD_FLAG_SUSPENDED)) {
        thread->priority = PRIORITY_COUNT - 1;
        sched_enqueue_front(core, thread);
    } else {
        sched_ready(core, thread);
        thread_inherit(core, thread); /* who waits for it may have changed on the way */
    }
}

/* The wait of a claimed thread is over. */
static void finish_wait(struct core *core, struct thread *thread, uint32_t message)
{
    int64_t result = (int64_t)thread->frame.rax;

    __atomic_store_n(&thread->claimed, 0, __ATOMIC_RELEASE);
    if (message & MAIL_END) {
        thread_end_when_run(core, thread);
    } else if (message & MAIL_FAIL) {
        thread_wait_failed(core, thread, result);
    } else {
        if (thread->state == THREAD_FAULTED) {
            fault_forget(thread); /* it may be in the middle of a call, and goes on with that */
        } else {
            thread->flags &= (uint16_t)~THREAD_FLAG_CALL;
        }
        thread_wake(core, thread, result);
    }
    if (thread->space) {
        thread_inherit(core, thread); /* what was left to the end of the claim */
    }
}

static void read_one(struct core *core, struct thread *thread)
{
    uint32_t message = __atomic_exchange_n(&thread->mail, 0, __ATOMIC_ACQ_REL);

    if (thread->core != core) {
        mail_post(thread, message); /* it has moved on meanwhile */
        message = 0;
    }
    if (message & MAIL_LEAVE) {
        ipc_let_go(core, thread);
    }
    if (message & MAIL_BROKEN) {
        broken_tell(thread);
    }
    if (message & MAIL_ARRIVE) {
        arrive(core, thread);
    } else if (message & (MAIL_WAKE | MAIL_FAIL | MAIL_END)) {
        finish_wait(core, thread, message);
    } else if (message & MAIL_INHERIT && thread->space) {
        thread_inherit(core, thread);
    }
    object_unref(&thread->object);
}

/* In the order of posting; a box is a stack, so it is turned over first. */
void mail_event(struct core *core)
{
    struct thread *thread = __atomic_exchange_n(&core->shared.mail, NULL, __ATOMIC_ACQ_REL);
    struct thread *first = NULL;

    while (thread) {
        struct thread *next = thread->mail_next;

        thread->mail_next = first;
        first = thread;
        thread = next;
    }
    while (first) {
        thread = first;
        first = thread->mail_next;
        core->mail_count++;
        read_one(core, thread);
    }
}

static bool is_away(const struct thread *thread, const struct core *core)
{
    return thread->core_wish != CORE_ANY && thread->core_wish != core->id;
}

void mail_send(struct thread *thread, struct core *to)
{
    thread->flags &= (uint16_t)~THREAD_FLAG_AWAY;
    if (is_away(thread, to)) {
        thread->flags |= THREAD_FLAG_AWAY;
    }
    thread->state = THREAD_MOVING;
    object_ref(&thread->object); /* once it is the other core's, that may end it */
    thread_live_on(thread, to);
    mail_post(thread, MAIL_ARRIVE);
    object_unref(&thread->object);
}

int64_t mail_go(struct core *core, struct thread *self, struct core *to, continuation_fn *next)
{
    (void)core;
    self->continuation = next;
    self->target = to->id;
    self->state = THREAD_MOVING; /* sched_switch sends it when it has left its stack */
    if (next) {
        self->flags |= THREAD_FLAG_URGENT;
    }
    return BLOCKED;
}
