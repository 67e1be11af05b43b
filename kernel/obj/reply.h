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
 * The caller that self's reply capability stands for, taken out of the reply object and its server's
 * queue: it waits for self's answer and for nobody else's. The capability goes. E_NOREPLY: the
 * caller does not wait any more.
 */
int reply_take(struct core *core, struct thread *self, cap_t handle, struct thread **caller);
/*
 * The caller gives up waiting for this reply, which is good for nothing from here on. False: somebody
 * has just taken it to answer.
 */
bool reply_leave(struct core *core, struct thread *caller, struct object *reply);

#endif
