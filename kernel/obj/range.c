/* SPDX-License-Identifier: MIT */
#include "kernel/obj/range.h"

#include "kernel/obj/memory.h"
#include "kernel/syscall.h"

#define RIGHTS_OF_RANGES                                                              \
    (RIGHT_IRQ_BIND | RIGHT_IOPORTS_ACCESS | RIGHT_MEMORY_READ | RIGHT_MEMORY_WRITE | \
     RIGHT_MEMORY_EXECUTE)

/* Lines and ports: another badge is all it takes. */
static int64_t slice(struct thread *self, struct cap *cap, cap_t handle, uint64_t first,
                     uint64_t count)
{
    cap_t part;

    if (count == 0 || !range_holds(cap_range(cap), first, count)) {
        return E_INVAL;
    }
    int error = cap_insert(self->space, cap->object, cap->rights, count << 32 | first, cap, handle,
                           &part);

    if (!error) {
        self->frame.rdx = part;
    }
    return error;
}

int64_t sys_range_slice(struct core *core, struct thread *self)
{
    cap_t handle = ARG0(self);
    struct cap *cap = cap_find(self->space, handle, RIGHTS_OF_RANGES);

    (void)core;
    if (!cap) {
        return E_BADCAP;
    }
    if (cap->object->type == OBJ_MEMORY) {
        return memory_slice(self, cap, ARG1(self), ARG2(self));
    }
    return slice(self, cap, handle, ARG1(self), ARG2(self));
}
