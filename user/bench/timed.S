/* SPDX-License-Identifier: MIT */
/* timed.h. rbx and rbp are message words 0 and 1: a stamp travels in rbx. */
#define SYSCALL(number, name, kind, args, text) .set SYS_##name, number;
#include "kernel/abi/syscalls.def"
#undef SYSCALL

/* struct timed; main.c asserts them. */
    .set NUMBER, 0
    .set A0, 8
    .set A1, 16
    .set A2, 24
    .set A3, 32
    .set START, 40
    .set ELAPSED, 48
    .set PARTNER, 56
    .set RESULT, 64
    .set SECOND, 72
/* struct timed_loop begins alike. */
    .set STAMP, 40
    .set NEXT, 48
    .set NEXT_A1, 56

.macro FUNCTION name
    .globl \name
    .type \name, @function
\name:
.endm
.macro END name
    .size \name, . - \name
.endm

/* Stamp into rbx, arguments, the instruction under test. */
.macro STAMP_AND instruction:vararg
    rdtsc
    mov %eax, %ebx
    mov timed+A0(%rip), %rsi
    mov timed+A1(%rip), %rdx
    mov timed+A2(%rip), %r8
    mov timed+A3(%rip), %r9
    mov timed+NUMBER(%rip), %rax
    \instruction
.endm

.macro TIMED name, instruction:vararg
    FUNCTION \name
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    STAMP_AND \instruction
    mov %rax, %rcx
    mov %rdx, %r8
    rdtsc
    mov %rcx, timed+RESULT(%rip)
    mov %r8, timed+SECOND(%rip)
    mov %ebx, timed+START(%rip)
    mov %ebp, timed+PARTNER(%rip)
    sub %ebx, %eax
    mov %eax, timed+ELAPSED(%rip)
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
    END \name
.endm

    .text
    TIMED timed_syscall, syscall
    TIMED timed_nop, .byte 0x66, 0x90
    TIMED timed_int3, int3
    TIMED timed_int3_nop, nop

/* After a message: rbx is the caller's stamp. The mov stands for the one in TIMED. */
    FUNCTION timed_server
    xor %ebp, %ebp
1:  STAMP_AND syscall
    mov %rax, %rcx
    mov %rdx, %r8
    rdtsc
    sub %ebx, %eax
    mov %eax, %ebp
    movq $SYS_reply_receive, timed+NUMBER(%rip)
    jmp 1b
    END timed_server

/* After the system call as in TIMED, so that the same overhead is to be taken off. */
    FUNCTION timed_loop
1:  mov timed_other+A0(%rip), %rsi
    mov timed_other+A1(%rip), %rdx
    mov timed_other+A2(%rip), %r8
    mov timed_other+A3(%rip), %r9
    mov timed_other+NUMBER(%rip), %rax
    syscall
    mov %rax, %rcx
    mov %rdx, %r8
    rdtsc
    mov timed_other+STAMP(%rip), %rdx
    mov %eax, (%rdx)
    mov timed_other+NEXT(%rip), %rax
    mov %rax, timed_other+NUMBER(%rip)
    mov timed_other+NEXT_A1(%rip), %rax
    mov %rax, timed_other+A1(%rip)
    jmp 1b
    END timed_loop

/* rsp is at a struct fault_info: three words, then struct thread_registers. */
    FUNCTION timed_handler
    mov %rax, %rcx
    mov %rdx, %r8
    rdtsc
    mov %eax, timed_handler_stamp(%rip)
    lea 24(%rsp), %rsi
    mov $SYS_handler_return, %eax
    syscall
    ud2
    END timed_handler

/* A round is eight instructions: TIMED_SPIN_STEP. */
    FUNCTION timed_spin
    mov %edi, %r8d
    rdtsc
    mov %eax, %ecx
1:  rdtsc
    mov %eax, %r9d
    sub %ecx, %eax
    cmp %r8d, %eax
    ja 2f
    mov %r9d, %ecx
    cmp %esi, %ecx
    js 1b
    xor %eax, %eax
2:  ret
    END timed_spin

    FUNCTION timed_stamps
    rdtsc
1:  mov %eax, (%rdi)
    rdtsc
    cmpl $0, (%rsi) /* before the stamp is kept: it may be one from after the stop */
    je 1b
    ret
    END timed_stamps

    .section .note.GNU-stack, "", @progbits
