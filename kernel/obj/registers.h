/* SPDX-License-Identifier: MIT */
/* A thread's registers as others see and set them (struct thread_registers, kernel/abi/syscall.h). */
#ifndef ONESTACK_OBJ_REGISTERS_H
#define ONESTACK_OBJ_REGISTERS_H

#include "kernel/abi/syscall.h"
#include "kernel/arch/layout.h"
#include "kernel/obj/thread.h"

/* `thread` is self or does not run. */
void registers_get(const struct thread *self, const struct thread *thread,
                   struct thread_registers *registers);
/*
 * The same; E_INVAL, and nothing has changed, if RIP or a base is not canonical or RIP not the user's.
 * What RFLAGS says beyond the user's own bits is ignored. Selectors are never anyone's to set.
 */
int registers_set(const struct thread *self, struct thread *thread,
                  const struct thread_registers *registers);

/* May a thread be sent there? The upper bound is E9's. */
static inline bool rip_valid(uint64_t rip)
{
    return rip >= USER_BASE && rip < USER_END;
}

#endif
