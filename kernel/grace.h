/* SPDX-License-Identifier: MIT */
/*
 * When memory that others may be looking at is used again. Capabilities are looked up without a lock,
 * so another core may hold a pointer to a slot that has just been emptied, or to an object that has
 * just lost its last reference; but only in C code on its stack, and that is empty whenever it gets
 * to the end of its outermost level. So what is given up waits, as it is, until every other core has
 * been there once. With one stack per core that is all it takes. ADR 50 has the argument.
 *
 * Who gives up asks its neighbour only: the cores stand in a ring, each hands on what it is handed when
 * it is there, and a batch that comes home has been all around. So no core's part grows with the
 * number of cores (ADR 140).
 */
#ifndef ONESTACK_GRACE_H
#define ONESTACK_GRACE_H

#include "kernel/arch/core.h"
#include "kernel/obj/object.h"

struct cap;

/*
 * The object has no reference left, or the slot no handle. False: there is no other core, it can go
 * at once. True: it is kept, and goes when nobody can see it.
 */
bool grace_hold_object(struct core *core, struct object *object);
bool grace_hold_slot(struct core *core, struct cap *slot);
/* Outermost level, IF=1: hand on other cores' batches, and free one's own that has been around. */
void grace_event(struct core *core);

/* Does anything wait, on any core? What it takes is still charged to its accounts. */
bool grace_pending(void);
/*
 * The thread goes on in `then` when all that waits now, on any core, has been freed. Returns BLOCKED,
 * for the system call to return. The thread's words are lost.
 */
int64_t grace_wait(struct thread *self, continuation_fn *then);

#endif
