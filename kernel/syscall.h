/* SPDX-License-Identifier: MIT */
/*
 * How system calls are written. A slow one is `int64_t sys_NAME(struct core *core, struct thread *self)`;
 * it finds its arguments in the frame by the macros below, may set frame.rdx, and returns what
 * goes to rax, or BLOCKED when it has put the thread into a wait (state, queue, timer) or given it a
 * continuation. It runs with IF=1, and whatever it locks it has released when it returns.
 */
#ifndef ONESTACK_SYSCALL_H
#define ONESTACK_SYSCALL_H

#include "kernel/abi/error.h"
#include "kernel/abi/syscall.h"
#include "kernel/arch/core.h"

#define BLOCKED INT64_MIN

#define ARG0(self) ((self)->frame.rsi)
#define ARG1(self) ((self)->frame.rdx)
#define ARG2(self) ((self)->frame.r8)
#define ARG3(self) ((self)->frame.r9)
#define ARG4(self) ((self)->frame.r10)

/*
 * Go on with `next` on an empty stack after pending events were worked on: a preemption point, or
 * a wait if the thread's state says so. The continuation sets frame.rax itself.
 */
static inline int64_t continue_with(struct thread *self, continuation_fn *next)
{
    self->continuation = next;
    return BLOCKED;
}

/* The continuation that makes the system call again: its number and arguments are still in the frame. */
void syscall_restart(struct core *core, struct thread *self);

/* Is there anything that should not wait for a long operation? */
static inline bool preemption_wanted(const struct core *core)
{
    return __atomic_load_n(&core->pending, __ATOMIC_RELAXED) != 0;
}

/*
 * User memory (uaccess.c). A page that is absent goes to its pager, and the system call is made
 * again from its start; one that nobody backs ends the call with E_FAULT. In both cases these functions DO NOT RETURN:
 * the stack is given up (E6), so the caller holds no lock and nothing half-made.
 */
void copy_from_user(struct core *core, void *to, uint64_t user_from, uint64_t bytes);
void copy_to_user(struct core *core, uint64_t user_to, const void *from, uint64_t bytes);

#define SYSCALL(number, name, kind, args, text) \
    int64_t sys_##name(struct core *core, struct thread *self);
#include "kernel/abi/syscalls.def"
#undef SYSCALL

#endif
