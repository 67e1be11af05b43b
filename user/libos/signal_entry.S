/* SPDX-License-Identifier: MIT */
#define SYSCALL(number, name, kind, args, text) .set SYS_##name, number;
#include "kernel/abi/syscalls.def"
#undef SYSCALL

/*
 * The kernel comes here with rsp at a struct fault_info that holds all registers of the interrupted
 * code, so all are free here. User code is compiled without SSE: no FPU register changes unless the
 * handler means it. handler_return takes the registers, which begin after three words.
 */
    .text
    .globl signal_entry
    .type signal_entry, @function
signal_entry:
    mov %rsp, %rbx
    mov %rsp, %rdi
    and $-16, %rsp
    cld
    call *signal_function(%rip)
    lea 24(%rbx), %rsi
    mov $SYS_handler_return, %eax
    syscall
    ud2
    .size signal_entry, . - signal_entry

    .section .note.GNU-stack, "", @progbits
