/* SPDX-License-Identifier: MIT */
#include "kernel/obj/reply.h"

#include "kernel/inherit.h"
#include "kernel/mail.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/quota.h"
#include "kernel/syscall.h"

/* Its server, if that still lives, need not reckon with it any more. */
static void leave_saver(struct core *core, struct thread *caller)
{
    struct thread *server = __atomic_load_n(&caller->server, __ATOMIC_ACQUIRE);

    if (!server) {
        return;
    }
    lock_acquire(&server->object.lock);
    bool saved = caller->server == server;

    if (saved) {
        wait_queue_remove(&server->saved_callers, caller);
        caller->server = NULL;
    }
    lock_release(&server->object.lock);
    if (saved) {
        thread_inherit(core, server);
    }
}

bool reply_leave(struct core *core, struct thread *caller, struct object *object)
{
    struct reply *reply = (struct reply *)object;

    lock_acquire(&object->lock);
    bool waits = caller->waits_on == object;

    if (waits) {
        reply->caller = NULL;
        caller->waits_on = NULL;
    }
    lock_release(&object->lock);
    if (waits) {
        leave_saver(core, caller);
    }
    return waits;
}

/* Who waits for this reply, taken out of its wait; NULL if nobody does any more. */
static struct thread *take(struct core *core, struct reply *reply)
{
    lock_acquire(&reply->object.lock);
    struct thread *caller = reply->caller;

    reply->caller = NULL;
    if (caller) {
        thread_claim(core, caller);
    }
    lock_release(&reply->object.lock);
    if (caller) {
        leave_saver(core, caller);
    }
    return caller;
}

int reply_take(struct core *core, struct thread *self, cap_t handle, struct thread **caller)
{
    struct cap *cap = cap_find(self->space, handle, RIGHT_REPLY_SEND);

    if (!cap) {
        return cap_error(self->space, handle, OBJ_REPLY);
    }
    *caller = take(core, (struct reply *)cap->object);
    cap_remove(core, self, cap, handle);
    reap_some(core, self); /* nobody waits for it any more: one step */
    return *caller ? E_OK : E_NOREPLY;
}

bool reply_destroy(struct core *core, struct thread *self, struct object *object)
{
    struct thread *caller = take(core, (struct reply *)object);

    (void)self;
    if (caller) {
        thread_wait_failed(core, caller, E_DEAD);
    }
    return true;
}

/*
 * The capability is there already: others of this space may have used it, or deleted it, but as long
 * as the reply is not dying, whatever ends it will find the caller.
 */
static void save(struct thread *self, struct reply *reply)
{
    lock_acquire(&self->object.lock);
    struct thread *caller = self->caller; /* it may have given up meanwhile */

    lock_acquire(&reply->object.lock);
    if (caller != &no_thread && !reply->object.dying) {
        reply->caller = caller;
        caller->waits_on = &reply->object;
        wait_queue_insert(&self->saved_callers, caller);
        self->flags |= THREAD_FLAG_SAVES;
        self->caller = &no_thread;
    }
    lock_release(&reply->object.lock);
    lock_release(&self->object.lock);
}

int64_t sys_reply_save(struct core *core, struct thread *self)
{
    struct quota *quota = cap_object(self->space, ARG0(self), RIGHT_QUOTA_USE);
    struct thread *caller = self->caller;
    struct reply *reply;

    (void)core;
    if (!quota) {
        return cap_error(self->space, ARG0(self), OBJ_QUOTA);
    }
    if (caller == &no_thread) {
        return E_NOREPLY;
    }
    reply = object_alloc(quota, sizeof(*reply));
    if (!reply) {
        return E_NOMEM;
    }
    object_init(&reply->object, OBJ_REPLY, quota);
    int64_t error = cap_publish(self, &reply->object);

    if (!error) {
        save(self, reply);
    }
    return error;
}
