/* SPDX-License-Identifier: MIT */
/* Learning of a space's end; a thread of one's own can tell by other means. */
#include "kernel/obj/cap.h"
#include "kernel/obj/notification.h"
#include "kernel/syscall.h"

/*
 * Exchange it; the new one comes with a reference, the old one's is given back. False: the space is
 * ending, whose end nobody would signal any more.
 */
static bool set(struct space *space, struct notification *notification, uint64_t bits)
{
    struct notification *old = notification;

    lock_acquire(&space->object.lock);
    bool alive = !space->object.dying;

    if (alive) {
        old = space->watcher;
        space->watcher = notification;
        space->watch_bits = bits;
    }
    lock_release(&space->object.lock);
    if (old) {
        object_unref(&old->object);
    }
    return alive;
}

void space_watch_end(struct core *core, struct space *space)
{
    /* It is dying, so nobody sets another one; who has just done so has released the lock. */
    lock_acquire(&space->object.lock);
    struct notification *watcher = space->watcher;

    space->watcher = NULL;
    lock_release(&space->object.lock);
    if (watcher) {
        notification_signal(core, watcher, space->watch_bits);
        object_unref(&watcher->object);
    }
}

int64_t sys_space_watch(struct core *core, struct thread *self)
{
    struct space *space = cap_object(self->space, ARG0(self), RIGHT_SPACE_CONTROL);
    struct cap *signal;

    (void)core;
    if (!space) {
        return cap_error(self->space, ARG0(self), OBJ_SPACE);
    }
    if (ARG1(self) == 0) {
        return set(space, NULL, 0) ? E_OK : E_DEAD;
    }
    signal = cap_find(self->space, ARG1(self), RIGHT_NOTIFY_SIGNAL);
    if (!signal) {
        return cap_error(self->space, ARG1(self), OBJ_NOTIFICATION);
    }
    if (space->object.dying || !object_try_ref(signal->object)) {
        return E_DEAD;
    }
    return set(space, (struct notification *)signal->object,
               ARG2(self) ? ARG2(self) : signal->badge)
               ? E_OK
               : E_DEAD;
}
