/* SPDX-License-Identifier: MIT */
/* Learning of a space's end; a thread of one's own can tell by other means. */
#include "kernel/obj/cap.h"
#include "kernel/obj/notification.h"
#include "kernel/syscall.h"

/* Exchange it; the new one comes with a reference, the old one's is given back. */
static void set(struct space *space, struct notification *notification, uint64_t bits)
{
    lock_acquire(&space->object.lock);
    struct notification *old = space->watcher;

    space->watcher = notification;
    space->watch_bits = bits;
    lock_release(&space->object.lock);
    if (old) {
        object_unref(&old->object);
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
    if (space->object.dying) {
        return E_DEAD;
    }
    if (ARG1(self) == 0) {
        set(space, NULL, 0);
        return E_OK;
    }
    signal = cap_find(self->space, ARG1(self), RIGHT_NOTIFY_SIGNAL);
    if (!signal) {
        return cap_error(self->space, ARG1(self), OBJ_NOTIFICATION);
    }
    object_ref(signal->object);
    set(space, (struct notification *)signal->object, ARG2(self) ? ARG2(self) : signal->badge);
    return E_OK;
}
