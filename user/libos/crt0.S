/* SPDX-License-Identifier: MIT */
/* Where threads begin. The kernel gives rip, rsp and one argument, in rsi; nothing else is defined. */

/* A process's first thread: rsi is the address of its start page, or of the boot page (start.c). */
    .section .text.start, "ax"
    .globl _start
    .type _start, @function
_start:
    xor %ebp, %ebp
    and $-16, %rsp
    mov %rsi, %rdi
    call libos_start
    ud2
    .size _start, . - _start

/* A further thread: rsi is its struct thread_entry, at the top of its own stack (thread.c). */
    .text
    .globl thread_entry_point
    .type thread_entry_point, @function
thread_entry_point:
    xor %ebp, %ebp
    mov %rsi, %rdi
    call libos_thread_start
    ud2
    .size thread_entry_point, . - thread_entry_point

    .section .note.GNU-stack, "", @progbits
