/* SPDX-License-Identifier: MIT */
/* Notifications: a word of bits that anyone may set and one thread at a time takes. */
#ifndef ONESTACK_OBJ_NOTIFICATION_H
#define ONESTACK_OBJ_NOTIFICATION_H

#include "kernel/abi/error.h"
#include "kernel/obj/endpoint.h"
#include "kernel/switch.h"

struct notification {
    struct object object;
    uint64_t bits;
    struct wait_queue waiters;
    struct thread *bound; /* its receive sees the bits too */
};
_Static_assert(sizeof(struct notification) <= 64, "a slab of 64");

/* Set bits and hand them to a waiter or to the bound thread if it receives. Any core, IF=1. */
void notification_signal(struct core *core, struct notification *notification, uint64_t bits);

/*
 * The fast ways' part of that, under its lock: set them, or give them to the first who waits, who is
 * READY then, and in no queue. False: nothing has changed, for it is not as simple.
 */
static inline bool notification_give(const struct core *core, struct notification *notification,
                                     uint64_t bits, struct thread **waiter)
{
    struct thread *first = notification->waiters.head;

    bool waits = first != &no_thread;

    if (UNLIKELY(waits ? !ready_here(core, first) : notification->bound != NULL)) {
        return false;
    }
    *waiter = waits ? first : NULL;
    bits |= notification->bits;
    if (waits) {
        wait_queue_pop(&notification->waiters);
        first->frame.rax = E_OK;
        first->frame.rdx = bits;
        first->state = THREAD_READY;
        first->waits_on = NULL; /* before another core may look */
        bits = 0;
    }
    notification->bits = bits;
    return true;
}

/* Bits as the message that a receiver gets: its words and badge. Returns the descriptor. */
int64_t notification_message(struct thread *receiver, uint64_t bits);
/* For receive: take the bits of the notification that self is bound to, 0 = none. */
uint64_t notification_take_bound(struct thread *self);
/* Once self stands in the endpoint's queue: bits that have come meanwhile end its wait. */
void notification_offer_bound(struct core *core, struct thread *self);
/* E_BUSY: either has a binding already. */
int notification_bind(struct notification *notification, struct thread *thread);
/* The thread's binding goes, either side ending. */
void notification_unbind(struct thread *thread);

#endif
