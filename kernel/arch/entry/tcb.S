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
#include "entry_model.h"

/* ---- interrupts: the vector's stub has pushed its number into the word above the registers ---- */

ENTRY entry_irq
        PUSH_REGS
        cld
        clac
        testb   $3, FRAME_CS(%rsp)
        jz      irq_nested
        /* RSP = this thread's frame, in its TCB. */
        mov     THREAD_CORE - THREAD_FRAME(%rsp), %rdi
        mov     FRAME_ERROR(%rsp), %esi
        RESET_STACK %rdi
#if CONFIG_DEBUG
        cmpb    $0, CORE_NEST(%rdi)
        jne     entry_nest_bug
#endif
        movw    $OUTERMOST(CORE_ST_INTR), CORE_NEST(%rdi)
        xor     %edx, %edx
        call    kintr_handler
        sti
        jmp     ret_to_user
END entry_irq

/* RSP = a frame on the kernel stack, whose code had IF=1. Records, and goes back. */
ENTRY irq_nested
        CORE_BY_STACK %rdi
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
        cmp     $CORE_ST_IDLE, %bl
        je      idle_interrupted
        mov     %bl, CORE_STATE(%rbp)
        POP_REGS
        add     $8, %rsp
        iretq
END irq_nested

/* ---- exceptions without IST: error code and vector stand above the registers ---- */

ENTRY entry_trap
        PUSH_REGS
        cld
        clac
        mov     %cr2, %r8
        testb   $3, FRAME_CS(%rsp)
        jz      trap_nested
        mov     %rsp, %rcx
        mov     THREAD_CORE - THREAD_FRAME(%rsp), %rdi
        RESET_STACK %rdi
        jmp     trap_user
END entry_trap

/*
 * From entry_trap, or from an IST entry whose frame was copied to the TCB: rdi = core, rcx = frame
 * in the TCB, r8 = CR2, on the empty kernel stack.
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

/* RSP = a frame on one of the core's stacks; r8 = CR2. IF stays 0 until the way back. */
ENTRY trap_nested
        CORE_BY_STACK %rdi
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
        jmp     nested_return
END trap_nested

/* ---- SYSCALL: rcx = user RIP, r11 = user RFLAGS, RSP still the user's ---- */

/*
 * Each core's LSTAR points to its own stub, which knows the core's addresses (E4). It saves what
 * SYSCALL left in registers to the current TCB; CS and SS stand there since the thread was made.
 */
#define AREA(n) (CORE_AREA_BASE + (n) * CORE_AREA_SIZE)

.macro SYSCALL_STUB n
        .type   syscall_entry_\n, @function
syscall_entry_\n:
        mov     AREA(\n) + CORE_RSP0, %rdi
        mov     %rsp, FRAME_RSP - FRAME_SIZE(%rdi)
        mov     %rcx, FRAME_RIP - FRAME_SIZE(%rdi)
        mov     %r11, FRAME_RFLAGS - FRAME_SIZE(%rdi)
        mov     $AREA(\n) + CORE_STACK_TOP(STACK_KERNEL) - STACK_RESERVED, %rsp
        mov     $AREA(\n), %rcx
        jmp     syscall_common
        .balign SYSCALL_STUB_SIZE, 0xcc
        .size   syscall_entry_\n, . - syscall_entry_\n
.endm

        .section .text.entry, "ax", @progbits
        .balign SYSCALL_STUB_SIZE, 0xcc
        .globl  syscall_entry
syscall_entry:
        .altmacro
        .set    number, 0
        .rept   MAX_CORES
        SYSCALL_STUB %number
        .set    number, number + 1
        .endr
        .noaltmacro

/*
 * al = number (the rest of rax is the call's own), rsi, rdx, r8, r9 = arguments, rdi = end of the
 * thread's save area, rcx = core: the order of a fast function's parameters. The callee-saved
 * registers are the user's and may be a message (E12). Goes on into exit_sysret.
 */
ENTRY syscall_common
        movw    $OUTERMOST(CORE_ST_SYSCALL), CORE_NEST(%rcx)
        movzbl  %al, %eax
        call    *syscall_fast(, %rax, 8)
END syscall_common

/* ---- exits ---- */

/*
 * After a fast function: to the current thread, which came by SYSCALL. rax and rdx are its results,
 * the callee-saved registers its own (or its message); RSP = top of the empty kernel stack, IF=0.
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
        mov     STACK_CORE(%rsp), %rdi
        cmpb    $0, CORE_PENDING(%rdi)
        jne     exit_sysret_pending
        movw    $OUTERMOST_USER, CORE_NEST(%rdi)
        mov     CORE_RSP0(%rdi), %rsp
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
        movw    $OUTERMOST(CORE_ST_SYSCALL), CORE_NEST(%rdi)
        mov     CORE_RSP0(%rdi), %rsi
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
        mov     CORE_RSP0(%rdi), %rsp
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
