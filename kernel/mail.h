/* SPDX-License-Identifier: MIT */
/*
 * Messages between cores. A core's queues and the state of its threads are its own; what another core
 * wants of a thread it asks by mail. A message is a bit in the thread's TCB, and the TCB itself is
 * the link in its core's mail box, so that a box is never full and posting needs no memory. An
 * interrupt tells the core; it reads its box at its outermost level.
 */
#ifndef ONESTACK_MAIL_H
#define ONESTACK_MAIL_H

#include "kernel/arch/core.h"

#define MAIL_WAKE    1u  /* claimed; its wait is over, frame.rax has the result */
#define MAIL_FAIL    2u  /* claimed; what it waits for will not come, frame.rax has the error */
#define MAIL_END     4u  /* claimed, with a fault: its handler wants it to end */
#define MAIL_INHERIT 8u  /* somebody else waits for its replies now: its priority may change */
#define MAIL_ARRIVE  16u /* it lives here from now on; thread->core is set */
#define MAIL_LEAVE   32u /* it drives a long copy; its partner wants to leave (thread->claimed) */
#define MAIL_BROKEN  64u /* its space is to be told of a machine check, by it */

/* thread.claimed, a bit each; 0: by nobody */
#define CLAIM_HELD     1  /* somebody finishes its wait */
#define CLAIM_CANCEL   2  /* its own core wants it out of a long copy, with E_CANCELED */
#define CLAIM_LATE     4  /* the same, with E_TIMEOUT */
#define CLAIM_PRIORITY 8  /* its priority has changed, and is to be set when the claim ends */
#define CLAIM_COPIED   16 /* the copy is over: too late to leave it */

/* Ask it of the thread's core, whichever that is when the message gets there. Any context but NMI. */
void mail_post(struct thread *thread, uint32_t message);
/* Outermost level, IF=1: read this core's box. */
void mail_event(struct core *core);

/*
 * The running thread goes to another core and continues there with `next` (NULL: leaves to user
 * mode). Returns BLOCKED, for the system call to return. For an operation on a thread of that
 * core: there it runs before anyone else.
 */
int64_t mail_go(struct core *core, struct thread *self, struct core *to, continuation_fn *next);
/* A thread that is not current and in no queue of its core, THREAD_READY: it goes to core `to`. */
void mail_send(struct thread *thread, struct core *to);

/* Has somebody on another core already ended the wait of a thread of this one? */
static inline bool thread_claimed(const struct thread *thread)
{
    return __atomic_load_n(&thread->claimed, __ATOMIC_ACQUIRE) != 0;
}

/*
 * Under the lock of what it waits in, having taken it out: nobody else ends its wait now. Its own
 * core, which looks without the lock, never finds it out of its queue and not claimed.
 */
static inline void thread_claim(const struct core *core, struct thread *thread)
{
    if (thread->core != core) {
        __atomic_store_n(&thread->claimed, CLAIM_HELD, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&thread->waits_on, NULL, __ATOMIC_RELEASE);
}

/* On its own core: leave a wish with whoever has claimed it. False: nobody has, any more, or too late. */
static inline bool thread_claim_wish(struct thread *thread, uint8_t wish)
{
    uint8_t claim = __atomic_load_n(&thread->claimed, __ATOMIC_ACQUIRE);

    do {
        if (claim == 0 || (claim & CLAIM_COPIED && wish != CLAIM_PRIORITY)) {
            return false;
        }
    } while (!__atomic_compare_exchange_n(&thread->claimed, &claim, claim | wish, true,
                                          __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
    return true;
}

#endif
