/* SPDX-License-Identifier: MIT */
/*
 * Entry model `ist` (turdus'). Every vector comes in on an IST stack, whatever it interrupted, and
 * the entry moves down by IST_STEP while a handler runs. So no CPL has to be tested to find a stack,
 * and interrupts test none: core_nest says whether they came from user mode. Exceptions do, as one
 * may be raised in an NMI's first instructions, where core_nest is still 0, and is no user's.
 *
 *   STACK_VECTOR   top   the interrupted thread's frame, or that of a nested entry
 *                  -1 step   what comes while one of those is handled; and so on
 *
 * An interrupt from user mode is handled to its end with IF=0: recorded, drained, the next thread
 * chosen. If that is the interrupted one, it goes on from the IST stack, and its TCB has never been
 * touched. If not, entry_set_current copies the frame. Exceptions from user mode are work for the
 * thread, as system calls are: frame to the TCB, IF=1 on the kernel stack.
 *
 * All labels here are entered with IF=0. An NMI may strike at every instruction: it runs on its own
 * stack and only sets a bit, and sends what it struck in a WINDOW back to the window's beginning.
 */
#include "kernel/arch/entry/stub.h"

/* Where the frame is on the first step, and what cannot be worked on while it is there. */
#define FIRST_FRAME (CORE_STACK_TOP(STACK_VECTOR) - STACK_RESERVED - FRAME_SIZE)
#define NEEDS_TCB (~(CORE_PENDING_IRQ | CORE_PENDING_TIMER) & 0xff)

/* Interrupts: the vector's stub has pushed its number into the word above the registers. */
ENTRY entry_irq
        PUSH_REGS
        cld
        clac
        CORE_BY_STACK %rdi
        cmpb    $0, CORE_NEST(%rdi)
        jne     irq_nested
        VECTOR_STACK_TAKE %rdi
        mov     FRAME_ERROR(%rsp), %esi
        mov     %rsp, CORE_ENTRY_FRAME(%rdi)
        RESET_STACK %rdi
        movw    $OUTERMOST(CORE_ST_INTR), CORE_NEST(%rdi)
        call    kintr_user
        mov     STACK_CORE(%rsp), %rdi
END entry_irq
        /* runs on */
/* rdi = core, an interrupted thread's frame on the first step, CORE_ENTRY_FRAME points to it. */
ENTRY ist_drain
        testb   $NEEDS_TCB, CORE_PENDING(%rdi)
        jnz     1f
        call    core_exit
        mov     STACK_CORE(%rsp), %rdi
        cmpq    $0, CORE_ENTRY_FRAME(%rdi)
        je      2f
        cmp     $exit_iret, %rax
        je      ist_exit
        call    ist_frame_to_tcb
2:      sti
        jmp     *%rax
1:      call    ist_frame_to_tcb
        sti
        jmp     ret_to_user_empty
END ist_drain

/*
 * rdi = core, CORE_ENTRY_FRAME not 0: the frame goes to the TCB of the current thread. Keeps all
 * registers. Called by entry_set_current too.
 */
ENTRY ist_frame_to_tcb
        push    %rcx
        push    %rsi
        push    %rdi
        mov     CORE_ENTRY_FRAME(%rdi), %rsi
        mov     CURRENT_SLOT(%rdi), %rdi
        sub     $FRAME_SIZE, %rdi
        mov     $FRAME_SIZE / 8, %ecx
        rep movsq
        pop     %rdi
        lea     CORE_STACK_TOP(STACK_VECTOR) - STACK_RESERVED(%rdi), %rsi
        mov     %rsi, CORE_IST(IST_VECTOR)(%rdi)
        movq    $0, CORE_ENTRY_FRAME(%rdi)
        pop     %rsi
        pop     %rcx
        ret
END ist_frame_to_tcb

/* Exceptions without a stack of their own: error code and vector stand above the registers. */
ENTRY entry_trap
        PUSH_REGS
        cld
        clac
        mov     %cr2, %r8
        testb   $3, FRAME_CS(%rsp)
        jz      trap_nested
        CORE_BY_STACK %rdi
        mov     %rdi, %rbp
        mov     %rsp, %rsi
        mov     CURRENT_SLOT(%rdi), %rdi
        sub     $FRAME_SIZE, %rdi
        mov     %rdi, %rdx
        mov     $FRAME_SIZE / 8, %ecx
        rep movsq
        mov     %rdx, %rcx
        mov     %rbp, %rdi
        RESET_STACK %rdi
        jmp     trap_user
END entry_trap

/* From ist_drain, IF=0, RSP = top of the kernel stack: to the thread whose frame was never moved. */
ENTRY ist_exit
#if CONFIG_DEBUG
        call    debug_exit_check
#endif
ist_exit_check:
        mov     STACK_CORE(%rsp), %rdi
        cmpb    $0, CORE_PENDING(%rdi)
        jne     ist_exit_pending
        movw    $OUTERMOST_USER, CORE_NEST(%rdi)
        lea     CORE_STACK_TOP(STACK_VECTOR) - STACK_RESERVED(%rdi), %rsp
        mov     %rsp, CORE_IST(IST_VECTOR)(%rdi)
        movq    $0, CORE_ENTRY_FRAME(%rdi)
        sub     $FRAME_SIZE, %rsp
        POP_REGS
        add     $8, %rsp
ist_exit_leave:
        iretq
        WINDOW  ist_exit_check, ist_exit_leave
END ist_exit

/* Only what NMI or #MC set can be pending. The window may have undone what the entry has done. */
ENTRY ist_exit_pending
        movw    $OUTERMOST(CORE_ST_INTR), CORE_NEST(%rdi)
        lea     CORE_STACK_TOP(STACK_VECTOR) - STACK_RESERVED - IST_STEP(%rdi), %rax
        mov     %rax, CORE_IST(IST_VECTOR)(%rdi)
        lea     FIRST_FRAME(%rdi), %rax
        mov     %rax, CORE_ENTRY_FRAME(%rdi)
        RESET_STACK %rdi
        jmp     ist_drain
END ist_exit_pending

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
