/* SPDX-License-Identifier: MIT */
/* What assembly knows of C's structures; the build turns it into offsets.h. */
#include "kernel/arch/core.h"

void offsets(void);

void offsets(void)
{
    OFFSET(FRAME_RAX, struct frame, rax);
    OFFSET(FRAME_RCX, struct frame, rcx);
    OFFSET(FRAME_RDX, struct frame, rdx);
    OFFSET(FRAME_RSI, struct frame, rsi);
    OFFSET(FRAME_RDI, struct frame, rdi);
    OFFSET(FRAME_R8, struct frame, r8);
    OFFSET(FRAME_R9, struct frame, r9);
    OFFSET(FRAME_R10, struct frame, r10);
    OFFSET(FRAME_R11, struct frame, r11);
    OFFSET(FRAME_RBX, struct frame, rbx);
    OFFSET(FRAME_RBP, struct frame, rbp);
    OFFSET(FRAME_R12, struct frame, r12);
    OFFSET(FRAME_R13, struct frame, r13);
    OFFSET(FRAME_R14, struct frame, r14);
    OFFSET(FRAME_R15, struct frame, r15);
    OFFSET(FRAME_ERROR, struct frame, error);
    OFFSET(FRAME_VECTOR, struct frame, vector);
    OFFSET(FRAME_RIP, struct frame, rip);
    OFFSET(FRAME_CS, struct frame, cs);
    OFFSET(FRAME_RFLAGS, struct frame, rflags);
    OFFSET(FRAME_RSP, struct frame, rsp);
    DEFINE(FRAME_SIZE, sizeof(struct frame));

    OFFSET(THREAD_FRAME, struct thread, frame);
    OFFSET(THREAD_CORE, struct thread, core);
    OFFSET(THREAD_FPU, struct thread, fpu);
    OFFSET(THREAD_FLAGS, struct thread, flags);
    DEFINE(FLAG_FPU, THREAD_FLAG_FPU);
    DEFINE(THREAD_SAVE_END, offsetof(struct thread, frame) + sizeof(struct frame));

    OFFSET(CORE_NEST, struct core, nest);
    OFFSET(CORE_STATE, struct core, state);
    OFFSET(CORE_PENDING, struct core, pending);
    OFFSET(CORE_CURRENT, struct core, current_end);
    OFFSET(CORE_ENTRY_FRAME, struct core, entry_frame);
    DEFINE(CORE_RSP0, offsetof(struct core, tss) + offsetof(struct tss, rsp0));
    DEFINE(CORE_TSS_IST, offsetof(struct core, tss) + offsetof(struct tss, ist));
}
