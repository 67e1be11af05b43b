/* SPDX-License-Identifier: MIT */
/* What all entry assembly shares: the register part of struct frame, labels with size, debug checks. */
#ifndef ONESTACK_ARCH_ENTRY_STUB_H
#define ONESTACK_ARCH_ENTRY_STUB_H

#include "offsets.h"
#include "kernel/arch/cpu_bits.h"
#include "kernel/arch/layout.h"
#include "kernel/arch/segments.h"
#include "kernel/arch/state.h"

/* Core n's area: struct core, its stacks. */
#define AREA(n) (CORE_AREA_BASE + (n) * CORE_AREA_SIZE)

/* Where RSP starts on each stack: one word for the core's address, one that keeps 16 bytes. */
#define STACK_RESERVED 16
#define STACK_CORE 8 /* the core's address, from there */

/* core_nest and the state byte above it, by one store: the first level, and user mode. */
#define OUTERMOST(state) (1 | (state) << 8)
#define OUTERMOST_USER (0 | CORE_ST_USER << 8)

.macro ENTRY name
        .section .text.entry, "ax", @progbits
        .globl  \name
        .type   \name, @function
\name:
.endm

.macro END name
        .size   \name, . - \name
.endm

/* From the word above the registers down. */
.macro PUSH_REGS
        push    %rax
        push    %rcx
        push    %rdx
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %r10
        push    %r11
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
.endm

.macro POP_REGS
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        pop     %rdx
        pop     %rcx
        pop     %rax
.endm

/* The core, from any of its stacks (E4). */
.macro CORE_BY_STACK reg
        mov     %rsp, \reg
        or      $(STACK_SIZE - 1), \reg
        mov     -7(\reg), \reg
.endm

/* Give up what the kernel stack holds. `core` stays. */
.macro RESET_STACK core
        lea     CORE_STACK_TOP(STACK_KERNEL) - STACK_RESERVED(\core), %rsp
.endm

/* TSS: where IST entry n starts, for those that move. */
#define CORE_IST(n) (CORE_TSS_IST + ((n) - 1) * 8)

/*
 * An exit's last stretch, from its check of the pending byte to the instruction that leaves. What
 * strikes in it sets a pending bit that nobody would look at again, so it is sent back to the
 * beginning, on an empty kernel stack with IF=0 (N4; restart_windows in trap.c). So in a window
 * only loads from the TCB and stores that may be repeated.
 */
.macro WINDOW first, last
        .pushsection .windows, "a"
        .quad   \first, \last
        .popsection
.endm

#include "entry_model.h"

/*
 * Room for what comes inside an NMI, #MC or #DB: another #DB, or what the model has on a moving IST
 * entry. `base` + `offset` is the core; IST_CORE(stack) says where it is from RSP when RSP stands
 * below the five words that the CPU has pushed.
 */
#define IST_CORE(stack) (STACK_RESERVED + 40 - CORE_STACK_TOP(stack))
.macro IST_TAKE base, offset=0
        VECTOR_STACK_TAKE \base, \offset
        subq    $IST_STEP, CORE_IST(IST_DB) + \offset(\base)
.endm
.macro IST_GIVE base, offset=0
        addq    $IST_STEP, CORE_IST(IST_DB) + \offset(\base)
        VECTOR_STACK_GIVE \base, \offset
.endm

/*
 * What comes inside an NMI's handler has room from here to NMI_LEAVE, which goes back to ring 0; RSP
 * stands below the five words that the CPU has pushed. With nmi=move, the runner-up (ADR 100), the
 * NMI's own entry moves too, so exceptions inside may return by IRET and let the next NMI in a step
 * further down. Where that is on its stack is then not fixed, so it takes a few instructions to
 * find the core; while they run the next NMI falls onto a frame in use.
 */
.macro NMI_ENTER
#if CONFIG_NMI_MOVE
        push    %rax
        CORE_BY_STACK %rax
        subq    $IST_STEP, CORE_IST(IST_NMI)(%rax)
        IST_TAKE %rax
        pop     %rax
#else
        IST_TAKE %rsp, IST_CORE(STACK_NMI)
#endif
.endm
.macro NMI_LEAVE
#if CONFIG_NMI_MOVE
        push    %rax
        CORE_BY_STACK %rax
        IST_GIVE %rax
        addq    $IST_STEP, CORE_IST(IST_NMI)(%rax)
        pop     %rax
#else
        IST_GIVE %rsp, IST_CORE(STACK_NMI)
#endif
        iretq
.endm

#endif
