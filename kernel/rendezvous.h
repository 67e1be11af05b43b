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
    wait_queue_take_head(&endpoint->receivers, server);
    server->waits_on = NULL; /* before another core may look */
    lock_release(&endpoint->object.lock);
}

/* The first who receives there, if it is one of this core: in the queue, the endpoint locked. Or NULL. */
static inline struct thread *lock_receiver(const struct core *core, struct endpoint *endpoint)
{
    struct thread *server;

    if (UNLIKELY(!lock_try(&endpoint->object.lock))) {
        return NULL;
    }
    server = endpoint->receivers.head;
    if (UNLIKELY(server->core != core)) {
        lock_release(&endpoint->object.lock);
        return NULL;
    }
    return server;
}

/* The same out of the queue, if it can go on right now. */
static inline struct thread *take_receiver(struct core *core, struct endpoint *endpoint)
{
    struct thread *server = lock_receiver(core, endpoint);

    if (UNLIKELY(!server)) {
        return NULL;
    }
    if (UNLIKELY(has_flags(server, (uint16_t)~THREAD_FLAGS_WAITS))) {
        lock_release(&endpoint->object.lock);
        return NULL;
    }
    take_first(endpoint, server);
    return server;
}

/*
 * The flags of both sides, looked at together: mostly there are none, and if all that they say is FPU
 * state, that is switched right here, so whoever asks this asks nothing after it. False: one of `hinder`
 * keeps `from` from leaving, or some flag keeps `to` from going on; nothing has changed.
 */
static inline __attribute__((always_inline)) bool flags_allow(struct thread *from, uint16_t hinder,
                                                              const struct thread *to)
{
    uint16_t both = from->flags | to->flags;

    if (LIKELY(both == 0)) {
        return true;
    }
    if (both != THREAD_FLAG_FPU && ((hinder && READ_AGAIN(from->flags) & hinder) ||
                                    has_flags(to, (uint16_t)~THREAD_FLAGS_WAITS))) {
        return false;
    }
    if (both & THREAD_FLAG_FPU) {
        fpu_switch_kept(from, to);
    }
    return true;
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

/* The endpoint that self can go and wait at with nobody there before it; locked. Or NULL. */
static inline struct endpoint *empty_endpoint(const struct thread *self, cap_t handle)
{
    struct cap *cap = cap_find_own(self, handle, RIGHT_ENDPOINT_RECEIVE);
    struct endpoint *endpoint;

    if (UNLIKELY(!cap)) {
        return NULL;
    }
    endpoint = (struct endpoint *)cap->object;
    if (UNLIKELY(!lock_try(&endpoint->object.lock))) {
        return NULL;
    }
    /* There are never threads in both, so they are equal if there are none; of one that has ended, never. */
    if (UNLIKELY(endpoint->senders.head != endpoint->receivers.head)) {
        lock_release(&endpoint->object.lock);
        return NULL;
    }
    return endpoint;
}

/* What a server has to do before it receives, that is not for the fast way. */
#define FLAGS_BEFORE_RECEIVE ((uint16_t)~THREAD_FLAG_FPU)

static inline bool may_receive(const struct thread *self)
{
    return !has_flags(self, FLAGS_BEFORE_RECEIVE);
}

/*
 * self waits there: all that a sender on another core finds, or writes to, before it can find self. Its
 * arguments are in its frame already.
 */
static inline void stand_first(struct endpoint *endpoint, struct thread *self)
{
    self->priority = self->base_priority;
    self->caller = &no_thread;
    self->state = THREAD_RECEIVING;
    self->waits_on = &endpoint->object;
    endpoint->receivers.head = self; /* which is a ring of itself (wait_queue.h) */
}

#endif
