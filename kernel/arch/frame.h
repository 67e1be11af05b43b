/* SPDX-License-Identifier: MIT */
/*
 * The register frame: what the CPU pushes (Intel SDM vol. 3, 6.14.2) and below it what the stubs
 * push. From user mode it lies in the TCB (E2), from ring 0 on the stack that was in use.
 */
#ifndef ONESTACK_ARCH_FRAME_H
#define ONESTACK_ARCH_FRAME_H

#include <stddef.h>
#include <stdint.h>

struct frame {
    uint64_t r15, r14, r13, r12, rbp, rbx; /* callee-saved: message words 5,4,3,2,1,0 */
    uint64_t r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
    /* One word above the registers. The CPU's error code has 32 bits, so the stubs of vectors with
     * one write the vector above it; the others push the vector's number sign-extended and the
     * shared code moves it up. */
    uint32_t error;
    uint32_t vector;
    uint64_t rip, cs, rflags, rsp, ss; /* the hardware frame */
};

_Static_assert(sizeof(struct frame) == 168, "21 words: the stubs push 15, the CPU 5 or 6");
_Static_assert(offsetof(struct frame, rip) == 128, "the hardware frame ends the save area");

/* Message words travel in the callee-saved registers, in this order (E12). */
#define FRAME_MESSAGE_WORDS 6

#endif
