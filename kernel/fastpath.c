/* SPDX-License-Identifier: MIT */
/*
 * The calls that a system lives on, for the case that it lives in: partner waiting on the same
 * core, six words, no end to the wait. Anything else is declined before anything has changed.
 * Each is one straight line of fewer than 100 instructions with IF=0 (E5), written so that no
 * callee-saved register is needed: those hold the message.
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
#include "kernel/sched.h"

#define LIKELY(condition)   __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* Keeps the compiler from loading a value early, into a register, for a branch that is not taken. */
#define READ_AGAIN(place) (*(volatile __typeof__(place) *)&(place))

/* What a receiver may see of a short message's descriptor: the label, never a negative number. */
#define SHORT_INFO(info) ((info) & ~(1ULL << 63))

/* Load what differs, without a look at the run queues. */
static inline void switch_now(struct core *core, struct thread *from, struct thread *to)
{
    uint64_t base = rdfsbase();

    from->fs_base = base;
    if (UNLIKELY(to->fs_base != base)) {
        wrfsbase(READ_AGAIN(to->fs_base));
    }
    base = rdgsbase();
    from->gs_base = base;
    if (UNLIKELY(to->gs_base != base)) {
        wrgsbase(READ_AGAIN(to->gs_base));
    }
    if (to->cr3 != from->cr3) {
        write_cr3(to->cr3);
    }
    if (UNLIKELY(core->fpu_owner || to->fpu)) {
        /* Not a call to the compiler, which would make every path save registers for it. */
        FPU_SWITCH_KEPT(core, to);
    }
    entry_set_current(core, to);
}

/* Can `thread`, blocked in an IPC, go on right now on this core? No flag may stand in its way. */
static inline bool ready_here(const struct core *core, const struct thread *thread)
{
    return thread->core == core && thread->flags == 0;
}

FAST(call)
{
    struct thread *self = fast_self(save_end), *server;
    struct endpoint *endpoint;
    struct cap *cap;

    if (UNLIKELY((uint32_t)a1 != 0)) {
        return fast_decline(core, self, SYS_call, a0, a1, a2, a3);
    }
    cap = cap_find(self->space, a0, RIGHT_ENDPOINT_CALL);
    if (UNLIKELY(!cap)) {
        goto decline;
    }
    endpoint = (struct endpoint *)cap->object;
    if (UNLIKELY(!lock_try(&endpoint->object.lock))) {
        goto decline;
    }
    server = endpoint->receivers.head;
    if (UNLIKELY(!server || !ready_here(core, server))) {
        lock_release(&endpoint->object.lock);
        goto decline;
    }
    wait_queue_pop(&endpoint->receivers);
    server->waits_on = NULL; /* before another core may look */
    lock_release(&endpoint->object.lock);
    server->state = THREAD_READY;
    server->caller = self;
    self->state = THREAD_REPLY;
    self->server = server;
    self->frame.rdx = 0; /* as a slow partner looks for them: no struct message, no timeout */
    if (UNLIKELY(server->priority < self->priority)) {
        server->priority = self->priority;
    }
    switch_now(core, self, server);
    return (struct fast_result){(int64_t)SHORT_INFO(a1), cap->badge};
decline: /* without INFO_EXTRA the other arguments do not count */
    return fast_decline(core, self, SYS_call, a0, a1, 0, 0);
}

FAST(reply_receive)
{
    struct thread *self = fast_self(save_end), *caller = self->caller;
    struct endpoint *endpoint;
    struct cap *cap;

    if (UNLIKELY((uint32_t)a1 != 0)) {
        return fast_decline(core, self, SYS_reply_receive, a0, a1, a2, a3);
    }
    cap = cap_find(self->space, a0, RIGHT_ENDPOINT_RECEIVE);
    if (UNLIKELY(!cap || !caller || !ready_here(core, caller) ||
                 caller->priority < core->ready_top || self->bound || self->saved_callers.head)) {
        goto decline;
    }
    endpoint = (struct endpoint *)cap->object;
    if (UNLIKELY(!lock_try(&endpoint->object.lock))) {
        goto decline;
    }
    if (UNLIKELY(endpoint->senders.head || endpoint->receivers.head)) {
        lock_release(&endpoint->object.lock);
        goto decline;
    }
    /* All that a sender on another core finds, or writes to, before it can find self. */
    self->priority = self->base_priority;
    self->caller = NULL;
    self->state = THREAD_RECEIVING;
    self->waits_on = &endpoint->object;
    self->frame.rdx = 0; /* as above */
    wait_queue_insert_first(&endpoint->receivers, self);
    lock_release(&endpoint->object.lock);
    caller->state = THREAD_READY;
    switch_now(core, self, caller);
    return (struct fast_result){(int64_t)SHORT_INFO(a1), 0};
decline: /* as above */
    return fast_decline(core, self, SYS_reply_receive, a0, a1, 0, 0);
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

    if (UNLIKELY(!cap)) {
        goto decline;
    }
    bits = a1 ? a1 : cap->badge;
    notification = (struct notification *)cap->object;
    if (UNLIKELY(!bits || !lock_try(&notification->object.lock))) {
        goto decline;
    }
    waiter = notification->waiters.head;
    if (UNLIKELY(notification->bound || (waiter && !ready_here(core, waiter)))) {
        lock_release(&notification->object.lock);
        goto decline;
    }
    notification->bits |= bits;
    if (waiter) {
        wait_queue_pop(&notification->waiters);
        waiter->frame.rdx = notification->bits;
        notification->bits = 0;
        waiter->waits_on = NULL;
    }
    lock_release(&notification->object.lock);
    if (waiter) {
        waiter->frame.rax = E_OK;
        waiter->state = THREAD_READY;
        set_result(self, E_OK);
        sched_switch_if_higher(core, self, waiter);
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
        set_result(self, E_OK);
        sched_yield(core);
    }
    return (struct fast_result){E_OK, 0};
}
