/* SPDX-License-Identifier: MIT */
/*
 * Entry model `tcb`: RSP0 is the end of the running thread's save area, and by that the only
 * record of who runs. tcb.S has the instructions.
 */
#ifndef ONESTACK_ARCH_ENTRY_MODEL_H
#define ONESTACK_ARCH_ENTRY_MODEL_H

#ifdef __ASSEMBLER__

/* The end of the current thread's save area, from the core in `core`. */
.macro CURRENT_SAVE_END core, reg
        mov     CORE_RSP0(\core), \reg
.endm

#else

#include "kernel/arch/core.h"

/* Kernel memory that a thread takes in this model beyond its TCB. */
#define ENTRY_THREAD_EXTRA 0

static inline void entry_set_current(struct core *core, struct thread *thread)
{
    core->tss.rsp0 = (uint64_t)thread_save_end(thread);
}

static inline struct thread *entry_current(const struct core *core)
{
    return (struct thread *)(core->tss.rsp0 - offsetof(struct thread, core));
}

_Static_assert(offsetof(struct thread, core) ==
                   offsetof(struct thread, frame) + sizeof(struct frame),
               "the save area's end is where `core` lies");

#endif
#endif
