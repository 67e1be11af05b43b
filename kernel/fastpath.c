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

/* Until here what came in registers stays there: the compiler would rather use those for others. */
#define ARGUMENTS_STAY(a0, a1, core) __asm__ volatile("" : : "S"(a0), "d"(a1), "c"(core))

/* Without INFO_EXTRA the other arguments do not count. With its caller's registers, so that none moves. */
static __attribute__((noinline)) struct fast_result
decline_short(struct frame *save_end, uint64_t a0, uint64_t a1, struct core *core, uint64_t number)
{
    return fast_decline(core, fast_self(save_end), number, a0, a1, 0, 0);
}

FAST(call)
{
    struct thread *self = fast_self(save_end), *server;
    struct endpoint *endpoint;
    struct cap *cap;
    int64_t info;

    if (UNLIKELY((uint32_t)a1 != 0)) {
        return fast_call_bytes(save_end, a0, a1, core, a2, a3);
    }
    cap = cap_find_own(self, a0, RIGHT_ENDPOINT_CALL);
    if (UNLIKELY(!cap)) {
        goto decline;
    }
    endpoint = (struct endpoint *)cap->object;
    server = lock_receiver(core, endpoint);
    if (UNLIKELY(!server)) {
        goto decline;
    }
    if (UNLIKELY(!flags_allow(self, 0, server))) {
        lock_release(&endpoint->object.lock);
        goto decline;
    }
    ARGUMENTS_STAY(a0, a1, core);
    take_first(endpoint, server);
    meet(self, server, THREAD_REPLY);
    self->frame.rdx = 0; /* as a slow partner looks for them: no struct message, no timeout */
    switch_rest(core, self, server);
    info = (int64_t)SHORT_INFO(a1);
    __asm__("" : "+a"(info)); /* first this, then rdx is free for the badge */
    return (struct fast_result){info, cap->badge};
decline:
    return decline_short(save_end, a0, a1, core, SYS_call);
}

/* Answered without a word more, and nobody's turn but the caller's: self waits there for the next. */
static inline void wait_there(struct thread *self, struct endpoint *endpoint)
{
    self->frame.rdx = 0; /* as above */
    stand_first(endpoint, self);
    lock_release(&endpoint->object.lock);
}

/*
 * The flags do not allow the usual: is it an answer to one that an exception has stopped? FAULT_RESUME,
 * the verdict without a label, and it goes on by its frame. Any other answer, and an answer to a missed
 * page, is declined. The endpoint is locked.
 */
static __attribute__((noinline)) struct fast_result fast_resume(struct frame *save_end, uint64_t a0,
                                                                uint64_t a1, struct core *core,
                                                                struct thread *caller,
                                                                struct endpoint *endpoint)
{
    struct thread *self = fast_self(save_end);

    if (UNLIKELY(!may_receive(self) || caller->state != THREAD_FAULTED ||
                 (caller->flags & ~THREAD_FLAGS_WAITS) != THREAD_FLAG_CALL ||
                 caller->fault_memory || a1 != FAULT_RESUME)) {
        lock_release(&endpoint->object.lock);
        return decline_short(save_end, a0, a1, core, SYS_reply_receive);
    }
    wait_there(self, endpoint);
    cpu_sti();
    caller->flags &= (uint16_t)~THREAD_FLAG_CALL;
    caller->state = THREAD_READY;
    switch_now(core, self, caller);
    exit_other(core);
}

FAST(reply_receive)
{
    struct thread *self = fast_self(save_end), *caller = self->caller;
    struct endpoint *endpoint;

    if (UNLIKELY((uint32_t)a1 != 0)) {
        return fast_reply_bytes(save_end, a0, a1, core, a2, a3);
    }
    if (UNLIKELY(caller->core != core || caller->priority < core->ready_top)) {
        goto decline;
    }
    endpoint = empty_endpoint(self, a0);
    if (UNLIKELY(!endpoint)) {
        goto decline;
    }
    if (UNLIKELY(!flags_allow(self, FLAGS_BEFORE_RECEIVE, caller))) {
        return fast_resume(save_end, a0, a1, core, caller, endpoint);
    }
    ARGUMENTS_STAY(a0, a1, core);
    wait_there(self, endpoint);
    caller->state = THREAD_READY;
    switch_rest(core, self, caller);
    return (struct fast_result){(int64_t)SHORT_INFO(a1), 0};
decline:
    return decline_short(save_end, a0, a1, core, SYS_reply_receive);
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
    struct cap *cap = cap_find_own(self, a0, RIGHT_NOTIFY_SIGNAL);
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
