/* SPDX-License-Identifier: MIT */
/*
 * Entry model `perthread`: what the others move away from. A thread has a kernel stack, and its
 * TCB sits at the stack's top:
 *
 *   +0                 the stack's end (nothing guards it: this is the direct map)
 *   THREAD_EXTRA       struct thread; RSP0 is the end of its save area, as in model tcb, and the
 *                      stack begins below it, with the core's address in its first word
 *   STACK_SIZE - 8     the core's address again, for whoever has only a stack pointer (E4)
 *
 * System calls, interrupts and exceptions run there; ret_to_user and all that follows it, a
 * thread's end among it, on the core's stack. perthread.S has the instructions.
 */
#ifndef ONESTACK_ARCH_ENTRY_MODEL_H
#define ONESTACK_ARCH_ENTRY_MODEL_H

#ifdef __ASSEMBLER__

/* The word of struct core that holds the end of the current thread's save area. */
#define CURRENT_SLOT CORE_RSP0

/* So an exception in ring 0 may find RSP in the direct map. */
#define THREADS_HAVE_STACKS

/* The stack that SYSCALL takes: the thread's. rdi = end of the save area. */
.macro SYSCALL_STACK n
        lea     -THREAD_SAVE_END - STACK_RESERVED(%rdi), %rsp
.endm

/* At the exit of a system call, on the thread's stack: a field of the core, which is looked for first. */
#define EXIT_CORE(field) field(%rdi)
.macro EXIT_FIND_CORE
        mov     STACK_CORE(%rsp), %rdi
.endm

/* Vectors without an IST entry use the stack that they find: nothing moves. */
.macro VECTOR_STACK_TAKE base, offset=0
.endm
.macro VECTOR_STACK_GIVE base, offset=0
.endm
.macro VECTOR_STACK_RESET core
.endm

#else

#include "kernel/arch/core.h"

/* Kernel memory that a thread takes in this model below its TCB; 64 bytes more stand above it. */
#define ENTRY_THREAD_EXTRA (STACK_SIZE - sizeof(struct thread) - 64)
/* The IST entry of vectors that do not have one in every model; 0 = none. */
#define ENTRY_VECTOR_IST 0

/* Interrupts from user mode are worked on with IF=1. */
#define ENTRY_IRQ_OPEN 1

static inline struct thread *entry_current(const struct core *core)
{
    return (struct thread *)(core->tss.rsp0 - offsetof(struct thread, core));
}

/* The thread may have come from another core. The dummy has no stack, idle uses the core's. */
static inline void entry_set_current(struct core *core, struct thread *thread)
{
    core->tss.rsp0 = (uint64_t)thread_save_end(thread);
    if (thread != &core->dummy) {
        ((struct core **)thread)[-1] = core;
        *(struct core **)(((uint64_t)thread | (STACK_SIZE - 1)) - 7) = core;
    }
}

_Static_assert(offsetof(struct thread, core) ==
                   offsetof(struct thread, frame) + sizeof(struct frame),
               "the save area's end is where `core` lies");
_Static_assert(ENTRY_THREAD_EXTRA % 16 == 0, "RSP0 and the stack below keep 16 bytes");

#endif
#endif
