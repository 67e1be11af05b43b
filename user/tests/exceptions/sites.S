/* SPDX-License-Identifier: MIT */
/*
 * One faulting instruction each, for probe_run (libos/probe.h): registers are what the table in
 * main.c says, and whoever survives its instruction arrives at probe_after and is found out.
 */
.macro SITE name, instruction:vararg
    .globl site_\name
    .type site_\name, @function
site_\name:
    \instruction
    jmp probe_after
    .size site_\name, . - site_\name
.endm

    .text
    SITE nop, nop
    SITE into, .byte 0xce
    SITE bound, .byte 0x62, 0x00
    SITE ud1, .byte 0x0f, 0xb9, 0xc0
    SITE cli, cli
    SITE sti, sti
    SITE in, inb $0x80, %al
    SITE out, outb %al, $0x80
    SITE read_cr0, mov %cr0, %rax
    SITE write_cr3, mov %rax, %cr3
    SITE write_dr7, mov %rax, %dr7
    SITE rdmsr, rdmsr
    SITE wrmsr, wrmsr
    SITE lgdt, lgdt (%rsi)
    SITE lidt, lidt (%rsi)
    SITE lldt, lldt %ax
    SITE ltr, ltr %ax
    SITE sgdt, sgdt (%rsi)
    SITE sidt, sidt (%rsi)
    SITE str, str %eax
    SITE smsw, smsw %eax
    SITE clts, clts
    SITE invd, invd
    SITE wbinvd, wbinvd
    SITE invlpg, invlpg (%rsi)
    SITE swapgs, swapgs
    SITE sysretq, sysretq
    SITE stac, stac
    SITE xsetbv, xsetbv
    SITE load_ds, mov %eax, %ds
    SITE load_ss, mov %eax, %ss
    SITE read, mov (%rax), %rax
    SITE write, mov %rax, (%rax)
    SITE stack_read, mov (%rbp), %rax
    SITE push, push %rax
    SITE jump, jmp *%rax
    SITE simd, sqrtss minus_one(%rip), %xmm0
    SITE misaligned, mov 1(%rsi), %rax

/* An x87 exception waits for the next instruction of its kind; the caller puts the FPU right again. */
    .globl site_x87
    .type site_x87, @function
site_x87:
    fninit
    fldcw unmask_all(%rip)
    fld1
    fldz
    fdivrp
    fwait
    jmp probe_after
    .size site_x87, . - site_x87

    .section .rodata
unmask_all:
    .word 0x0340
    .balign 4
minus_one:
    .float -1.0
    .text

/* int n for all n, INT_STRIDE bytes each. */
    .globl site_int
    .type site_int, @function
    .balign 8
site_int:
    .set n, 0
    .rept 256
    .byte 0xcd, n
    jmp probe_after
    .balign 8
    .set n, n + 1
    .endr
    .size site_int, . - site_int

    .section .note.GNU-stack, "", @progbits
