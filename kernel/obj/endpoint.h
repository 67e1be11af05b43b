/* SPDX-License-Identifier: MIT */
/* Endpoints: where senders and receivers meet. The kernel keeps no message, only the queue. */
#ifndef ONESTACK_OBJ_ENDPOINT_H
#define ONESTACK_OBJ_ENDPOINT_H

#include "kernel/obj/wait_queue.h"

/* Either senders or receivers, never both. */
struct endpoint {
    struct object object;
    struct wait_queue senders;
    struct wait_queue receivers;
    uint32_t receive_caps;    /* capabilities that may receive; with the last one it ends (cap.c) */
    struct object *reap_next; /* object.h */
};

/*
 * The thread leaves whatever it waits in (endpoint, notification, reply, timer), which is left as
 * if it had never come; it is not woken. For cancel, timeout and death; on the thread's own core.
 * False: another core is just ending the wait, and nothing has changed.
 */
bool thread_leave_wait(struct core *core, struct thread *thread);

/* Its first step: out of the queue, or from whoever shall answer, and nothing else. */
bool thread_leave_place(struct core *core, struct thread *thread);

/* The thread that waits for this one's answer, if any: it is the caller's to wake from now on. */
struct thread *endpoint_take_caller(struct core *core, struct thread *server);
/* The receiving half of receive and reply_receive: arguments in the frame. */
int64_t endpoint_receive(struct core *core, struct thread *self);
/* Another effective priority, in whatever queue the thread stands. */
void thread_set_effective(struct core *core, struct thread *thread, uint8_t priority);

#endif
