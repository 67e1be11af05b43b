/* SPDX-License-Identifier: MIT */
/*
 * The calls that a system lives on, for the case that it lives in: partner waiting on the same
 * core, six words, no end to the wait. Anything else is declined before anything has changed.
 * Each is one straight line of fewer than 100 instructions with IF=0 (E5), written so that no
 * callee-saved register is needed: those hold the message.
 */
#include "kernel/fastpath.h"

#include "kernel/abi/error.h"
#include "kernel/abi/fault.h"
#include "kernel/abi/message.h"
#include "kernel/abi/syscall.h"
#include "kernel/arch/cpu.h"
#include "kernel/obj/notification.h"
#include "kernel/rendezvous.h"
#include "kernel/sched.h"

FAST(call)
{
    struct thread *self = fast_self(save_end), *server;
    struct cap *cap;

    if (UNLIKELY((uint32_t)a1 != 0)) {
        return fast_call_bytes(save_end, a0, a1, core, a2, a3);
    }
    cap = cap_find(self->space, a0, RIGHT_ENDPOINT_CALL);
    server = cap ? take_receiver(core, (struct endpoint *)cap->object) : NULL;
    if (UNLIKELY(!server)) {
        /* without INFO_EXTRA the other arguments do not count */
        return fast_decline(core, self, SYS_call, a0, a1, 0, 0);
    }
    meet(self, server, THREAD_REPLY);
    self->frame.rdx = 0; /* as a slow partner looks for them: no struct message, no timeout */
    switch_now(core, self, server);
    return (struct fast_result){(int64_t)SHORT_INFO(a1), cap->badge};
}

/* The rest of a reply_receive, whose caller can go on right now; false: nothing has changed. */
static inline __attribute__((always_inline)) bool
reply_on(struct core *core, struct thread *self, cap_t handle, const struct thread *caller)
{
    struct endpoint *endpoint;

    if (UNLIKELY(!may_receive(self) || caller->priority < core->ready_top)) {
        return false;
    }
    endpoint = empty_endpoint(self, handle);
    if (UNLIKELY(!endpoint)) {
        return false;
    }
    self->frame.rdx = 0; /* as above */
    stand_first(endpoint, self);
    lock_release(&endpoint->object.lock);
    return true;
}

/*
 * To one that an exception has stopped: FAULT_RESUME, the verdict without a label, and it goes on by
 * its frame. Any other answer, and an answer to a missed page, is declined.
 */
static __attribute__((noinline)) struct fast_result fast_resume(struct frame *save_end, uint64_t a0,
                                                                uint64_t a1, struct core *core,
                                                                struct thread *caller)
{
    struct thread *self = fast_self(save_end);

    if (UNLIKELY(!caller || caller->core != core || caller->state != THREAD_FAULTED ||
                 (caller->flags & ~THREAD_FLAGS_WAITS) != THREAD_FLAG_CALL ||
                 caller->fault_memory || a1 != FAULT_RESUME || !reply_on(core, self, a0, caller))) {
        return fast_decline(core, self, SYS_reply_receive, a0, a1, 0, 0);
    }
    cpu_sti();
    caller->flags &= (uint16_t)~THREAD_FLAG_CALL;
    caller->state = THREAD_READY;
    switch_now(core, self, caller);
    exit_other(core);
}

FAST(reply_receive)
{
    struct thread *self = fast_self(save_end), *caller = self->caller;

    if (UNLIKELY((uint32_t)a1 != 0)) {
        return fast_reply_bytes(save_end, a0, a1, core, a2, a3);
    }
    if (UNLIKELY(!caller || !ready_here(core, caller))) {
        return fast_resume(save_end, a0, a1, core, caller);
    }
    if (UNLIKELY(!reply_on(core, self, a0, caller))) {
        return fast_decline(core, self, SYS_reply_receive, a0, a1, 0, 0); /* as above */
    }
    caller->state = THREAD_READY;
    switch_now(core, self, caller);
    return (struct fast_result){(int64_t)SHORT_INFO(a1), 0};
}

/* The caller's result, for when it goes on by its frame. */
static inline void set_result(struct thread *self, int64_t value)
{
    self->frame.rax = (uint64_t)value;
    self->frame.rdx = 0;
}

FAST(signal)
{
    struct thread *self = fast_self(save_end), *waiter;
    struct cap *cap = cap_find(self->space, a0, RIGHT_NOTIFY_SIGNAL);
    struct notification *notification;
    uint64_t bits;
    bool given;

    if (UNLIKELY(!cap)) {
        goto decline;
    }
    bits = a1 ? a1 : cap->badge;
    notification = (struct notification *)cap->object;
    if (UNLIKELY(!bits || !lock_try(&notification->object.lock))) {
        goto decline;
    }
    given = notification_give(core, notification, bits, &waiter);
    lock_release(&notification->object.lock);
    if (UNLIKELY(!given)) {
        goto decline;
    }
    if (waiter) {
        cpu_sti();
        set_result(self, E_OK);
        sched_hand_over(core, self, waiter);
        cpu_cli();
    }
    return (struct fast_result){E_OK, 0};
decline:
    return fast_decline(core, self, SYS_signal, a0, a1, a2, a3);
}

FAST(yield)
{
    struct thread *self = fast_self(save_end);

    (void)a0, (void)a1, (void)a2, (void)a3;
    if (core->ready_top == self->priority) {
        cpu_sti();
        set_result(self, E_OK);
        sched_yield(core, self);
    }
    return (struct fast_result){E_OK, 0};
}
