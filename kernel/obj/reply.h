/* SPDX-License-Identifier: MIT */
/*
 * Reply objects: the right to answer one caller, taken out of the server's TCB so that it can take
 * further calls and answer in any order, or have another thread answer. Used at most once: it dies
 * with the answer, and with the caller's wait (cancel, timeout, death).
 */
#ifndef ONESTACK_OBJ_REPLY_H
#define ONESTACK_OBJ_REPLY_H

#include "kernel/obj/wait_queue.h"

struct reply {
    struct object object;
    struct thread *caller; /* who waits; NULL: nobody any more. It has waits_on = this object */
};

_Static_assert(sizeof(struct reply) <= 64, "a slab of 64");

/*
 * The caller's wait is over, whatever the reason: it leaves its server's queue of saved callers and
 * the reply object, which is good for nothing from here on. Its server inherits anew
 * by the caller of this function (thread_inherit).
 */
void reply_forget(struct thread *caller);

/*
 * For sys_reply: use the reply capability `handle` up. E_OK and its caller, who waits for nobody
 * then; E_NOREPLY if that one's wait is over; or why the capability is none.
 */
int reply_take(struct thread *self, cap_t handle, struct thread **caller);

#endif
