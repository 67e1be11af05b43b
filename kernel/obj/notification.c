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

/* A thread that waits by the fast way has left what it had in these registers behind. */
int64_t notification_message(struct thread *receiver, uint64_t bits)
{
    struct frame *words = &receiver->frame;

    words->rbx = bits;
    words->rbp = words->r12 = words->r13 = words->r14 = words->r15 = 0;
    words->rdx = 0;
    return INFO_NOTIFIED;
}

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
        thread_claim(core, thread);
    }
    lock_release(&object->lock);
    if (waits) {
        thread_wake(core, thread, notification_message(thread, bits));
    }
    return waits;
}

/* The bound thread, if it stands in an endpoint's queue of receivers; that may end any moment. */
static struct thread *receiver_of(const struct notification *notification)
{
    struct thread *bound = notification->bound;

    return bound && bound->state == THREAD_RECEIVING &&
                   __atomic_load_n(&bound->waits_on, __ATOMIC_ACQUIRE)
               ? bound
               : NULL;
}

/*
 * Bits that the receiver could not take after all are offered again: either it has left the queue by
 * now, and its next receive looks at them, or it is back already, and has looked too early.
 */
void notification_signal(struct core *core, struct notification *notification, uint64_t bits)
{
    struct thread *waiter, *receiver;

    do {
        waiter = receiver = NULL;
        lock_acquire(&notification->object.lock);
        bits |= notification->bits;
        if (bits && !wait_queue_empty(&notification->waiters)) {
            waiter = wait_queue_pop(&notification->waiters);
            thread_claim(core, waiter);
        } else if (bits) {
            receiver = receiver_of(notification);
        }
        notification->bits = waiter || receiver ? 0 : bits;
        lock_release(&notification->object.lock);
        if (waiter) {
            waiter->frame.rdx = bits;
            thread_wake(core, waiter, E_OK);
        }
    } while (receiver && !give_to_receiver(core, receiver, bits));
}

/* Under the lock. */
static uint64_t take(struct notification *notification)
{
    uint64_t bits = notification->bits;

    notification->bits = 0;
    return bits;
}

uint64_t notification_take_bound(struct thread *self)
{
    struct notification *bound = self->bound;
    uint64_t bits;

    if (!bound || !bound->bits) {
        return 0;
    }
    lock_acquire(&bound->object.lock);
    bits = take(bound);
    lock_release(&bound->object.lock);
    return bits;
}

/* Whoever signals after this one had the lock finds self in its queue; before, its bits are here. */
void notification_offer_bound(struct core *core, struct thread *self)
{
    struct notification *bound = self->bound;

    if (bound) {
        notification_signal(core, bound, 0);
    }
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

/* Both may end at the same time, on two cores. */
static void unbind(struct notification *notification, struct thread *thread)
{
    lock_acquire(&notification->object.lock);
    bool bound = notification->bound == thread && thread->bound == notification;

    if (bound) {
        notification->bound = NULL;
        thread->bound = NULL;
    }
    lock_release(&notification->object.lock);
    if (bound) {
        object_unref(&notification->object);
    }
}

void notification_unbind(struct thread *thread)
{
    struct notification *bound = __atomic_load_n(&thread->bound, __ATOMIC_ACQUIRE);

    if (bound) {
        unbind(bound, thread);
    }
}

static struct thread *first_waiter(struct core *core, struct notification *notification)
{
    struct thread *waiter = NULL;

    lock_acquire(&notification->object.lock);
    if (!wait_queue_empty(&notification->waiters)) {
        waiter = wait_queue_pop(&notification->waiters);
        thread_claim(core, waiter);
    }
    lock_release(&notification->object.lock);
    return waiter;
}

bool notification_destroy(struct core *core, struct thread *self, struct object *object)
{
    struct notification *notification = (struct notification *)object;

    (void)self;
    struct thread *thread = __atomic_load_n(&notification->bound, __ATOMIC_ACQUIRE);

    if (thread) {
        unbind(notification, thread);
    }
    do {
        thread = first_waiter(core, notification);
        if (thread) {
            thread_wait_failed(core, thread, E_DEAD);
        }
    } while (thread && !preemption_wanted(core));
    return thread == NULL;
}

int64_t sys_notification_create(struct core *core, struct thread *self)
{
    struct quota *quota = cap_object(self->space, ARG0(self), RIGHT_QUOTA_USE);
    struct notification *notification;

    (void)core;
    if (!quota) {
        return cap_error(self->space, ARG0(self), OBJ_QUOTA);
    }
    notification = object_alloc(quota, sizeof(*notification));
    if (!notification) {
        return E_NOMEM;
    }
    wait_queue_init(&notification->waiters);
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
    self->frame.rdx = bits; /* not later: a signal writes it once the lock is free */
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
