/* SPDX-License-Identifier: MIT */
#define SYSCALL(number, name, kind, args, text) .set SYS_##name, number;
#include "kernel/abi/syscalls.def"
#undef SYSCALL

/* struct fpu_registers; main.c checks them. */
    .set X87, 512
    .set MXCSR, 620
    .set DONE, 624

    .macro FUNCTION name
    .text
    .globl \name
    .type \name, @function
\name:
    .endm

    .macro END name
    .size \name, . - \name
    .endm

FUNCTION fpu_load
    frstor X87(%rdi)
    ldmxcsr MXCSR(%rdi)
    cmpl $0, fpu_has_avx(%rip)
    je 1f
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vmovups \n * 32(%rdi), %ymm\n
    .endr
    ret
1:  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movups \n * 32(%rdi), %xmm\n
    .endr
    ret
END fpu_load

FUNCTION fpu_store
    fnsave X87(%rdi)
    frstor X87(%rdi)            /* fnsave has initialised the unit */
    stmxcsr MXCSR(%rdi)
    cmpl $0, fpu_has_avx(%rip)
    je 1f
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vmovups %ymm\n, \n * 32(%rdi)
    .endr
    ret
1:  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movups %xmm\n, \n * 32(%rdi)
    .endr
    ret
END fpu_store

/* No C before it, and a stack only for the call. */
FUNCTION fpu_fresh
    mov %rsi, %rdi
    call fpu_store
    movq $1, DONE(%rdi)
    mov $SYS_thread_end, %eax
    xor %esi, %esi
    syscall
    ud2
END fpu_fresh

FUNCTION fpu_touch
    pxor %xmm0, %xmm0
    .globl fpu_touched
fpu_touched:
    ret
END fpu_touch

    .section .note.GNU-stack, "", @progbits
