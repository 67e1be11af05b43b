/* SPDX-License-Identifier: MIT */
/*
 * SYSCALL and the way back by SYSRET. The models differ in where it is written who runs
 * (CURRENT_SLOT) and in the stack that SYSCALL takes (SYSCALL_STACK, EXIT_CORE); the rest is the same.
 *
 * IF=0 throughout, but where a label says else. An NMI may strike at every instruction: it runs on
 * its own stack and sets a bit, and sends what it struck in a WINDOW back to the window's beginning.
 */
#include "kernel/arch/entry/stub.h"

/*
 * al = number (the rest of rax is the call's own), rsi, rdx, r8, r9 = arguments, rdi = end of the
 * thread's save area, rcx = core: the order of a fast function's parameters. RSP = an empty stack.
 * The callee-saved registers are the user's and may be a message (E12). Goes on into exit_sysret.
 */
ENTRY syscall_common
        movw    $OUTERMOST(CORE_ST_SYSCALL), CORE_NEST(%rcx)
        movzbl  %al, %eax
        call    *syscall_fast(, %rax, 8)
END syscall_common

/*
 * After a fast function: to the current thread, which came by SYSCALL. rax and rdx are its results,
 * the callee-saved registers its own (or its message); RSP = the empty stack SYSCALL took, IF=0.
 */
ENTRY exit_sysret
#if CONFIG_DEBUG
        push    %rax
        push    %rdx
        call    debug_exit_check
        pop     %rdx
        pop     %rax
#endif
exit_sysret_check:
        EXIT_FIND_CORE
        cmpb    $0, EXIT_CORE(CORE_PENDING)
        jne     exit_sysret_pending
        movw    $OUTERMOST_USER, EXIT_CORE(CORE_NEST)
        mov     EXIT_CORE(CURRENT_SLOT), %rsp
        mov     FRAME_RIP - FRAME_SIZE(%rsp), %rcx
        mov     FRAME_RFLAGS - FRAME_SIZE(%rsp), %r11
        xor     %edi, %edi
        xor     %esi, %esi
        xor     %r8d, %r8d
        xor     %r9d, %r9d
        xor     %r10d, %r10d
        mov     FRAME_RSP - FRAME_SIZE(%rsp), %rsp
exit_sysret_leave:
        sysretq
        WINDOW  exit_sysret_check, exit_sysret_leave
END exit_sysret

/*
 * Each core's LSTAR points to its own stub, which knows the core's addresses (E4): rcx = user RIP,
 * r11 = user RFLAGS, RSP still the user's, and so in what nested_return has to distrust: from
 * exit_sysret_leave to syscall_entry_end. The stub saves to the current TCB what SYSCALL left in
 * registers; CS and SS stand there since the thread was made.
 */
.macro SYSCALL_STUB n
        .type   syscall_entry_\n, @function
syscall_entry_\n:
        mov     AREA(\n) + CURRENT_SLOT, %rdi
        mov     %rsp, FRAME_RSP - FRAME_SIZE(%rdi)
        mov     %rcx, FRAME_RIP - FRAME_SIZE(%rdi)
        mov     %r11, FRAME_RFLAGS - FRAME_SIZE(%rdi)
        SYSCALL_STACK \n
        mov     $AREA(\n), %rcx
        jmp     syscall_common
        .balign SYSCALL_STUB_SIZE, 0xcc
        .size   syscall_entry_\n, . - syscall_entry_\n
.endm

        .balign SYSCALL_STUB_SIZE, 0xcc
        .globl  syscall_entry, syscall_entry_end, exit_sysret_leave
syscall_entry:
        .altmacro
        .set    number, 0
        .rept   MAX_CORES
        SYSCALL_STUB %number
        .set    number, number + 1
        .endr
        .noaltmacro
syscall_entry_end:

/*
 * Stands in syscall_fast for every call that has no fast function. Called by syscall_common,
 * does not go back there: everything to the frame, interrupts on.
 */
ENTRY syscall_slow
        add     $8, %rsp
        mov     %rax, FRAME_RAX - FRAME_SIZE(%rdi)
        mov     %rsi, FRAME_RSI - FRAME_SIZE(%rdi)
        mov     %rdx, FRAME_RDX - FRAME_SIZE(%rdi)
        mov     %r8, FRAME_R8 - FRAME_SIZE(%rdi)
        mov     %r9, FRAME_R9 - FRAME_SIZE(%rdi)
        mov     %r10, FRAME_R10 - FRAME_SIZE(%rdi)
        mov     %rbx, FRAME_RBX - FRAME_SIZE(%rdi)
        mov     %rbp, FRAME_RBP - FRAME_SIZE(%rdi)
        mov     %r12, FRAME_R12 - FRAME_SIZE(%rdi)
        mov     %r13, FRAME_R13 - FRAME_SIZE(%rdi)
        mov     %r14, FRAME_R14 - FRAME_SIZE(%rdi)
        mov     %r15, FRAME_R15 - FRAME_SIZE(%rdi)
        lea     -THREAD_SAVE_END(%rdi), %rsi
        mov     %rcx, %rdi
        sti
        call    syscall_dispatch
        jmp     ret_to_user
END syscall_slow

/* Something is pending: all that still lives in registers goes to the TCB, then the long way. */
ENTRY exit_sysret_pending
        mov     STACK_CORE(%rsp), %rdi
        movw    $OUTERMOST(CORE_ST_SYSCALL), CORE_NEST(%rdi)
        mov     CURRENT_SLOT(%rdi), %rsi
        mov     %rbx, FRAME_RBX - FRAME_SIZE(%rsi)
        mov     %rbp, FRAME_RBP - FRAME_SIZE(%rsi)
        mov     %r12, FRAME_R12 - FRAME_SIZE(%rsi)
        mov     %r13, FRAME_R13 - FRAME_SIZE(%rsi)
        mov     %r14, FRAME_R14 - FRAME_SIZE(%rsi)
        mov     %r15, FRAME_R15 - FRAME_SIZE(%rsi)
        testb   $CORE_PENDING_SLOW, CORE_PENDING(%rdi)
        jnz     1f
        mov     %rax, FRAME_RAX - FRAME_SIZE(%rsi)
        mov     %rdx, FRAME_RDX - FRAME_SIZE(%rsi)
        sti
        jmp     ret_to_user
1:      /* A fast function declined; it has put number and arguments into the frame. */
        andb    $~CORE_PENDING_SLOW, CORE_PENDING(%rdi)
        sub     $THREAD_SAVE_END, %rsi
        sti
        call    syscall_dispatch
        jmp     ret_to_user
END exit_sysret_pending

        .section .note.GNU-stack, "", @progbits
