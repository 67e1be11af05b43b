/* SPDX-License-Identifier: MIT */
/* The parts of entry and exit that are the same for every model. */
#include "kernel/arch/entry/stub.h"

/*
 * The outermost level is done. Comes from every entry from user mode, from continuations, from idle
 * and from whoever gives up its stack; IF=1, any stack depth, nothing on the stack is needed.
 * core_exit (events.c) works on what is pending, chooses the thread and says where to go:
 * exit_iret, run_continuation or idle.
 */
ENTRY ret_to_user
        CORE_BY_STACK %rdi
        RESET_STACK %rdi
        call    core_exit
        jmp     *%rax
END ret_to_user

/* From C: void kernel_leave(struct core *), which does not return. core_nest back to 1. */
ENTRY kernel_leave
        RESET_STACK %rdi
        movw    $OUTERMOST(CORE_ST_SYSCALL), CORE_NEST(%rdi)
        sti
        jmp     ret_to_user
END kernel_leave

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

/*
 * Back to ring 0 from an exception; RSP = its frame, IF=0. An IRET would open NMIs, and if an NMI's
 * handler was interrupted the next one would overwrite its frame (N5). That handler, and whatever
 * interrupts it, has IF=0 and a stack of the core's. There, so, return by popfq and lretq, which
 * leaves NMIs as they are. Not where RSP is a user's or in a TCB: no handler runs on those, and
 * nothing may be written below them.
 */
ENTRY nested_return
#if !CONFIG_NMI_IST
        /* nmi=rsp0 is wrong by its stack alone: what comes as an exception leaves as an NMI. */
        cmpl    $VECTOR_NMI, FRAME_VECTOR(%rsp)
        je      1f
#endif
        testl   $RFLAGS_IF, FRAME_RFLAGS(%rsp)
        jnz     1f
        mov     FRAME_RSP(%rsp), %rax
        cmp     $CORE_AREA_BASE, %rax
        jb      1f
        mov     FRAME_RFLAGS(%rsp), %rcx
        mov     FRAME_RIP(%rsp), %rdx
        mov     FRAME_CS(%rsp), %rsi
        sub     $24, %rax
        /* The interrupted stack may be this one, its top just above the frame: all is loaded now. */
        mov     %rax, FRAME_ERROR(%rsp)
        mov     %rcx, (%rax)
        mov     %rdx, 8(%rax)
        mov     %rsi, 16(%rax)
        POP_REGS
        pop     %rsp
        popfq
        lretq
1:      POP_REGS
        add     $8, %rsp
        iretq
END nested_return

#if CONFIG_DEBUG
/* From an entry from user mode that found core_nest not 0 (E3): rdi = core, empty kernel stack. */
ENTRY entry_nest_bug
        call    debug_nest_panic
        ud2
END entry_nest_bug
#endif

        .section .note.GNU-stack, "", @progbits
