/* SPDX-License-Identifier: MIT */
/*
 * fpu_switch_state for the fast paths, which keep user registers and their own values in registers:
 * rcx = core, rax = thread, whose state or the running one's is not NULL. Both of these are kept; rsi,
 * r10, r11 and the flags are not. A call that the compiler knows of, taken or not, would cost each
 * path pushes and pops.
 *
 * fpu_kept (fpu.c) points to the one of the two for this CPU.
 */
#include "offsets.h"

#define CR0_LOW_CLOSED 0xb /* PE, MP, TS */

        .text
        .globl  fpu_kept_xsaveopt, fpu_kept_other

/* IF=0, on the kernel stack, nest 1; to its caller. Components: those of XCR0, for eax is all ones. */
        .type   fpu_kept_xsaveopt, @function
fpu_kept_xsaveopt:
        mov     CORE_FPU_OWNER(%rcx), %rsi
        mov     %rax, %r10
        mov     THREAD_FPU(%rax), %r11
        mov     $-1, %eax
        test    %rsi, %rsi
        jz      1f
        mov     THREAD_FPU(%rsi), %rsi
        xsaveopt64 (%rsi)
        test    %r11, %r11
        jz      3f
        jmp     2f
1:      clts
2:      xrstor64 (%r11)
        mov     %r10, %rax
        mov     %rax, CORE_FPU_OWNER(%rcx)
        ret
3:      xrstor64 fpu_clean(%rip)
        mov     $CR0_LOW_CLOSED, %eax
        lmsw    %ax
        mov     %r10, %rax
        movq    $0, CORE_FPU_OWNER(%rcx)
        ret
        .size   fpu_kept_xsaveopt, . - fpu_kept_xsaveopt

/* The same for CPUs without XSAVEOPT, by C. */
        .type   fpu_kept_other, @function
fpu_kept_other:
        push    %rax
        push    %rcx
        push    %rdx
        push    %rdi
        push    %r8
        push    %r9
        mov     %rcx, %rdi
        mov     %rax, %rsi
        call    fpu_switch_state
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rdx
        pop     %rcx
        pop     %rax
        ret
        .size   fpu_kept_other, . - fpu_kept_other

        .section .note.GNU-stack, "", @progbits
