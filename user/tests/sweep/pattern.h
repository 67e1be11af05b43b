/* SPDX-License-Identifier: MIT */
/*
 * What the sweep's threads have in their registers whenever they may be struck: known values, the
 * same in each round, so that whoever looks from outside or afterwards can tell a change. Assembly.
 */
#ifndef ONESTACK_SWEEP_PATTERN_H
#define ONESTACK_SWEEP_PATTERN_H

#define SYSCALL(number, name, kind, args, text) .set SYS_##name, number;
#include "kernel/abi/syscalls.def"
#undef SYSCALL

.macro GLOBAL name
    .globl \name
    .type \name, @function
\name:
.endm

.macro END name
    .size \name, . - \name
.endm

/* The registers that a message travels in, from or against six words of a table. */
.macro WORDS what, table
    \what \table+0x00(%rip), %rbx
    \what \table+0x08(%rip), %rbp
    \what \table+0x10(%rip), %r12
    \what \table+0x18(%rip), %r13
    \what \table+0x20(%rip), %r14
    \what \table+0x28(%rip), %r15
.endm

.macro SCRATCH what
    \what sweep_scratch+0x00(%rip), %rcx
    \what sweep_scratch+0x08(%rip), %rdx
    \what sweep_scratch+0x10(%rip), %rsi
    \what sweep_scratch+0x18(%rip), %rdi
    \what sweep_scratch+0x20(%rip), %r8
    \what sweep_scratch+0x28(%rip), %r9
    \what sweep_scratch+0x30(%rip), %r10
    \what sweep_scratch+0x38(%rip), %r11
    \what sweep_scratch+0x40(%rip), %rax
.endm

.macro COMPARE place, register
    cmp \place, \register
    jne sweep_fail
.endm

/* All 15; the stack pointer stays. */
.macro PATTERN table=sweep_words
    SCRATCH mov
    WORDS mov, \table
.endm

/* After a system call: what it must have kept, or the message that must have come. */
.macro CHECK_KEPT table=sweep_words
    WORDS COMPARE, \table
    COMPARE sweep_stack(%rip), %rsp
.endm

/* After an interrupt or a fault. */
.macro CHECK_ALL
    SCRATCH COMPARE
    CHECK_KEPT
.endm

/*
 * C: _Noreturn void sweep_NAME_loop(void). A loop around one system call: LOOP, the arguments, then
 * STRIKE. The paths' ends are sweep_NAME, the SYSCALL, and sweep_NAME_after.
 */
.macro LOOP name, table=sweep_words
GLOBAL sweep_\name\()_loop
    mov %rsp, sweep_stack(%rip)
1:  PATTERN \table
.endm

.macro STRIKE name, number, table=sweep_words
    mov $\number, %eax
    .globl sweep_\name, sweep_\name\()_after
sweep_\name:
    syscall
sweep_\name\()_after:
    CHECK_KEPT \table
    jmp 1b
    END sweep_\name\()_loop
.endm

#endif
