/* SPDX-License-Identifier: MIT */
#define SYSCALL(number, name, kind, args, text) .set SYS_##name, number;
#include "kernel/abi/syscalls.def"
#undef SYSCALL

/* C: sweep_waiter(notification, count). Nothing is between the system call and its label. */
    .text
    .globl sweep_waiter
    .type sweep_waiter, @function
sweep_waiter:
    mov %rdi, %r12
    mov %rsi, %r13
1:  mov %r12, %rsi
    mov $-1, %rdx
    mov $SYS_wait, %eax
    syscall
    .size sweep_waiter, . - sweep_waiter

    .globl sweep_waiter_woken
    .type sweep_waiter_woken, @function
sweep_waiter_woken:
    incq (%r13)
    jmp 1b
    .size sweep_waiter_woken, . - sweep_waiter_woken

/* The harness's labels in C code. */
.macro LABEL name
    .globl \name
    .type \name, @function
\name:
    ret
    .size \name, . - \name
.endm
    LABEL sweep_round
    LABEL sweep_begin
    LABEL sweep_end
    LABEL sweep_bad

    .section .note.GNU-stack, "", @progbits
