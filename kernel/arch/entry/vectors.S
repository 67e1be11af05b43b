/* SPDX-License-Identifier: MIT */
/*
 * One stub a vector, and for the IDT how far each is behind the first. Each leaves one word above the
 * hardware frame: the CPU's error code with the vector above it, or for interrupts just the vector.
 */
#include "kernel/arch/entry/stub.h"

.macro STUB_BEGIN n
        .type   vector_\n, @function
vector_\n:
.endm

.macro STUB_END n
        .size   vector_\n, . - vector_\n
        .pushsection .rodata.vectors, "a"
        .word   vector_\n - vector_stubs
        .popsection
.endm

/* The CPU pushed an error code. */
.macro TRAP_ERROR n, to=entry_trap
        STUB_BEGIN \n
        movl    $\n, 4(%rsp)
        jmp     \to
        STUB_END \n
.endm

.macro TRAP n, to=entry_trap
        STUB_BEGIN \n
        push    $0
        movl    $\n, 4(%rsp)
        jmp     \to
        STUB_END \n
.endm

/* See entry_ist. */
.macro TRAP_IST n, stack
        STUB_BEGIN \n
    .if \n == VECTOR_NMI
        NMI_ENTER
    .else
        IST_TAKE %rsp, IST_CORE(\stack)
    .endif
        push    $0
        movl    $\n, 4(%rsp)
        jmp     entry_ist
        STUB_END \n
.endm

.macro IRQ n
        STUB_BEGIN \n
        push    $\n
        jmp     entry_irq
        STUB_END \n
.endm

        .section .rodata.vectors, "a"
        .balign 2
        .globl  vector_table
vector_table:

        .section .text.entry, "ax", @progbits
        .globl  vector_stubs
vector_stubs:
        TRAP       0                    /* #DE */
        TRAP       1, entry_debug       /* #DB */
#if CONFIG_NMI_IST
        TRAP_IST   2, STACK_NMI         /* NMI */
#else
        TRAP       2                    /* nmi=rsp0, wrong on purpose: on whatever stack it finds */
#endif
        TRAP       3                    /* #BP */
        TRAP       4                    /* #OF */
        TRAP       5                    /* #BR */
        TRAP       6                    /* #UD */
        TRAP       7                    /* #NM */
        TRAP_ERROR 8, entry_debug       /* #DF */
        TRAP       9
        TRAP_ERROR 10                   /* #TS */
        TRAP_ERROR 11                   /* #NP */
        TRAP_ERROR 12                   /* #SS */
        TRAP_ERROR 13                   /* #GP */
        TRAP_ERROR 14                   /* #PF */
        TRAP       15
        TRAP       16                   /* #MF */
        TRAP_ERROR 17                   /* #AC */
        TRAP_IST   18, STACK_MC         /* #MC */
        TRAP       19                   /* #XM */
        TRAP       20                   /* #VE */
        TRAP_ERROR 21                   /* #CP */
        TRAP       22
        TRAP       23
        TRAP       24
        TRAP       25
        TRAP       26
        TRAP       27
        TRAP       28                   /* #HV */
        TRAP_ERROR 29                   /* #VC */
        TRAP_ERROR 30                   /* #SX */
        TRAP       31
        .altmacro
        .set    number, 32
        .rept   256 - 32
        IRQ     %number
        .set    number, number + 1
        .endr
        .noaltmacro

        .section .note.GNU-stack, "", @progbits
