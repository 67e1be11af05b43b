/* SPDX-License-Identifier: MIT */
/* What becomes of a user thread's exception: its handler, its pager, its fault endpoint, its end. */
#ifndef ONESTACK_FAULT_H
#define ONESTACK_FAULT_H

#include "kernel/arch/core.h"

struct endpoint;
struct space;

/*
 * An exception of the running thread in user mode: outermost level, IF=1, its frame in the TCB.
 * Page faults in memory that a pager backs go there; else the thread's signal handler, else its space's
 * fault endpoint gets it, else the thread ends. It may block the thread.
 */
void fault_user(struct core *core, struct thread *self, unsigned vector, uint64_t error,
                uint64_t address);

/*
 * What is in self's words goes to whoever receives there, or self to the end of its queue. False: the
 * endpoint is dead.
 */
bool fault_send(struct core *core, struct thread *self, struct endpoint *endpoint);
/*
 * The kernel, working for `self`, needs a page of `space` (self's own, or its partner's in an IPC) that is
 * not there. If a pager backs it: ask, block self, return true; when the page has come self goes on
 * with `retry`. Else false, and nothing has changed. `error` as the CPU's: bit 1 = write.
 */
bool fault_to_pager(struct core *core, struct thread *self, struct space *space, uint64_t address,
                    uint64_t error, continuation_fn *retry);

/* For endpoint.c and ipc.c: `from` (FAULTING, out of the queue) gives its message to `to`, whose caller
 * it is then. Returns the message's descriptor, for to's rax. */
int64_t fault_deliver(struct core *core, struct thread *from, struct thread *to);
/* The answer to a FAULTED thread, which has left its server (kernel/abi/fault.h). */
void fault_verdict(struct core *core, struct thread *thread, uint64_t info);
/* A fault's wait is over. */
void fault_forget(struct thread *thread);

#endif
