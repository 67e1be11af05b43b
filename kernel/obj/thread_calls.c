/* SPDX-License-Identifier: MIT */
/* The system calls on threads, but for their registers. */
#include "kernel/abi/message.h"
#include "kernel/arch/clock.h"
#include "kernel/arch/core.h"
#include "kernel/arch/smp.h"
#include "kernel/inherit.h"
#include "kernel/ipc.h"
#include "kernel/mail.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/notification.h"
#include "kernel/obj/quota.h"
#include "kernel/obj/registers.h"
#include "kernel/sched.h"
#include "kernel/syscall.h"
#include "kernel/timer.h"

/* Argument 0: a thread that has not ended, by a capability with `right`. */
static int64_t find(struct thread *self, uint32_t right, struct thread **thread)
{
    *thread = cap_object(self->space, ARG0(self), right);
    if (!*thread) {
        return cap_error(self->space, ARG0(self), OBJ_THREAD);
    }
    if ((*thread)->object.dying) {
        return E_DEAD;
    }
    /* What follows is for the thread's own core to do: go there and make the call again. */
    return (*thread)->core == self->core
               ? E_OK
               : mail_go(self->core, self, (*thread)->core, syscall_restart);
}

/* The same, where 0 means oneself. */
static int64_t find_or_self(struct thread *self, uint32_t right, struct thread **thread)
{
    *thread = self;
    return ARG0(self) == 0 ? E_OK : find(self, right, thread);
}

int64_t sys_thread_create(struct core *core, struct thread *self)
{
    struct quota *quota = cap_object(self->space, ARG0(self), RIGHT_QUOTA_USE);
    struct space *space = cap_object(self->space, ARG1(self), RIGHT_SPACE_THREAD);
    uint64_t priority = ARG2(self) & 0xff, ceiling = ARG2(self) >> 8;
    cap_t handle;

    if (!quota) {
        return cap_error(self->space, ARG0(self), OBJ_QUOTA);
    }
    if (!space) {
        return cap_error(self->space, ARG1(self), OBJ_SPACE);
    }
    if (ceiling >= PRIORITY_COUNT || priority > ceiling) {
        return E_INVAL;
    }
    if (ceiling > self->ceiling) {
        return E_PRIO;
    }
    struct thread *thread = thread_new(quota, core, (uint8_t)priority, (uint8_t)ceiling);

    if (!thread) {
        return E_NOMEM;
    }
    if (!thread_enter(thread, space)) {
        object_unref(&thread->object);
        return E_DEAD;
    }
    /* From here on the space's end is the thread's, but only on this core, and so not before we are done. */
    int error = cap_insert(self->space, &thread->object, cap_type_rights(OBJ_THREAD), 0, NULL, 0,
                           &handle);

    if (error) {
        thread_give_up(thread);
        return error;
    }
    self->frame.rdx = handle;
    return E_OK;
}

int64_t sys_thread_start(struct core *core, struct thread *self)
{
    struct thread *thread;
    int64_t error = find(self, RIGHT_THREAD_CONTROL, &thread);

    if (error) {
        return error;
    }
    if (!rip_valid(ARG1(self))) {
        return E_INVAL;
    }
    if (thread->state != THREAD_INACTIVE) {
        return E_BUSY;
    }
    thread_set_entry(thread, ARG1(self), ARG2(self), ARG3(self));
    thread_begin(core, thread);
    return E_OK;
}

int64_t sys_thread_suspend(struct core *core, struct thread *self)
{
    struct thread *thread;
    int64_t error = find_or_self(self, RIGHT_THREAD_CONTROL, &thread);

    if (error) {
        return error;
    }
    thread->flags |= THREAD_FLAG_SUSPENDED;
    if (thread->flags & THREAD_FLAG_QUEUED) {
        sched_dequeue(core, thread);
    }
    return E_OK;
}

int64_t sys_thread_resume(struct core *core, struct thread *self)
{
    struct thread *thread;
    int64_t error = find(self, RIGHT_THREAD_CONTROL, &thread);

    if (error) {
        return error;
    }
    if (!(thread->flags & THREAD_FLAG_SUSPENDED)) {
        return E_OK;
    }
    thread->flags &= (uint16_t)~THREAD_FLAG_SUSPENDED;
    if (thread->state == THREAD_READY) {
        sched_ready(core, thread);
    }
    return E_OK;
}

int64_t sys_thread_end(struct core *core, struct thread *self)
{
    struct thread *thread;
    int64_t error = find_or_self(self, RIGHT_THREAD_CONTROL, &thread);

    if (error) {
        return error;
    }
    if (thread == self) {
        thread_end_itself(core, self);
        return BLOCKED;
    }
    object_end(self, &thread->object);
    return reap(core, self, E_OK);
}

int64_t sys_thread_set_priority(struct core *core, struct thread *self)
{
    struct thread *thread;
    uint64_t priority = ARG1(self);
    int64_t error = find(self, RIGHT_THREAD_CONTROL, &thread);

    if (error) {
        return error;
    }
    if (priority >= PRIORITY_COUNT) {
        return E_INVAL;
    }
    if (priority > self->ceiling) {
        return E_PRIO;
    }
    thread->base_priority = (uint8_t)priority;
    thread_inherit(core, thread);
    return E_OK;
}

int64_t sys_thread_set_affinity(struct core *core, struct thread *self)
{
    struct thread *thread;
    uint64_t id = ARG1(self);
    int64_t error = find(self, RIGHT_THREAD_CONTROL, &thread);

    if (error) {
        return error;
    }
    if (id != CORE_ANY && (id >= MAX_CORES || !(smp_online() >> id & 1))) {
        return E_INVAL;
    }
    thread->core_wish = (uint8_t)id;
    if (id == CORE_ANY || id == core->id) {
        thread->flags &= (uint16_t)~THREAD_FLAG_AWAY;
        return E_OK;
    }
    thread->flags |= THREAD_FLAG_AWAY; /* goes when it next leaves to user mode, or now: */
    if (thread->flags & THREAD_FLAG_QUEUED && !thread->continuation) {
        sched_dequeue(core, thread);
        mail_send(thread, core_at((unsigned)id));
    } else if (thread->state == THREAD_INACTIVE) {
        thread->flags &= (uint16_t)~THREAD_FLAG_AWAY; /* ours to change until it is that core's */
        thread_live_on(thread, core_at((unsigned)id));
    }
    return E_OK;
}

/* Between two cores it is as good as ready. */
static uint8_t state_seen(const struct thread *thread)
{
    return thread->object.dying             ? THREAD_DEAD
           : thread->state == THREAD_MOVING ? THREAD_READY
                                            : thread->state;
}

int64_t sys_thread_info(struct core *core, struct thread *self)
{
    struct thread *thread;
    int64_t error = find_or_self(self, RIGHT_THREAD_INFO, &thread);
    struct thread_info info;

    if (error && error != E_DEAD) {
        return error;
    }
    uint64_t running = thread == self ? clock_now() - core->switched_in : 0;

    info = (struct thread_info){
        .state = state_seen(thread),
        .priority = thread->priority,
        .base_priority = thread->base_priority,
        .ceiling = thread->ceiling,
        .core = thread->core_wish,
        .cpu_time = clock_to_ns(thread->cpu_time + running),
    };
    copy_to_user(core, ARG1(self), &info, sizeof(info));
    return E_OK;
}

int64_t sys_thread_set_handler(struct core *core, struct thread *self)
{
    (void)core;
    if (ARG0(self) != 0 && !rip_valid(ARG0(self))) {
        return E_INVAL;
    }
    self->handler = ARG0(self);
    self->handler_stack = ARG1(self);
    return E_OK;
}

int64_t sys_handler_return(struct core *core, struct thread *self)
{
    struct thread_registers registers;
    int error;

    copy_from_user(core, &registers, ARG0(self), sizeof(registers));
    error = registers_set(self, self, &registers);
    if (error) {
        return error;
    }
    self->flags &= (uint16_t)~THREAD_FLAG_IN_HANDLER;
    return (int64_t)self->frame.rax; /* the interrupted one's, as all other registers */
}

int64_t sys_thread_bind(struct core *core, struct thread *self)
{
    struct notification *notification;
    struct thread *thread;
    int64_t error = find(self, RIGHT_THREAD_CONTROL, &thread);

    if (error) {
        return error;
    }
    if (ARG1(self) == 0) {
        notification_unbind(thread);
        return E_OK;
    }
    notification = cap_object(self->space, ARG1(self), RIGHT_NOTIFY_WAIT);
    if (!notification) {
        return cap_error(self->space, ARG1(self), OBJ_NOTIFICATION);
    }
    error = notification_bind(notification, thread);
    if (!error) {
        thread->flags |= THREAD_FLAG_BOUND;
        notification_signal(core, notification, 0); /* bits there were, and it receives already */
    }
    return error;
}

/* In a wait that its call can end without; a thread that drives a long copy is in one all the time. */
static bool can_cancel(const struct thread *thread)
{
    switch (thread->state) {
    case THREAD_SENDING:
    case THREAD_RECEIVING:
    case THREAD_REPLY:
    case THREAD_WAITING:
    case THREAD_SLEEPING:
    case THREAD_COPYING:
        return true;
    default:
        return thread->flags & THREAD_FLAG_DRIVES;
    }
}

int64_t sys_thread_cancel(struct core *core, struct thread *self)
{
    struct thread *thread;
    int64_t error = find(self, RIGHT_THREAD_CONTROL, &thread);

    if (error) {
        return error;
    }
    if (!can_cancel(thread)) {
        return E_BUSY;
    }
    if (!thread_leave_wait(core, thread)) {
        if (ipc_ask_to_leave(thread, CLAIM_CANCEL)) {
            return E_OK; /* its partner's core will see to it */
        }
        __builtin_ia32_pause();
        return continue_with(self, syscall_restart); /* its wait ends, or becomes another */
    }
    thread_wake(core, thread, E_CANCELED);
    return E_OK;
}

int64_t sys_sleep(struct core *core, struct thread *self)
{
    if (ARG0(self) == 0) {
        return E_OK;
    }
    self->state = THREAD_SLEEPING;
    if (ARG0(self) != TIMEOUT_NONE) {
        timer_set(core, self, timer_deadline(ARG0(self)));
    }
    return BLOCKED;
}

int64_t sys_clock(struct core *core, struct thread *self)
{
    (void)core;
    self->frame.rdx = clock_to_ns(clock_now());
    return E_OK;
}
