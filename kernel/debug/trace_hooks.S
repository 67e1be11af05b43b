/* SPDX-License-Identifier: MIT */
/* Where trace_init() sends the entry code. Only with the boot option trace=1 does anybody come here. */
#include "kernel/arch/entry/stub.h"

/*
 * In place of syscall_common's call through syscall_fast, with all registers as they are there:
 * rax = number, rsi = first argument, rcx = core; the callee-saved ones may be a message. IF=0, an
 * empty stack. Records, and goes on to the function.
 */
ENTRY trace_syscall_hook
        push    %rax
        push    %rcx
        push    %rdx
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %r10
        sub     $8, %rsp
        mov     %rsi, %rdx
        mov     %eax, %esi
        mov     %rcx, %rdi
        call    trace_call
        add     $8, %rsp
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        pop     %rdx
        pop     %rcx
        pop     %rax
        jmp     *syscall_fast(, %rax, 8)
END trace_syscall_hook

/*
 * In place of the first instruction of a WINDOW, `mov STACK_CORE(%rsp), %rdi` or, in exit_sysret, the
 * compare of the pending byte: both are done here, whichever it was. IF=0, an empty stack but for the
 * return address; rax, rdx and the callee-saved registers may be a call's results. An NMI in here does
 * not restart the window, and need not: the window's check is still to come.
 */
ENTRY trace_exit_hook
        push    %rax
        push    %rdx
        sub     $8, %rsp
        mov     STACK_CORE + 4 * 8(%rsp), %rdi
        call    trace_leave
        add     $8, %rsp
        pop     %rdx
        pop     %rax
        mov     STACK_CORE + 8(%rsp), %rdi
        cmpb    $0, CORE_PENDING(%rdi)
        ret
END trace_exit_hook

        .section .note.GNU-stack, "", @progbits
