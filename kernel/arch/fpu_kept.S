/* SPDX-License-Identifier: MIT */
/*
 * fpu_switch_state for the fast paths, which keep user registers and their own values in registers: rcx =
 * core, rax = thread. A plain call, taken or not, would cost each path three pushes and pops.
 */
        .text
        .globl  fpu_switch_kept
        .type   fpu_switch_kept, @function
fpu_switch_kept:
        push    %rax
        push    %rcx
        push    %rdx
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %r10
        push    %r11
        mov     %rcx, %rdi
        mov     %rax, %rsi
        call    fpu_switch_state
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        pop     %rdx
        pop     %rcx
        pop     %rax
        ret
        .size   fpu_switch_kept, . - fpu_switch_kept

        .section .note.GNU-stack, "", @progbits
