/* SPDX-License-Identifier: MIT */
#include "kernel/obj/reply.h"

#include "kernel/ipc.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/quota.h"
#include "kernel/syscall.h"

void reply_forget(struct thread *caller)
{
    struct reply *reply = (struct reply *)caller->waits_on;

    lock_acquire(&reply->object.lock);
    if (caller->server) {
        wait_queue_remove(&caller->server->saved_callers, caller);
    }
    reply->caller = NULL;
    lock_release(&reply->object.lock);
    caller->waits_on = NULL;
    caller->server = NULL;
}

int reply_take(struct core *core, struct thread *self, cap_t handle, struct thread **caller)
{
    struct cap *cap = cap_find(self->space, handle, RIGHT_REPLY_SEND);

    if (!cap) {
        return cap_error(self->space, handle, OBJ_REPLY);
    }
    *caller = ((struct reply *)cap->object)->caller;
    if (*caller) {
        struct thread *server = (*caller)->server;

        reply_forget(*caller);
        thread_inherit(core, server);
    }
    cap_remove(core, self, cap, handle);
    reap_some(core, self); /* nobody waits for it any more: one step */
    return *caller ? E_OK : E_NOREPLY;
}

bool reply_destroy(struct core *core, struct thread *self, struct object *object)
{
    struct thread *caller = ((struct reply *)object)->caller;

    (void)self;
    if (caller) {
        struct thread *server = caller->server;

        reply_forget(caller);
        thread_inherit(core, server);
        thread_wait_failed(core, caller, E_DEAD);
    }
    return true;
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
    if (!caller) {
        return E_NOREPLY;
    }
    reply = kmem_alloc(quota, sizeof(*reply));
    if (!reply) {
        return E_NOMEM;
    }
    object_init(&reply->object, OBJ_REPLY, quota);
    int64_t error = cap_publish(self, &reply->object);

    if (!error) {
        reply->caller = caller;
        caller->waits_on = &reply->object;
        wait_queue_insert(&self->saved_callers, caller);
        self->caller = NULL;
    }
    return error;
}
