/* SPDX-License-Identifier: MIT */
/*
 * When an object's memory may be used again. Capabilities are looked up without a lock, so another
 * core may hold a pointer to an object that has just lost its last reference; but only in C code on
 * its stack, and that is empty whenever it gets to the end of its outermost level. So memory waits
 * until every other core has been there once. With one stack per core that is all it takes.
 */
#ifndef ONESTACK_GRACE_H
#define ONESTACK_GRACE_H

#include "kernel/arch/core.h"
#include "kernel/obj/object.h"

/*
 * The object has no reference left. False: there is no other core, it can go at once. True: it is kept,
 * and goes when nobody can see it.
 */
bool grace_hold(struct core *core, struct object *object);
/* Outermost level: answer other cores, and free what all have answered for. */
void grace_event(struct core *core);

#endif
