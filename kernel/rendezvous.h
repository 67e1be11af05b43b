/* SPDX-License-Identifier: MIT */
/* How the fast ways bring two threads of this core together at an endpoint. */
#ifndef ONESTACK_RENDEZVOUS_H
#define ONESTACK_RENDEZVOUS_H

#include "kernel/obj/cap.h"
#include "kernel/obj/endpoint.h"
#include "kernel/switch.h"

/* What a receiver may see of a short message's descriptor: the label, never a negative number. */
#define SHORT_INFO(info) ((info) & ~(1ULL << 63))

/* Out of the queue, the endpoint's lock with it. */
static inline void take_first(struct endpoint *endpoint, struct thread *server)
{
    wait_queue_pop(&endpoint->receivers);
    server->waits_on = NULL; /* before another core may look */
    lock_release(&endpoint->object.lock);
}

/* The first who receives there, out of the queue, if it can go on right now; or NULL. */
static inline struct thread *take_receiver(struct core *core, struct endpoint *endpoint)
{
    struct thread *server;

    if (UNLIKELY(!lock_try(&endpoint->object.lock))) {
        return NULL;
    }
    server = endpoint->receivers.head;
    if (UNLIKELY(!server || !ready_here(core, server))) {
        lock_release(&endpoint->object.lock);
        return NULL;
    }
    take_first(endpoint, server);
    return server;
}

/*
 * `server`, out of its endpoint's queue and on this core, is the one that self's call or fault has
 * come to. It inherits: nobody is between them.
 */
static inline void meet(struct thread *self, struct thread *server, enum thread_state state)
{
    server->state = THREAD_READY;
    server->caller = self;
    self->state = (uint8_t)state;
    self->server = server;
    if (UNLIKELY(server->priority < self->priority)) {
        server->priority = self->priority;
    }
}

/*
 * The endpoint that self, whose flags say that there is nothing else to look at first, can go and
 * wait at with nobody there before it; locked. Or NULL.
 */
static inline struct endpoint *empty_endpoint(const struct thread *self, cap_t handle)
{
    struct cap *cap = cap_find(self->space, handle, RIGHT_ENDPOINT_RECEIVE);
    struct endpoint *endpoint;

    if (UNLIKELY(!cap)) {
        return NULL;
    }
    endpoint = (struct endpoint *)cap->object;
    if (UNLIKELY(!lock_try(&endpoint->object.lock))) {
        return NULL;
    }
    if (UNLIKELY(endpoint->senders.head || endpoint->receivers.head)) {
        lock_release(&endpoint->object.lock);
        return NULL;
    }
    return endpoint;
}

/* Has a server anything to do, before it receives, that is not for the fast way? */
static inline bool may_receive(const struct thread *self)
{
    return self->flags == 0;
}

/*
 * self waits there: all that a sender on another core finds, or writes to, before it can find self. Its
 * arguments are in its frame already.
 */
static inline void stand_first(struct endpoint *endpoint, struct thread *self)
{
    self->priority = self->base_priority;
    self->caller = NULL;
    self->state = THREAD_RECEIVING;
    self->waits_on = &endpoint->object;
    endpoint->receivers.head = self; /* which is a ring of itself (wait_queue.h) */
}

#endif
