/* SPDX-License-Identifier: MIT */
/* The parts of entry and exit that are the same for every model. */
#include "kernel/arch/entry/stub.h"

/*
 * The outermost level is done. Comes from every entry from user mode, from continuations, from idle
 * and from whoever gives up its stack; IF=1, any stack depth, nothing on the stack is needed.
 * core_exit (events.c) works on what is pending, chooses the thread and says where to go:
 * exit_iret, run_continuation or idle. At ret_to_user_empty rdi = core, on its empty stack already.
 */
ENTRY ret_to_user
        .globl  ret_to_user_empty
        CORE_BY_STACK %rdi
        RESET_STACK %rdi
ret_to_user_empty:
        call    core_exit
        jmp     *%rax
END ret_to_user

/* From C: void kernel_leave(struct core *), which does not return. core_nest back to 1. */
ENTRY kernel_leave
        VECTOR_STACK_RESET %rdi
        RESET_STACK %rdi
        movw    $OUTERMOST(CORE_ST_SYSCALL), CORE_NEST(%rdi)
        sti
        jmp     ret_to_user
END kernel_leave

/*
 * From C, a nested fault: void kernel_abandon(struct core *, function, a, b) goes on at the outermost
 * level in function(core, a, b), on the empty stack with IF=1 (E6).
 */
ENTRY kernel_abandon
        VECTOR_STACK_RESET %rdi
        RESET_STACK %rdi
        movw    $OUTERMOST(CORE_ST_SYSCALL), CORE_NEST(%rdi)
        mov     %rsi, %rax
        mov     %rdx, %rsi
        mov     %rcx, %rdx
        sti
        call    *%rax
        jmp     ret_to_user
END kernel_abandon

/*
 * Stands in syscall_fast for calls that may make another thread current. Called by syscall_common,
 * rdi = end of the save area, IF=0. The callee-saved registers go to the TCB, so that the thread may be
 * left as it is; the function (fastpath.c) returns to exit_sysret, or leaves by exit_other.
 */
ENTRY syscall_quick
        mov     %rbx, FRAME_RBX - FRAME_SIZE(%rdi)
        mov     %rbp, FRAME_RBP - FRAME_SIZE(%rdi)
        mov     %r12, FRAME_R12 - FRAME_SIZE(%rdi)
        mov     %r13, FRAME_R13 - FRAME_SIZE(%rdi)
        mov     %r14, FRAME_R14 - FRAME_SIZE(%rdi)
        mov     %r15, FRAME_R15 - FRAME_SIZE(%rdi)
        jmp     *quick_functions(, %rax, 8)
END syscall_quick

/* From boot, on any stack, IF=0: core in rdi goes on in function rsi on its own kernel stack. */
ENTRY core_run
        RESET_STACK %rdi
        call    *%rsi
        ud2
END core_run

/* From ret_to_user, IF=1, empty stack: the chosen thread goes on in the kernel. */
ENTRY run_continuation
        mov     STACK_CORE(%rsp), %rdi
        movb    $CORE_ST_CONTIN, CORE_STATE(%rdi)
        call    continuation_run
        jmp     ret_to_user
END run_continuation

/*
 * Nobody to run: from ret_to_user, IF=1, empty stack, current = the core's dummy (E8). An IRQ can
 * come only at the hlt; it is recorded and goes to idle_interrupted, so the shadow of sti never
 * matters. An NMI anywhere in the window goes back to the check with IF=0.
 */
ENTRY idle
#if CONFIG_DEBUG
        call    debug_exit_check
#endif
        cli
idle_check:
        mov     STACK_CORE(%rsp), %rdi
        cmpb    $0, CORE_PENDING(%rdi)
        jne     idle_pending
        movb    $CORE_ST_IDLE, CORE_STATE(%rdi)
        sti
idle_hlt:
        hlt
        WINDOW  idle_check, idle_hlt
        /* An NMI that woke the hlt comes back here. */
        cli
        jmp     idle_check
END idle

/* rdi = core, IF=0. */
ENTRY idle_pending
        movb    $CORE_ST_SYSCALL, CORE_STATE(%rdi)
        sti
        jmp     ret_to_user
END idle_pending

/* From irq_nested of an idle core, whose stack holds nothing of worth: rbp = core, IF=0. */
ENTRY idle_interrupted
        RESET_STACK %rbp
        mov     %rbp, %rdi
        jmp     idle_pending
END idle_interrupted

/* ---- entries that the models share; see MODEL.S for what comes before ---- */

/* RSP = a frame of code in ring 0, which had IF=1. Records, and goes back. */
ENTRY irq_nested
        CORE_BY_STACK %rdi
        VECTOR_STACK_TAKE %rdi
        mov     FRAME_ERROR(%rsp), %esi
        incb    CORE_NEST(%rdi)
        movzbl  CORE_STATE(%rdi), %ebx
        movb    $CORE_ST_INTR, CORE_STATE(%rdi)
        mov     %rdi, %rbp
        mov     $1, %edx
        sub     $8, %rsp
        call    kintr_handler
        add     $8, %rsp
        decb    CORE_NEST(%rbp)
        VECTOR_STACK_GIVE %rbp
        cmp     $CORE_ST_IDLE, %bl
        je      idle_interrupted
        mov     %bl, CORE_STATE(%rbp)
        POP_REGS
        add     $8, %rsp
        iretq
END irq_nested

/*
 * From user mode, also by way of ist_user: rdi = core, rcx = the frame in the TCB, r8 = CR2, IF=0,
 * on an empty stack.
 */
ENTRY trap_user
#if CONFIG_DEBUG
        cmpb    $0, CORE_NEST(%rdi)
        jne     entry_nest_bug
#endif
        movw    $OUTERMOST(CORE_ST_SYSCALL), CORE_NEST(%rdi)
        mov     FRAME_VECTOR(%rcx), %esi
        mov     FRAME_ERROR(%rcx), %edx
        sti
        call    ktrap_user
        jmp     ret_to_user
END trap_user

#ifndef THREADS_HAVE_STACKS
/*
 * From trap_nested, IF=0, NMI-safe: an exit has faulted, which none can (E9), and RSP is in a TCB. Nothing
 * tells the core, and to go on would push further and further down. Ends in a double fault, which has a
 * stack of its own; rcx = the frame.
 */
ENTRY trap_off_stack
        mov     %rsp, %rcx
        movabs  $1 << 63, %rsp  /* not canonical: the push faults, and so does that fault */
        push    %rcx
END trap_off_stack
#endif

/* RSP = a frame on one of the core's stacks; r8 = CR2. IF stays 0 until the way back. */
ENTRY trap_nested
#ifndef THREADS_HAVE_STACKS
        cmp     $CORE_AREA_BASE, %rsp
        jb      trap_off_stack
#endif
        CORE_BY_STACK %rdi
        VECTOR_STACK_TAKE %rdi
        mov     FRAME_VECTOR(%rsp), %esi
        mov     FRAME_ERROR(%rsp), %edx
        mov     %rsp, %rcx
        incb    CORE_NEST(%rdi)
        movzbl  CORE_STATE(%rdi), %ebx
        movb    $CORE_ST_INTR, CORE_STATE(%rdi)
        mov     %rdi, %rbp
        mov     %ebx, %r9d
        sub     $8, %rsp
        call    ktrap_kernel
        add     $8, %rsp
        decb    CORE_NEST(%rbp)
        mov     %bl, CORE_STATE(%rbp)
        VECTOR_STACK_GIVE %rbp
        jmp     nested_return
END trap_nested

#if CONFIG_DEBUG
/* From an entry from user mode that found core_nest not 0 (E3): rdi = core, empty kernel stack. */
ENTRY entry_nest_bug
        call    debug_nest_panic
        ud2
END entry_nest_bug
#endif

        .section .note.GNU-stack, "", @progbits
