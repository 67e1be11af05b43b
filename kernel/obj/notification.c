/* SPDX-License-Identifier: MIT */
#include "kernel/obj/notification.h"

#include "kernel/abi/message.h"
#include "kernel/mail.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/quota.h"
#include "kernel/sched.h"
#include "kernel/syscall.h"
#include "kernel/timer.h"

/*
 * Out of the endpoint's queue and on with the bits as a message (kernel/abi/message.h). False: it has
 * just got another message.
 */
static bool give_to_receiver(struct core *core, struct thread *thread, uint64_t bits)
{
    struct object *object = __atomic_load_n(&thread->waits_on, __ATOMIC_ACQUIRE);

    if (!object) {
        return false;
    }
    lock_acquire(&object->lock);
    bool waits = thread->waits_on == object && thread->state == THREAD_RECEIVING;

    if (waits) {
        wait_queue_remove(&((struct endpoint *)object)->receivers, thread);
        thread->waits_on = NULL;
        thread_claim(core, thread);
    }
    lock_release(&object->lock);
    if (waits) {
        thread->frame.rbx = bits;
        thread->frame.rdx = 0;
        thread_wake(core, thread, INFO_NOTIFIED);
    }
    return waits;
}

void notification_signal(struct core *core, struct notification *notification, uint64_t bits)
{
    struct thread *waiter = NULL, *receiver = NULL;

    lock_acquire(&notification->object.lock);
    bits |= notification->bits;
    if (notification->waiters.head) {
        waiter = wait_queue_pop(&notification->waiters);
        waiter->waits_on = NULL;
        thread_claim(core, waiter);
    } else if (notification->bound && notification->bound->state == THREAD_RECEIVING) {
        receiver = notification->bound;
    }
    notification->bits = waiter || receiver ? 0 : bits;
    lock_release(&notification->object.lock);
    if (waiter) {
        waiter->frame.rdx = bits;
        thread_wake(core, waiter, E_OK);
    } else if (receiver && !give_to_receiver(core, receiver, bits)) {
        __atomic_fetch_or(&notification->bits, bits,
                          __ATOMIC_ACQ_REL); /* its next receive sees them */
    }
}

static uint64_t take(struct notification *notification)
{
    return __atomic_exchange_n(&notification->bits, 0, __ATOMIC_ACQ_REL);
}

uint64_t notification_take_bound(struct thread *self)
{
    struct notification *bound = self->bound;

    return bound && bound->bits ? take(bound) : 0;
}

int notification_bind(struct notification *notification, struct thread *thread)
{
    int error = E_OK;

    lock_acquire(&notification->object.lock);
    if (notification->object.dying) {
        error = E_DEAD;
    } else if (notification->bound || thread->bound) {
        error = E_BUSY;
    } else {
        notification->bound = thread;
        thread->bound = notification;
        object_ref(&notification->object);
    }
    lock_release(&notification->object.lock);
    return error;
}

void notification_unbind(struct thread *thread)
{
    struct notification *bound = thread->bound;

    if (!bound) {
        return;
    }
    lock_acquire(&bound->object.lock);
    bound->bound = NULL;
    lock_release(&bound->object.lock);
    thread->bound = NULL;
    object_unref(&bound->object);
}

void notification_watch_end(struct core *core, struct notification **watcher, uint64_t bits)
{
    struct notification *notification = *watcher;

    if (notification) {
        *watcher = NULL;
        notification_signal(core, notification, bits);
        object_unref(&notification->object);
    }
}

bool notification_destroy(struct core *core, struct thread *self, struct object *object)
{
    struct notification *notification = (struct notification *)object;

    (void)self;
    if (notification->bound) {
        notification_unbind(notification->bound);
    }
    while (notification->waiters.head) {
        lock_acquire(&object->lock);
        struct thread *waiter = wait_queue_pop(&notification->waiters);

        waiter->waits_on = NULL;
        thread_claim(core, waiter);
        lock_release(&object->lock);
        thread_wait_failed(core, waiter, E_DEAD);
        if (preemption_wanted(core)) {
            return false;
        }
    }
    return true;
}

int64_t sys_notification_create(struct core *core, struct thread *self)
{
    struct quota *quota = cap_object(self->space, ARG0(self), RIGHT_QUOTA_USE);
    struct notification *notification;

    (void)core;
    if (!quota) {
        return cap_error(self->space, ARG0(self), OBJ_QUOTA);
    }
    notification = kmem_alloc(quota, sizeof(*notification));
    if (!notification) {
        return E_NOMEM;
    }
    object_init(&notification->object, OBJ_NOTIFICATION, quota);
    return cap_publish(self, &notification->object);
}

int64_t sys_signal(struct core *core, struct thread *self)
{
    struct cap *cap = cap_find(self->space, ARG0(self), RIGHT_NOTIFY_SIGNAL);

    if (!cap) {
        return cap_error(self->space, ARG0(self), OBJ_NOTIFICATION);
    }
    if (cap->object->dying) {
        return E_DEAD;
    }
    notification_signal(core, (struct notification *)cap->object,
                        ARG1(self) ? ARG1(self) : cap->badge);
    return E_OK;
}

/* Bits now, or a place in the queue if the timeout is not 0. */
static int64_t wait(struct core *core, struct thread *self, uint64_t timeout)
{
    struct notification *notification = cap_object(self->space, ARG0(self), RIGHT_NOTIFY_WAIT);
    int64_t result = E_OK;
    uint64_t bits;

    if (!notification) {
        return cap_error(self->space, ARG0(self), OBJ_NOTIFICATION);
    }
    lock_acquire(&notification->object.lock);
    bits = take(notification);
    if (notification->object.dying) {
        result = E_DEAD;
    } else if (!bits && timeout == 0) {
        result = E_AGAIN;
    } else if (!bits) {
        self->state = THREAD_WAITING;
        self->waits_on = &notification->object;
        wait_queue_insert(&notification->waiters, self);
        result = BLOCKED;
    }
    lock_release(&notification->object.lock);
    if (result == BLOCKED && timeout != TIMEOUT_NONE) {
        timer_set(core, self, timer_deadline(timeout));
    }
    self->frame.rdx = bits;
    return result;
}

int64_t sys_poll(struct core *core, struct thread *self)
{
    return wait(core, self, 0);
}

int64_t sys_wait(struct core *core, struct thread *self)
{
    return wait(core, self, ARG1(self));
}
