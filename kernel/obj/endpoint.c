/* SPDX-License-Identifier: MIT */
/* The system calls of message passing, and leaving a wait. kernel/ipc.c moves the messages. */
#include "kernel/obj/endpoint.h"

#include "kernel/abi/message.h"
#include "kernel/arch/entry.h"
#include "kernel/arch/user_words.h"
#include "kernel/fault.h"
#include "kernel/inherit.h"
#include "kernel/ipc.h"
#include "kernel/mail.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/notification.h"
#include "kernel/obj/reply.h"
#include "kernel/sched.h"
#include "kernel/syscall.h"
#include "kernel/timer.h"

/* Is the descriptor a sender's to give? */
static bool info_valid(uint64_t info)
{
    return !(info & ~(INFO_USER_MASK | INFO_EXTRA)) &&
           (info & INFO_BYTES_MASK) <= MESSAGE_BYTES_MAX &&
           (info & INFO_CAPS_MASK) >> INFO_CAPS_SHIFT <= MESSAGE_CAPS_MAX &&
           (!(info & INFO_LONG_MASK) || info & INFO_EXTRA);
}

/* Nothing is where no user memory can be; and the fast ways need not ask of who waits (fastbytes.c). */
static void check_message(struct thread *self)
{
    if (!user_address(ARG2(self))) {
        ARG2(self) = 0;
    }
}

/* Into a queue of the endpoint, if one may wait at all. */
static int64_t enqueue(struct core *core, struct thread *self, struct endpoint *endpoint,
                       struct wait_queue *queue, enum thread_state state)
{
    uint64_t timeout = ipc_timeout(self);

    if (timeout == 0) {
        self->flags &= (uint16_t)~THREAD_FLAG_CALL;
        return E_AGAIN;
    }
    self->state = (uint8_t)state;
    self->server = NULL; /* a former one, of the fast way, may have ended */
    self->waits_on = &endpoint->object;
    wait_queue_insert(queue, self);
    if (timeout != TIMEOUT_NONE) {
        timer_set(core, self, timer_deadline(timeout));
    }
    return BLOCKED;
}

/*
 * The first to wait in a queue, taken out of it; the caller has the endpoint's lock. Its timeout goes on
 * until its call has ended: there may be a long copy before it.
 */
static struct thread *dequeue(struct core *core, struct wait_queue *queue)
{
    struct thread *thread = queue->head;

    if (thread == &no_thread) {
        return NULL;
    }
    wait_queue_pop(queue);
    thread_claim(core, thread);
    return thread;
}

static int64_t send(struct core *core, struct thread *self, uint32_t right, uint8_t flags)
{
    struct cap *cap = cap_find(self->space, ARG0(self), right);
    struct endpoint *endpoint;
    struct thread *receiver;
    int64_t result = BLOCKED;

    if (!cap) {
        return cap_error(self->space, ARG0(self), OBJ_ENDPOINT);
    }
    if (!info_valid(ARG1(self))) {
        return E_INVAL;
    }
    check_message(self);
    endpoint = (struct endpoint *)cap->object;
    self->info = ARG1(self);
    self->badge = cap->badge;
    self->flags |= flags;
    lock_acquire(&endpoint->object.lock);
    receiver = endpoint->object.dying ? NULL : dequeue(core, &endpoint->receivers);
    if (endpoint->object.dying) {
        self->flags &= (uint16_t)~THREAD_FLAG_CALL;
        result = E_DEAD;
    } else if (!receiver) {
        result = enqueue(core, self, endpoint, &endpoint->senders, THREAD_SENDING);
    }
    lock_release(&endpoint->object.lock);
    return receiver ? ipc_transfer(core, self, self, receiver) : result;
}

int64_t sys_send(struct core *core, struct thread *self)
{
    return send(core, self, RIGHT_ENDPOINT_SEND, 0);
}

int64_t sys_call(struct core *core, struct thread *self)
{
    return send(core, self, RIGHT_ENDPOINT_CALL, THREAD_FLAG_CALL);
}

/* Others may have taken away what the flags say: then the fast way is free again. */
static void look_at_flags(struct thread *self)
{
    if (!__atomic_load_n(&self->bound, __ATOMIC_RELAXED)) {
        self->flags &= (uint16_t)~THREAD_FLAG_BOUND;
    }
    if (__atomic_load_n(&self->saved_callers.head, __ATOMIC_RELAXED) == &no_thread) {
        self->flags &= (uint16_t)~THREAD_FLAG_SAVES;
    }
}

int64_t endpoint_receive(struct core *core, struct thread *self)
{
    struct cap *cap = cap_find(self->space, ARG0(self), RIGHT_ENDPOINT_RECEIVE);
    struct endpoint *endpoint;
    struct thread *sender;
    uint64_t bits;
    int64_t result = BLOCKED;

    if (!cap) {
        return cap_error(self->space, ARG0(self), OBJ_ENDPOINT);
    }
    look_at_flags(self);
    bits = notification_take_bound(self);
    if (bits) {
        return notification_message(self, bits);
    }
    endpoint = (struct endpoint *)cap->object;
    lock_acquire(&endpoint->object.lock);
    sender = endpoint->object.dying ? NULL : dequeue(core, &endpoint->senders);
    if (endpoint->object.dying) {
        result = E_DEAD;
    } else if (!sender) {
        result = enqueue(core, self, endpoint, &endpoint->receivers, THREAD_RECEIVING);
    }
    lock_release(&endpoint->object.lock);
    if (result == BLOCKED && !sender) {
        notification_offer_bound(core, self); /* bits that came before it stood in the queue */
    }
    if (sender && sender->state == THREAD_FAULTING) {
        return fault_deliver(core, sender, self);
    }
    return sender ? ipc_transfer(core, self, sender, self) : result;
}

struct thread *endpoint_take_caller(struct core *core, struct thread *server)
{
    lock_acquire(&server->object.lock);
    struct thread *caller = server->caller;

    if (caller != &no_thread) {
        thread_claim(core, caller);
        server->caller = &no_thread;
        caller->server = NULL;
    }
    lock_release(&server->object.lock);
    return caller == &no_thread ? NULL : caller;
}

/* Its reply does not come: self goes on without having given or saved it. */
static void drop_caller(struct core *core, struct thread *self)
{
    struct thread *caller = endpoint_take_caller(core, self);

    if (caller) {
        thread_wait_failed(core, caller, E_NOREPLY);
        thread_inherit(core, self);
    }
}

int64_t sys_receive(struct core *core, struct thread *self)
{
    drop_caller(core, self);
    ARG1(self) &= INFO_EXTRA;
    check_message(self);
    return endpoint_receive(core, self);
}

/* Answer `caller`, who waits for this thread and for no other any more. */
static int64_t reply_to(struct core *core, struct thread *self, struct thread *caller)
{
    self->info = ARG1(self);
    self->badge = 0;
    thread_inherit(core, self);
    if (caller->state == THREAD_FAULTED) {
        fault_verdict(core, caller, self->info);
        return E_OK;
    }
    return ipc_transfer(core, self, self, caller);
}

int64_t sys_reply(struct core *core, struct thread *self)
{
    struct thread *caller;

    if (!info_valid(ARG1(self))) {
        return E_INVAL;
    }
    if (ARG0(self) != 0) {
        int64_t error = reply_take(core, self, ARG0(self), &caller);

        if (error != E_OK) {
            return error;
        }
    } else {
        caller = endpoint_take_caller(core, self);
    }
    return caller ? reply_to(core, self, caller) : E_NOREPLY;
}

int64_t sys_reply_receive(struct core *core, struct thread *self)
{
    struct thread *caller;

    if (!info_valid(ARG1(self))) {
        return E_INVAL;
    }
    if (!cap_find(self->space, ARG0(self), RIGHT_ENDPOINT_RECEIVE)) {
        return cap_error(self->space, ARG0(self), OBJ_ENDPOINT);
    }
    check_message(self);
    caller = endpoint_take_caller(core, self);
    if (!caller) {
        return E_NOREPLY;
    }
    self->flags |= THREAD_FLAG_REPLIES;
    return ipc_second_half(core, self, reply_to(core, self, caller));
}

/* ---- leaving ---- */

static bool waits_for_answer(const struct thread *thread)
{
    return thread->state == THREAD_REPLY || thread->state == THREAD_FAULTED;
}

/* The queue of an endpoint or a notification that a thread stands in, if its state says so. */
static struct wait_queue *queue_in(const struct thread *thread, struct object *object)
{
    struct endpoint *endpoint = (struct endpoint *)object;

    switch (thread->state) {
    case THREAD_SENDING:
    case THREAD_FAULTING:
        return &endpoint->senders;
    case THREAD_RECEIVING:
        return &endpoint->receivers;
    case THREAD_WAITING:
        return &((struct notification *)object)->waiters;
    default:
        return NULL;
    }
}

/* False, here and below: somebody else has just taken the thread out. */
static bool leave_queue(struct thread *thread, struct object *object)
{
    lock_acquire(&object->lock);
    bool waits = thread->waits_on == object;

    if (waits) {
        wait_queue_remove(queue_in(thread, object), thread);
        thread->waits_on = NULL;
    }
    lock_release(&object->lock);
    return waits;
}

/* Not a saved caller: the last one that its server has. */
static bool leave_server(struct core *core, struct thread *thread, struct thread *server)
{
    lock_acquire(&server->object.lock);
    bool waits = server->caller == thread;

    if (waits) {
        server->caller = &no_thread;
        thread->server = NULL;
    }
    lock_release(&server->object.lock);
    if (waits) {
        thread_inherit(core, server);
    }
    return waits;
}

/* Who is saved while it is looked for (reply_save) goes on waiting, elsewhere. */
static bool leave_answer(struct core *core, struct thread *thread, struct object *reply,
                         struct thread *server)
{
    if (!reply && server) {
        if (leave_server(core, thread, server)) {
            return true;
        }
        reply = __atomic_load_n(&thread->waits_on, __ATOMIC_ACQUIRE);
    }
    return reply && reply_leave(core, thread, reply);
}

bool thread_leave_place(struct core *core, struct thread *thread)
{
    struct object *object = __atomic_load_n(&thread->waits_on, __ATOMIC_ACQUIRE);
    struct thread *server = __atomic_load_n(&thread->server, __ATOMIC_ACQUIRE);

    if (thread_claimed(thread)) {
        return false;
    }
    /* It may be claimed from here on; then it is found to have left what it is looked for in. */
    switch (thread->state) {
    case THREAD_REPLY:
    case THREAD_FAULTED:
        return leave_answer(core, thread, object, server);
    case THREAD_SENDING:
    case THREAD_FAULTING:
    case THREAD_RECEIVING:
    case THREAD_WAITING:
        return object && leave_queue(thread, object);
    case THREAD_COPYING:
        return ipc_copies_here(core, thread);
    default:
        return true;
    }
}

bool thread_leave_wait(struct core *core, struct thread *thread)
{
    if (!thread_leave_place(core, thread)) {
        return false;
    }
    timer_cancel(core, thread);
    fault_forget(thread);
    ipc_abandon(core, thread, E_CANCELED);
    thread->flags &= (uint16_t) ~(THREAD_FLAG_CALL | THREAD_FLAG_REPLIES);
    return true;
}

static void set_in_queue(struct wait_queue *queue, struct thread *thread, uint8_t priority)
{
    if (queue) {
        wait_queue_remove(queue, thread);
    }
    thread->priority = priority;
    if (queue) {
        wait_queue_insert(queue, thread);
    }
}

/*
 * False, here and below: it does not wait there any more. It may have been answered, and its server be the
 * driver of its copy now: that writes the state first (ipc.c, begin).
 */
static bool set_under_server(struct thread *thread, struct thread *server, uint8_t priority)
{
    lock_acquire(&server->object.lock);
    bool waits = __atomic_load_n(&thread->server, __ATOMIC_ACQUIRE) == server &&
                 waits_for_answer(thread);

    if (waits) {
        set_in_queue(server->caller == thread ? NULL : &server->saved_callers, thread, priority);
    }
    lock_release(&server->object.lock);
    return waits;
}

static bool set_under_object(struct thread *thread, struct object *object, uint8_t priority)
{
    lock_acquire(&object->lock);
    bool waits = thread->waits_on == object;

    if (waits) {
        set_in_queue(queue_in(thread, object), thread, priority);
    }
    lock_release(&object->lock);
    return waits;
}

/*
 * A queue is ordered by priority, and another core may just be taking the thread out of one or putting
 * it into the next one; one that it has claimed is left to it, and looked at again after that.
 */
void thread_set_effective(struct core *core, struct thread *thread, uint8_t priority)
{
    uint8_t state;

    do {
        state = __atomic_load_n(&thread->state, __ATOMIC_ACQUIRE);
        struct object *object = __atomic_load_n(&thread->waits_on, __ATOMIC_ACQUIRE);
        struct thread *server = __atomic_load_n(&thread->server, __ATOMIC_ACQUIRE);

        if (waits_for_answer(thread) ? server && set_under_server(thread, server, priority)
                                     : object && set_under_object(thread, object, priority)) {
            return;
        }
        if (thread_claim_wish(thread, CLAIM_PRIORITY)) {
            return;
        }
    } while (__atomic_load_n(&thread->state, __ATOMIC_ACQUIRE) != state);
    sched_set_priority(core, thread, priority);
}

bool endpoint_destroy(struct core *core, struct thread *self, struct object *object)
{
    struct endpoint *endpoint = (struct endpoint *)object;
    struct thread *thread;

    (void)self;
    do {
        lock_acquire(&object->lock);
        thread = dequeue(core, &endpoint->senders);
        if (!thread) {
            thread = dequeue(core, &endpoint->receivers);
        }
        if (!thread) {
            /* Unequal from now on: nobody comes to wait here by a fast way (rendezvous.h). */
            endpoint->senders.head = NULL;
        }
        lock_release(&object->lock);
        if (thread) {
            thread_wait_failed(core, thread, E_DEAD);
        }
    } while (thread && !preemption_wanted(core));
    return thread == NULL;
}

int64_t sys_endpoint_create(struct core *core, struct thread *self)
{
    struct cap *cap = cap_find(self->space, ARG0(self), RIGHT_QUOTA_USE);
    struct quota *quota;
    struct endpoint *endpoint;

    (void)core;
    if (!cap) {
        return cap_error(self->space, ARG0(self), OBJ_QUOTA);
    }
    quota = (struct quota *)cap->object;
    endpoint = object_alloc(quota, sizeof(*endpoint));
    if (!endpoint) {
        return E_NOMEM;
    }
    wait_queue_init(&endpoint->senders);
    wait_queue_init(&endpoint->receivers);
    object_init(&endpoint->object, OBJ_ENDPOINT, quota);
    return cap_publish(self, &endpoint->object);
}
