/* SPDX-License-Identifier: MIT */
/* probe.h. All state is in the struct `probe`, so that between load and store no register is needed. */

/* Offsets in struct probe; probe.c asserts them. */
    .set OUT, 416
    .set SITE, 832
    .set STACK, 840
    .set OLD_FS, 848
    .set OLD_GS, 856
    .set SPINS, 864
    .set ADDRESS, 872
    .set RSP_AT, 120
    .set RFLAGS_AT, 128
    .set FS_AT, 136
    .set GS_AT, 144
    .set MXCSR_AT, 152
    .set XMM_AT, 160

.macro EACH_GENERAL what, from
    \what %r15, probe+\from+0x00
    \what %r14, probe+\from+0x08
    \what %r13, probe+\from+0x10
    \what %r12, probe+\from+0x18
    \what %rbp, probe+\from+0x20
    \what %rbx, probe+\from+0x28
    \what %r11, probe+\from+0x30
    \what %r10, probe+\from+0x38
    \what %r9, probe+\from+0x40
    \what %r8, probe+\from+0x48
    \what %rdi, probe+\from+0x50
    \what %rsi, probe+\from+0x58
    \what %rdx, probe+\from+0x60
    \what %rcx, probe+\from+0x68
    \what %rax, probe+\from+0x70
.endm
.macro LOAD register, at
    mov \at(%rip), \register
.endm
.macro STORE register, at
    mov \register, \at(%rip)
.endm
.macro EACH_XMM what, from
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    \what \n, probe+\from+XMM_AT+16*\n
    .endr
.endm
.macro LOAD_XMM n, at
    movups \at(%rip), %xmm\n
.endm
.macro STORE_XMM n, at
    movups %xmm\n, \at(%rip)
.endm
.macro GLOBAL name
    .globl \name
    .type \name, @function
\name:
.endm
.macro SITE_END name
    jmp probe_after
    .size \name, . - \name
.endm

    .text
/* C: void probe_load_and_go(void). probe.in and probe.site are set. */
    GLOBAL probe_load_and_go
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, probe+STACK(%rip)
    rdfsbase %rax
    mov %rax, probe+OLD_FS(%rip)
    rdgsbase %rax
    mov %rax, probe+OLD_GS(%rip)
    mov probe+FS_AT(%rip), %rax
    wrfsbase %rax
    mov probe+GS_AT(%rip), %rax
    wrgsbase %rax
    ldmxcsr probe+MXCSR_AT(%rip)
    EACH_XMM LOAD_XMM, 0
    push probe+RFLAGS_AT(%rip)
    EACH_GENERAL LOAD, 0
    popfq
    mov probe+RSP_AT(%rip), %rsp /* last: there may be no stack where it points */
    .size probe_load_and_go, . - probe_load_and_go

    GLOBAL probe_go
    jmp *probe+SITE(%rip)
    .size probe_go, . - probe_go

    GLOBAL probe_syscall
    syscall
    SITE_END probe_syscall

    GLOBAL probe_spin
    decq probe+SPINS(%rip)
    jnz probe_spin
    SITE_END probe_spin

    GLOBAL probe_touch
    push %rbx
    mov probe+ADDRESS(%rip), %rbx
    mov (%rbx), %rax
    pop %rbx
    SITE_END probe_touch

    GLOBAL probe_store
    push %rbx
    mov probe+ADDRESS(%rip), %rbx
    mov %rax, (%rbx)
    pop %rbx
    SITE_END probe_store

    GLOBAL probe_ud2
    ud2
    SITE_END probe_ud2

    GLOBAL probe_int3
    int3
    SITE_END probe_int3

    GLOBAL probe_divide
    div %rcx
    SITE_END probe_divide

    GLOBAL probe_hlt
    hlt
    SITE_END probe_hlt

    GLOBAL probe_nothing
    SITE_END probe_nothing

    GLOBAL probe_after
    EACH_GENERAL STORE, OUT
    mov %rsp, probe+OUT+RSP_AT(%rip)
    mov probe+STACK(%rip), %rsp
    pushfq
    pop probe+OUT+RFLAGS_AT(%rip)
    cld
    EACH_XMM STORE_XMM, OUT
    stmxcsr probe+OUT+MXCSR_AT(%rip)
    rdfsbase %rax
    mov %rax, probe+OUT+FS_AT(%rip)
    rdgsbase %rax
    mov %rax, probe+OUT+GS_AT(%rip)
    mov probe+OLD_FS(%rip), %rax
    wrfsbase %rax
    mov probe+OLD_GS(%rip), %rax
    wrgsbase %rax
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
    .size probe_after, . - probe_after

    .section .note.GNU-stack, "", @progbits
