/* SPDX-License-Identifier: MIT */
#include "kernel/inherit.h"

#include "kernel/ipc.h"
#include "kernel/mail.h"
#include "kernel/obj/endpoint.h"

/* Who works for it at present: answers it, or drives a long copy with it. */
static struct thread *worker_of(const struct thread *thread)
{
    return thread->state == THREAD_REPLY || thread->state == THREAD_FAULTED ||
                   thread->state == THREAD_COPYING
               ? thread->server
               : NULL;
}

/* Its own, or the highest of those whom it answers. */
static uint8_t due_to_callers(struct thread *thread)
{
    uint8_t priority = thread->base_priority;

    if (thread->caller == &no_thread && wait_queue_empty(&thread->saved_callers)) {
        return priority;
    }
    lock_acquire(&thread->object.lock); /* they may live on other cores, and give up waiting */
    if (thread->caller->priority > priority) { /* no_thread has the lowest */
        priority = thread->caller->priority;
    }
    if (thread->saved_callers.head->priority > priority) {
        priority = thread->saved_callers.head->priority;
    }
    lock_release(&thread->object.lock);
    return priority;
}

/*
 * What it is to have for the partner of its long copy, if it drives one. A partner of another core gets what it
 * is due when the copy is over; until then it is asked for.
 */
static uint8_t due_to_partner(const struct thread *driver)
{
    struct thread *peer = ipc_partner(driver);

    if (!peer) {
        return 0;
    }
    return __atomic_load_n(&peer->claimed, __ATOMIC_ACQUIRE) & CLAIM_PRIORITY ? due_to_callers(peer)
                                                                              : peer->priority;
}

/* Its own, or the highest of those whom it works for. */
static uint8_t priority_due(struct thread *thread)
{
    uint8_t priority = due_to_callers(thread);
    uint8_t partner = due_to_partner(thread);

    return partner > priority ? partner : priority;
}

/* A chain can be of any length: the rest of a long one is for the next round of events (events.c). */
#define INHERIT_STEPS 8

void thread_inherit(struct core *core, struct thread *thread)
{
    for (unsigned step = 0; thread; step++) {
        if (thread->core != core || step == INHERIT_STEPS) {
            mail_post(thread, MAIL_INHERIT);
            return;
        }
        uint8_t priority = priority_due(thread);

        if (priority == thread->priority) {
            return;
        }
        thread_set_effective(core, thread, priority);
        thread = worker_of(thread);
    }
}
