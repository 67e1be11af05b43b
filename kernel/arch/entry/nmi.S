/* SPDX-License-Identifier: MIT */
/*
 * NMI, #DB, #MC and #DF: each on a stack of its own (N1), so that they may strike at any instruction,
 * with RSP in a TCB or still the user's. The same for every entry model.
 */
#include "kernel/arch/entry/stub.h"
#include "entry_model.h"

/*
 * From the stub of a vector with an IST stack, whatever ran before. IF=0. After an NMI the CPU holds
 * further ones back until the next IRET; nothing else does that, so a #MC or #DB may come in the
 * middle of this, on its own stack, and goes back by nested_return.
 */
ENTRY entry_ist
        PUSH_REGS
        cld
        clac
        /* No data breakpoint inside (N5); the value comes back at the end. */
        mov     %dr7, %r12
        xor     %eax, %eax
        mov     %rax, %dr7
        CORE_BY_STACK %rdi
        testb   $3, FRAME_CS(%rsp)
        jnz     ist_user
        mov     %rsp, %rsi
        mov     FRAME_VECTOR(%rsp), %edx
        sub     $8, %rsp
        call    kist_kernel
        add     $8, %rsp
        mov     %r12, %dr7
        cmpl    $VECTOR_NMI, FRAME_VECTOR(%rsp)
        jne     nested_return
        POP_REGS
        add     $8, %rsp
        iretq
END entry_ist

/*
 * rdi = core, r12 = DR7, RSP = the frame, of user mode. It moves to the TCB, the core to its empty
 * kernel stack, and an IRET to the next instruction opens NMIs (N3). Then it is an ordinary entry.
 * Until then no second NMI can come; a #MC or #DB interrupts on its own stack and returns here.
 */
ENTRY ist_user
        mov     %rdi, %rbp
        CURRENT_SAVE_END %rbp, %rbx
        sub     $FRAME_SIZE, %rbx
        mov     %rsp, %rsi
        mov     %rbx, %rdi
        mov     $FRAME_SIZE / 8, %ecx
        rep movsq
        RESET_STACK %rbp
        mov     %r12, %dr7
        mov     %rsp, %rax
        push    $0
        push    %rax
        pushfq
        push    $KERNEL_CS
        push    $ist_user_open
        iretq
ist_user_open:
        mov     %rbp, %rdi
        mov     %rbx, %rcx
        xor     %r8d, %r8d
        jmp     trap_user
END ist_user

        .section .note.GNU-stack, "", @progbits
