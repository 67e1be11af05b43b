/* SPDX-License-Identifier: MIT */
/*
 * The three calls that a system lives on, for the case that it lives in: partner ready on the same
 * core, six words, no end to the wait. Anything else is declined before anything has changed.
 * Each is one straight line of fewer than 100 instructions with IF=0 (E5).
 */
#include "kernel/fastpath.h"

#include "kernel/abi/error.h"
#include "kernel/abi/message.h"
#include "kernel/abi/syscall.h"
#include "kernel/arch/cpu.h"
#include "kernel/arch/entry.h"
#include "kernel/arch/fpu.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/endpoint.h"
#include "kernel/obj/notification.h"

/* From one thread to the next without a look at the run queues. The message is in registers. */
static inline void switch_now(struct core *core, struct thread *from, struct thread *to)
{
    from->fs_base = rdfsbase();
    from->gs_base = rdgsbase();
    if (__builtin_expect(to->fs_base != from->fs_base, 0)) {
        wrfsbase(to->fs_base);
    }
    if (__builtin_expect(to->gs_base != from->gs_base, 0)) {
        wrgsbase(to->gs_base);
    }
    if (to->cr3 != from->cr3) {
        write_cr3(to->cr3);
    }
    fpu_switch(core, to);
    entry_set_current(core, to);
}

/* Can `thread`, blocked in an IPC, go on right now on this core? No flag may stand in its way. */
static inline bool ready_here(const struct core *core, const struct thread *thread)
{
    return thread->core == core && thread->flags == 0;
}

FAST(call)
{
    struct cap *cap = cap_find(self->space, a0, RIGHT_ENDPOINT_CALL);
    struct endpoint *endpoint;
    struct thread *server;

    if (__builtin_expect((uint32_t)a1 != 0 || !cap, 0)) {
        goto decline;
    }
    endpoint = (struct endpoint *)cap->object;
    server = endpoint->receivers.head;
    if (__builtin_expect(!server || !ready_here(core, server) || server->caller != NULL, 0)) {
        goto decline;
    }
    if (!lock_try(&endpoint->object.lock)) {
        goto decline;
    }
    wait_queue_pop(&endpoint->receivers);
    lock_release(&endpoint->object.lock);
    server->state = THREAD_READY;
    server->caller = self;
    self->state = THREAD_REPLY;
    self->server = server;
    self->frame.rdx = 0; /* as a slow partner looks for them: no struct message, no timeout */
    if (__builtin_expect(server->priority < self->priority, 0)) {
        server->priority = self->priority;
    }
    switch_now(core, self, server);
    return (struct fast_result){(int64_t)(a1 & INFO_LABEL_MASK), cap->badge};
decline:
    return fast_decline(core, self, SYS_call, a0, a1, a2, a3);
}

FAST(reply_receive)
{
    struct cap *cap = cap_find(self->space, a0, RIGHT_ENDPOINT_RECEIVE);
    struct thread *caller = self->caller;
    struct endpoint *endpoint;

    if (__builtin_expect((uint32_t)a1 != 0 || !cap || !caller, 0)) {
        goto decline;
    }
    endpoint = (struct endpoint *)cap->object;
    if (__builtin_expect(!ready_here(core, caller) || caller->state != THREAD_REPLY ||
                             caller->priority < core->ready_top || self->bound != NULL ||
                             self->saved_callers.head != NULL,
                         0)) {
        goto decline;
    }
    if (!lock_try(&endpoint->object.lock)) {
        goto decline;
    }
    if (__builtin_expect(endpoint->senders.head || endpoint->receivers.head, 0)) {
        lock_release(&endpoint->object.lock);
        goto decline;
    }
    self->priority = self->base_priority;
    wait_queue_insert(&endpoint->receivers, self);
    lock_release(&endpoint->object.lock);
    self->caller = NULL;
    self->state = THREAD_RECEIVING;
    self->waits_on = &endpoint->object;
    self->frame.rdx = 0; /* as above */
    caller->state = THREAD_READY;
    switch_now(core, self, caller);
    return (struct fast_result){(int64_t)(a1 & INFO_LABEL_MASK), 0};
decline:
    return fast_decline(core, self, SYS_reply_receive, a0, a1, a2, a3);
}
