/* SPDX-License-Identifier: MIT */
/* Endpoints: where senders and receivers meet. The kernel keeps no message, only the queue. */
#ifndef ONESTACK_OBJ_ENDPOINT_H
#define ONESTACK_OBJ_ENDPOINT_H

#include "kernel/obj/thread.h"

/* By priority, FIFO within one; empty = head NULL. Either senders or receivers, never both. */
struct wait_queue {
    struct thread *head;
};

void wait_queue_insert(struct wait_queue *queue, struct thread *thread);
void wait_queue_remove(struct wait_queue *queue, struct thread *thread);

struct endpoint {
    struct object object;
    struct wait_queue senders;
    struct wait_queue receivers;
};

/*
 * The thread leaves whatever it waits in (endpoint, notification, reply, timer), which is left as
 * if it had never come; it is not woken. For cancel, timeout, suspend-and-rewrite, and death.
 */
void thread_leave_wait(struct core *core, struct thread *thread);

#endif
