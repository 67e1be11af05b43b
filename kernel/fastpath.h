/* SPDX-License-Identifier: MIT */
/*
 * Fast functions of system calls. They run with IF=0 on the empty kernel stack while the user's
 * callee-saved registers, and so a message in them, stay where they are (E12). They neither block
 * in mid-function nor touch user memory, and always return: to the thread that is current then.
 */
#ifndef ONESTACK_FASTPATH_H
#define ONESTACK_FASTPATH_H

#include "kernel/arch/core.h"

struct fast_result {
    int64_t rax;
    uint64_t rdx;
};

/*
 * The parameters' order is that of the registers after the SYSCALL stub: nothing moves. `save_end` is
 * the end of the calling thread's save area.
 */
#define FAST(name)                                                                   \
    struct fast_result fast_##name(struct frame *save_end, uint64_t a0, uint64_t a1, \
                                   struct core *core, uint64_t a2, uint64_t a3)
FAST(null);
FAST(call);
FAST(reply_receive);
FAST(signal);
FAST(yield);
FAST(unknown);

/* call and reply_receive with a struct message: fastbytes.c. */
FAST(call_bytes);
FAST(reply_bytes);

static inline struct thread *fast_self(struct frame *save_end)
{
    return (struct thread *)((char *)(save_end - 1) - offsetof(struct thread, frame));
}

/*
 * Leave it to the slow function: the call's registers go to the frame, and a pending bit makes the
 * exit's one check find it, so that the fast way pays nothing for the question.
 */
static inline struct fast_result fast_decline(struct core *core, struct thread *self,
                                              uint64_t number, uint64_t a0, uint64_t a1,
                                              uint64_t a2, uint64_t a3)
{
    self->frame.rax = number;
    self->frame.rsi = a0;
    self->frame.rdx = a1;
    self->frame.r8 = a2;
    self->frame.r9 = a3;
    core_set_pending(core, CORE_PENDING_SLOW);
    return (struct fast_result){0, 0};
}

#endif
