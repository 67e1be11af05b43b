/* SPDX-License-Identifier: MIT */
/*
 * Stubs of the calls whose message travels in rbx, rbp, r12-r15 (ipc.h). The number of a call comes
 * from the list itself: each of its lines becomes an assembler constant.
 */
#define SYSCALL(number, name, kind, args, text) .set SYS_##name, number;
#include "kernel/abi/syscalls.def"
#undef SYSCALL

/*
 * C calls with   rdi endpoint, rsi info, rdx words,   rcx message, r8 timeout
 * the kernel has rsi endpoint, rdx info, r8 message, r9 timeout, and gives back rax info, rdx badge,
 * which is how C returns a struct of two words. The words go to the caller's struct in every
 * case: after an error they are what was sent. Without struct message and timeout the call goes
 * the fast way, which does not look at either.
 */
    .set INFO_EXTRA_BIT, 28 /* ipc.h checks it */

.macro IPC_STUB name
    .globl ipc_\name
    .type ipc_\name, @function
ipc_\name:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    push %rdx
    mov %rdx, %rax
    mov 0x00(%rax), %rbx
    mov 0x08(%rax), %rbp
    mov 0x10(%rax), %r12
    mov 0x18(%rax), %r13
    mov 0x20(%rax), %r14
    mov 0x28(%rax), %r15
    mov %r8, %r9
    mov %rcx, %r8
    mov %rsi, %rdx
    mov %rdi, %rsi
    test %r8, %r8
    jnz 1f
    cmp $-1, %r9
    je 2f
1:  bts $INFO_EXTRA_BIT, %rdx
2:
    mov $SYS_\name, %eax
    syscall
    pop %rcx
    mov %rbx, 0x00(%rcx)
    mov %rbp, 0x08(%rcx)
    mov %r12, 0x10(%rcx)
    mov %r13, 0x18(%rcx)
    mov %r14, 0x20(%rcx)
    mov %r15, 0x28(%rcx)
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
    .size ipc_\name, . - ipc_\name
.endm

    .text
    IPC_STUB call
    IPC_STUB reply_receive
    IPC_STUB send
    IPC_STUB receive
    IPC_STUB reply

    .section .note.GNU-stack, "", @progbits
