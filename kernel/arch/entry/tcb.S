/* SPDX-License-Identifier: MIT */
/*
 * Entry model `tcb` (gerryg400's, after Minix). From user mode the CPU pushes its frame straight
 * into the TCB, the stub pushes the registers below it, then RSP moves to the core's one stack.
 * Nothing is copied on the way in or out.
 *
 * All labels here are entered with IF=0. An NMI may strike at every instruction: it runs on its own
 * stack and only sets a bit, and sends what it struck in a WINDOW back to the window's beginning.
 */
#include "kernel/arch/entry/stub.h"

/* RSP = a frame. rdi = core if it is a thread's, in its TCB; else go to `nested`. */
.macro CORE_OF_THREAD nested
#if NEST_TEST /* tcb-nest.h */
        mov     LAPIC_BASE + 0x20, %edi
        shr     $24 - CORE_AREA_SHIFT, %edi
        add     $CORE_AREA_BASE, %rdi
        cmpb    $0, CORE_NEST(%rdi)
        jne     \nested
#else
        testb   $3, FRAME_CS(%rsp)
        jz      \nested
        mov     THREAD_CORE - THREAD_FRAME(%rsp), %rdi
#endif
.endm

/* Interrupts: the vector's stub has pushed its number into the word above the registers. */
ENTRY entry_irq
        PUSH_REGS
        cld
        clac
        CORE_OF_THREAD irq_nested
        mov     FRAME_ERROR(%rsp), %esi
        RESET_STACK %rdi
#if CONFIG_DEBUG
        cmpb    $0, CORE_NEST(%rdi)
        jne     entry_nest_bug
#endif
        movw    $OUTERMOST(CORE_ST_INTR), CORE_NEST(%rdi)
        call    kintr_user
        mov     STACK_CORE(%rsp), %rdi
        jmp     ret_to_user_empty
END entry_irq

/* Exceptions without IST: error code and vector stand in the word above the registers. */
ENTRY entry_trap
        PUSH_REGS
        cld
        clac
        mov     %cr2, %r8
        CORE_OF_THREAD trap_nested
        mov     %rsp, %rcx
        RESET_STACK %rdi
        jmp     trap_user
END entry_trap

/* From ret_to_user: to the current thread with all that its frame says. RSP = top, IF any. */
ENTRY exit_iret
#if CONFIG_DEBUG
        call    debug_exit_check
#endif
        cli
exit_iret_check:
        mov     STACK_CORE(%rsp), %rdi
        cmpb    $0, CORE_PENDING(%rdi)
        jne     exit_iret_pending
        movw    $OUTERMOST_USER, CORE_NEST(%rdi)
        mov     CURRENT_SLOT(%rdi), %rsp
        sub     $FRAME_SIZE, %rsp
        POP_REGS
        add     $8, %rsp
exit_iret_leave:
        iretq
        WINDOW  exit_iret_check, exit_iret_leave
END exit_iret

ENTRY exit_iret_pending
        movw    $OUTERMOST(CORE_ST_SYSCALL), CORE_NEST(%rdi)
        sti
        jmp     ret_to_user
END exit_iret_pending

        .section .note.GNU-stack, "", @progbits
