/* SPDX-License-Identifier: MIT */
#define SYSCALL(number, name, kind, args, text) .set SYS_##name, number;
#include "kernel/abi/syscalls.def"
#undef SYSCALL

/* A thread without a stack: rsi is an endpoint, which is where receive wants it too. */
    .text
    .globl bench_blocker
    .type bench_blocker, @function
bench_blocker:
    xor %edx, %edx
    mov $SYS_receive, %eax
    syscall
    xor %esi, %esi
    mov $SYS_thread_end, %eax
    syscall
    ud2
    .size bench_blocker, . - bench_blocker

    .section .note.GNU-stack, "", @progbits
