/* SPDX-License-Identifier: MIT */
/*
 * Entry model `percpu` (Brendan's). From user mode the CPU pushes its frame on the core's kernel
 * stack; from there it is copied to the TCB, and the registers follow by mov. On the way out the
 * frame is built on the kernel stack again. RSP never points into a TCB.
 *
 * All labels here are entered with IF=0. An NMI may strike at every instruction: it runs on its own
 * stack and only sets a bit, and sends what it struck in a WINDOW back to the window's beginning.
 */
#include "kernel/arch/entry/stub.h"

/*
 * From user mode: RSP = error code and vector, the hardware frame above it, the stack's reserved
 * words above that. All goes to the TCB, but for CS and SS, which stand there since the thread was
 * made. Leaves the stack empty, rdi = core, rcx = frame in the TCB, rax = the word below RIP.
 */
.macro SAVE_FRAME
        push    %rdi
        mov     7 * 8 + STACK_CORE(%rsp), %rdi
        mov     CURRENT_SLOT(%rdi), %rdi
        mov     %rcx, FRAME_RCX - FRAME_SIZE(%rdi)
        lea     -FRAME_SIZE(%rdi), %rcx
        mov     %rax, FRAME_RAX(%rcx)
        mov     %rdx, FRAME_RDX(%rcx)
        mov     %rsi, FRAME_RSI(%rcx)
        mov     %r8, FRAME_R8(%rcx)
        mov     %r9, FRAME_R9(%rcx)
        mov     %r10, FRAME_R10(%rcx)
        mov     %r11, FRAME_R11(%rcx)
        mov     %rbx, FRAME_RBX(%rcx)
        mov     %rbp, FRAME_RBP(%rcx)
        mov     %r12, FRAME_R12(%rcx)
        mov     %r13, FRAME_R13(%rcx)
        mov     %r14, FRAME_R14(%rcx)
        mov     %r15, FRAME_R15(%rcx)
        pop     FRAME_RDI(%rcx)
        pop     %rax
        pop     FRAME_RIP(%rcx)
        mov     8(%rsp), %rdx
        mov     %rdx, FRAME_RFLAGS(%rcx)
        mov     16(%rsp), %rdx
        mov     %rdx, FRAME_RSP(%rcx)
        add     $32, %rsp
        mov     STACK_CORE(%rsp), %rdi
        cld
        clac
.endm

/* Interrupts: the vector's stub has pushed its number below the hardware frame. */
ENTRY entry_irq
        testb   $3, 16(%rsp)
        jz      1f
        SAVE_FRAME
        mov     %eax, %esi
#if CONFIG_DEBUG
        cmpb    $0, CORE_NEST(%rdi)
        jne     entry_nest_bug
#endif
        movw    $OUTERMOST(CORE_ST_INTR), CORE_NEST(%rdi)
        call    kintr_user
        mov     STACK_CORE(%rsp), %rdi
        jmp     ret_to_user_empty
1:      PUSH_REGS
        cld
        clac
        jmp     irq_nested
END entry_irq

/* Exceptions without IST: error code and vector stand below the hardware frame. */
ENTRY entry_trap
        testb   $3, 16(%rsp)
        jz      1f
        SAVE_FRAME
        mov     %rax, FRAME_ERROR(%rcx)
        mov     %cr2, %r8
        jmp     trap_user
1:      PUSH_REGS
        cld
        clac
        mov     %cr2, %r8
        jmp     trap_nested
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
        mov     CURRENT_SLOT(%rdi), %rdi
        push    $USER_DS
        push    FRAME_RSP - FRAME_SIZE(%rdi)
        push    FRAME_RFLAGS - FRAME_SIZE(%rdi)
        push    $USER_CS
        push    FRAME_RIP - FRAME_SIZE(%rdi)
        mov     FRAME_RAX - FRAME_SIZE(%rdi), %rax
        mov     FRAME_RCX - FRAME_SIZE(%rdi), %rcx
        mov     FRAME_RDX - FRAME_SIZE(%rdi), %rdx
        mov     FRAME_RSI - FRAME_SIZE(%rdi), %rsi
        mov     FRAME_R8 - FRAME_SIZE(%rdi), %r8
        mov     FRAME_R9 - FRAME_SIZE(%rdi), %r9
        mov     FRAME_R10 - FRAME_SIZE(%rdi), %r10
        mov     FRAME_R11 - FRAME_SIZE(%rdi), %r11
        mov     FRAME_RBX - FRAME_SIZE(%rdi), %rbx
        mov     FRAME_RBP - FRAME_SIZE(%rdi), %rbp
        mov     FRAME_R12 - FRAME_SIZE(%rdi), %r12
        mov     FRAME_R13 - FRAME_SIZE(%rdi), %r13
        mov     FRAME_R14 - FRAME_SIZE(%rdi), %r14
        mov     FRAME_R15 - FRAME_SIZE(%rdi), %r15
        mov     FRAME_RDI - FRAME_SIZE(%rdi), %rdi
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
