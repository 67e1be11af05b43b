/* SPDX-License-Identifier: MIT */
/*
 * Entry model `ist`: every vector comes in on an IST stack, also from user mode; the entry moves
 * down by a step while a handler runs, so that what comes inside takes the next one. Nobody looks
 * at a CPL. An interrupted thread's frame stays on the first step until another thread is to run.
 * ist.S has the instructions.
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

/*
 * Between the CPU's push and TAKE, and between GIVE and the IRET, the entry points at a frame in
 * use. With IF=0 only NMI, #MC and #DB come there, and they TAKE before anything in them can fault.
 */
.macro VECTOR_STACK_TAKE base, offset=0
        subq    $IST_STEP, CORE_IST(IST_VECTOR) + \offset(\base)
.endm
.macro VECTOR_STACK_GIVE base, offset=0
        addq    $IST_STEP, CORE_IST(IST_VECTOR) + \offset(\base)
.endm
.macro VECTOR_STACK_RESET core
        lea     CORE_STACK_TOP(STACK_VECTOR) - STACK_RESERVED(\core), %rsp
        mov     %rsp, CORE_IST(IST_VECTOR)(\core)
.endm

#else

#include "kernel/arch/core.h"

/* Kernel memory that a thread takes in this model below its TCB. */
#define ENTRY_THREAD_EXTRA 0
/* The IST entry of vectors that do not have one in every model; 0 = none. */
#define ENTRY_VECTOR_IST IST_VECTOR

/* Interrupts from user mode are worked on with IF=0. */
#define ENTRY_IRQ_OPEN 0

static inline struct thread *entry_current(const struct core *core)
{
    return (struct thread *)((uint64_t)core->current_end - offsetof(struct thread, core));
}

/* The one place where a thread stops being current: its frame moves to its TCB, if it is not there. */
static inline void entry_set_current(struct core *core, struct thread *thread)
{
    if (__builtin_expect(core->entry_frame != NULL, 0)) {
        /* Keeps all registers: no path has to save any for it. */
        __asm__ volatile("call ist_frame_to_tcb" : : "D"(core) : "memory");
    }
    core->current_end = thread_save_end(thread);
}

_Static_assert(offsetof(struct thread, core) ==
                   offsetof(struct thread, frame) + sizeof(struct frame),
               "the save area's end is where `core` lies");

#endif
#endif
