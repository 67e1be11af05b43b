/* SPDX-License-Identifier: MIT */
/*
 * fpu_switch_state for the fast ways, which keep user registers and their own values in registers: rdi =
 * the end of the save area of the running thread, r9 = the one that is to run. One of them at least has
 * state. rax, r11 and the flags are not kept. A call that the compiler knows of, taken or not, would cost
 * each path pushes and pops.
 *
 * fpu_kept (fpu.c) points to the one of the two for this CPU.
 */
#include "offsets.h"

#define CR0_LOW_CLOSED 0xb /* PE, MP, TS */

#define RUNNING(field) field - THREAD_SAVE_END(%rdi)
#define NEXT(field)    field(%r9)

        .section .rodata
cr0_low_closed:
        .word   CR0_LOW_CLOSED

        .text
        .globl  fpu_kept_xsaveopt, fpu_kept_other

/* On the kernel stack, nest 1; to its caller. Components: those of XCR0, for eax is all ones. */
        .type   fpu_kept_xsaveopt, @function
fpu_kept_xsaveopt:
        mov     $-1, %eax
        testb   $FLAG_FPU >> 8, RUNNING(THREAD_FLAGS + 1)
        jz      1f
        mov     RUNNING(THREAD_FPU), %r11
        xsaveopt64 (%r11)
        testb   $FLAG_FPU >> 8, NEXT(THREAD_FLAGS + 1)
        jz      3f
        jmp     2f
1:      clts
2:      mov     NEXT(THREAD_FPU), %r11
        xrstor64 (%r11)
        ret
3:      xrstor64 fpu_clean(%rip)
        lmsw    cr0_low_closed(%rip)
        ret
        .size   fpu_kept_xsaveopt, . - fpu_kept_xsaveopt

/* The same for CPUs without XSAVEOPT, by C. */
        .type   fpu_kept_other, @function
fpu_kept_other:
        push    %rcx
        push    %rdx
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %r10
        sub     $THREAD_SAVE_END, %rdi
        mov     %r9, %rsi
        call    fpu_switch_state
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        pop     %rdx
        pop     %rcx
        ret
        .size   fpu_kept_other, . - fpu_kept_other

        .section .note.GNU-stack, "", @progbits
