/* SPDX-License-Identifier: MIT */
/* I/O ports as capabilities: the kernel executes the instruction, no thread has an I/O bitmap. */
#include "kernel/arch/cpu.h"
#include "kernel/debug/panic.h"
#include "kernel/lib/cache_line.h"
#include "kernel/obj/range.h"
#include "kernel/syscall.h"

struct object ioports_object SHARED = {.type = OBJ_IOPORTS, .references = 1};

/* All of the access has to lie within the capability's range. */
static int64_t check(const struct thread *self)
{
    const struct cap *cap = cap_find(self->space, ARG0(self), RIGHT_IOPORTS_ACCESS);
    uint64_t width = ARG2(self);

    if (!cap) {
        return cap_error(self->space, ARG0(self), OBJ_IOPORTS);
    }
    if ((width != 1 && width != 2 && width != 4) ||
        !range_holds(cap_range(cap), ARG1(self), width)) {
        return E_INVAL;
    }
    return E_OK;
}

int64_t sys_ioports_read(struct core *core, struct thread *self)
{
    int64_t error = check(self);
    uint16_t port = (uint16_t)ARG1(self);

    (void)core;
    if (error) {
        return error;
    }
    switch (ARG2(self)) {
    case 1:
        self->frame.rdx = inb(port);
        break;
    case 2:
        self->frame.rdx = inw(port);
        break;
    default:
        self->frame.rdx = inl(port);
    }
    return E_OK;
}

int64_t sys_ioports_write(struct core *core, struct thread *self)
{
    int64_t error = check(self);
    uint16_t port = (uint16_t)ARG1(self);
    uint64_t value = ARG3(self);

    (void)core;
    if (error) {
        return error;
    }
    switch (ARG2(self)) {
    case 1:
        outb(port, (uint8_t)value);
        break;
    case 2:
        outw(port, (uint16_t)value);
        break;
    default:
        outl(port, (uint32_t)value);
    }
    return E_OK;
}

/* Whoever may write to every port could stop the machine anyway, but without a report. */
int64_t sys_panic(struct core *core, struct thread *self)
{
    const struct cap *cap = cap_find(self->space, ARG0(self), RIGHT_IOPORTS_ACCESS);

    (void)core;
    if (!cap) {
        return cap_error(self->space, ARG0(self), OBJ_IOPORTS);
    }
    if (!range_holds(cap_range(cap), 0, IOPORT_COUNT)) {
        return E_RIGHTS;
    }
    panic("user mode asked for it");
}
