/* SPDX-License-Identifier: MIT */
/*
 * Priority inheritance. A thread has the highest priority among its own and those of the threads that
 * wait for its replies, or for the long copy that it drives. Recompute it, and along the chain of those
 * whom it waits for in turn.
 */
#ifndef ONESTACK_INHERIT_H
#define ONESTACK_INHERIT_H

#include "kernel/arch/core.h"
#include "kernel/obj/thread.h"

void thread_inherit(struct core *core, struct thread *thread);

#endif
