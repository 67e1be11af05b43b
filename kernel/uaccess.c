/* SPDX-License-Identifier: MIT */
#include "kernel/uaccess.h"

#include "kernel/arch/cpu.h"
#include "kernel/arch/entry.h"
#include "kernel/fault.h"
#include "kernel/syscall.h"

/* Ends a system call that has not yet done anything. */
static _Noreturn void refuse(struct core *core, int64_t error)
{
    entry_current(core)->frame.rax = (uint64_t)error;
    kernel_leave(core);
}

static void check_range(struct core *core, uint64_t user, uint64_t bytes)
{
    if (user < USER_BASE || bytes > USER_END - USER_BASE || user > USER_END - bytes) {
        refuse(core, E_FAULT);
    }
}

/* SMAP is open for this one instruction; a fault in it never comes back here. */
static void copy(struct core *core, void *to, const void *from, uint64_t bytes)
{
    core_set_state(core, CORE_ST_PARMCHK);
    __asm__ volatile("stac\n\t"
                     "rep movsb\n\t"
                     "clac"
                     : "+D"(to), "+S"(from), "+c"(bytes)
                     :
                     : "memory");
    core_set_state(core, CORE_ST_SYSCALL);
}

void copy_from_user(struct core *core, void *to, uint64_t user_from, uint64_t bytes)
{
    check_range(core, user_from, bytes);
    copy(core, to, (const void *)user_from, bytes);
}

void copy_to_user(struct core *core, uint64_t user_to, const void *from, uint64_t bytes)
{
    check_range(core, user_to, bytes);
    copy(core, (void *)user_to, from, bytes);
}

/* Outermost level, empty stack, IF=1. */
static void fault_abandoned(struct core *core, uint64_t address, uint64_t error)
{
    struct thread *self = entry_current(core);

    if (!fault_to_pager(core, self, self->space, address, error, syscall_restart)) {
        self->frame.rax = (uint64_t)E_FAULT;
    }
}

_Noreturn void uaccess_fault(struct core *core, uint64_t address, uint32_t error)
{
    kernel_abandon(core, fault_abandoned, address, error);
}
