/* SPDX-License-Identifier: MIT */
/*
 * Entry model `percpu`: RSP0 is the core's kernel stack, always, and no stack pointer ever points
 * into a TCB. Who runs is a word in struct core. percpu.S has the instructions.
 */
#ifndef ONESTACK_ARCH_ENTRY_MODEL_H
#define ONESTACK_ARCH_ENTRY_MODEL_H

#ifdef __ASSEMBLER__

/* The word of struct core that holds the end of the current thread's save area. */
#define CURRENT_SLOT CORE_CURRENT

/* The stack that SYSCALL takes on core n: the core's. rdi = end of the save area. */
.macro SYSCALL_STACK n
        mov     $AREA(\n) + CORE_STACK_TOP(STACK_KERNEL) - STACK_RESERVED, %rsp
.endm

/* At the exit of a system call RSP is there again, and so says where a field of the core is. */
#define EXIT_CORE(field) field + STACK_RESERVED - CORE_STACK_TOP(STACK_KERNEL)(%rsp)
.macro EXIT_FIND_CORE
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

/* Kernel memory that a thread takes in this model below its TCB. */
#define ENTRY_THREAD_EXTRA 0
/* The IST entry of vectors that do not have one in every model; 0 = none. */
#define ENTRY_VECTOR_IST 0

/* RSP0 is core_create()'s and stays. */
static inline void entry_set_current(struct core *core, struct thread *thread)
{
    core->current_end = thread_save_end(thread);
}

/* Interrupts from user mode are worked on with IF=1. */
#define ENTRY_IRQ_OPEN 1

static inline struct thread *entry_current(const struct core *core)
{
    return (struct thread *)((uint64_t)core->current_end - offsetof(struct thread, core));
}

_Static_assert(offsetof(struct thread, core) ==
                   offsetof(struct thread, frame) + sizeof(struct frame),
               "the save area's end is where `core` lies");

#endif
#endif
