/* SPDX-License-Identifier: MIT */
/*
 * NMI, #DB, #MC and #DF: each on a stack of its own (N1), so that they may strike at any instruction,
 * with RSP in a TCB or still the user's. The same for every entry model.
 *
 * After an NMI the CPU holds further ones back until the next IRET, whoever's. After a #MC it stops
 * the machine if another comes before MCG_STATUS is cleared. After a #DB nothing is held back.
 */
#include "kernel/arch/entry/stub.h"

/* Bytes at the far end of the #MC's stack: a frame, and the handlers of a few more #MC below it. */
#define MCHECK_ROOM 0x400

/* No breakpoint of the debug registers inside (N5); r12 keeps DR7 to the end. */
.macro DEBUG_OFF
        mov     %dr7, %r12
        xor     %eax, %eax
        mov     %rax, %dr7
.endm

/*
 * #DB and #DF, from their stubs, IF=0. A #DB may come inside an NMI or #MC that has struck another
 * #DB's handler, so where it finds its frame is not fixed, and only the stack tells the core.
 */
ENTRY entry_debug
        PUSH_REGS
        cld
        clac
        DEBUG_OFF
        CORE_BY_STACK %rbp
        IST_TAKE %rbp
        jmp     ist_common
END entry_debug

/*
 * NMI and #MC, from their stubs, whatever ran before, IF=0. The others may come in the middle of
 * this, each on its own stack, and go back by nested_return. The stub has made room on the stacks that
 * what comes inside will use, as its first instruction: what was struck may have a frame there.
 */
ENTRY entry_ist
        PUSH_REGS
        cld
        clac
        DEBUG_OFF
        CORE_BY_STACK %rbp
ist_common:
        testb   $3, FRAME_CS(%rsp)
        jnz     ist_user
        incb    CORE_NEST(%rbp)
        movzbl  CORE_STATE(%rbp), %ebx
        movb    $CORE_ST_INTR, CORE_STATE(%rbp)
        mov     %rbp, %rdi
        mov     %rsp, %rsi
        mov     FRAME_VECTOR(%rsp), %edx
        mov     %r12, %rcx
        mov     %ebx, %r8d
        sub     $8, %rsp
        call    kist_kernel
        add     $8, %rsp
        mov     %bl, CORE_STATE(%rbp)
        decb    CORE_NEST(%rbp)
        cmpl    $VECTOR_DB, FRAME_VECTOR(%rsp)
        je      debug_leave
        mov     %r12, %dr7
        cmpl    $VECTOR_MC, FRAME_VECTOR(%rsp)
        je      mcheck_leave
        POP_REGS
        add     $8, %rsp
        NMI_LEAVE
END entry_ist

/*
 * rbp = core, r12 = DR7, RSP = a #DB's frame, of ring 0. At an instruction breakpoint C has set RF in
 * it, which an IRET honours. Where nested_return may do without IRET, and on this way back itself,
 * that breakpoint would come again for ever: it is met once, and DR7 stays 0.
 */
ENTRY debug_leave
        IST_GIVE %rbp
        mov     FRAME_RFLAGS(%rsp), %eax
        and     $RFLAGS_RF | RFLAGS_IF, %eax
        cmp     $RFLAGS_RF, %eax
        je      nested_return
        mov     %r12, %dr7
        jmp     nested_return
END debug_leave

/*
 * rbp = core, r12 = DR7, RSP = the frame, of user mode. It moves to the TCB, the core to its empty
 * kernel stack, and an IRET to the next instruction opens NMIs (N3). Then it is an ordinary entry.
 * Until then no second NMI can come; a #MC or #DB interrupts on its own stack and returns here.
 */
ENTRY ist_user
        IST_GIVE %rbp
        mov     CURRENT_SLOT(%rbp), %rbx
        sub     $FRAME_SIZE, %rbx
        mov     %rsp, %rsi
        mov     %rbx, %rdi
        mov     $FRAME_SIZE / 8, %ecx
        rep movsq
        RESET_STACK %rbp
#if CONFIG_NMI_MOVE
        cmpl    $VECTOR_NMI, FRAME_VECTOR(%rbx)
        jne     1f
        addq    $IST_STEP, CORE_IST(IST_NMI)(%rbp)
1:
#endif
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

/*
 * Was the code whose frame is at RSP on a stack of the core's? Not if RSP was in a TCB, and not if
 * it was a user's, who may have chosen an address in the core's area: at SYSRET, and from SYSCALL's
 * first instruction to the end of its stub. Nothing may be written below those. If so: rax = RSP,
 * rdx = RIP.
 */
.macro UNLESS_CORE_STACK otherwise
        mov     FRAME_RSP(%rsp), %rax
        cmp     $CORE_AREA_BASE, %rax
        jb      \otherwise
        mov     FRAME_RIP(%rsp), %rdx
        cmp     $exit_sysret_leave, %rdx
        jb      .Lcore_stack_\@
        cmp     $syscall_entry_end, %rdx
        jb      \otherwise
.Lcore_stack_\@:
.endm

/*
 * The #MC's banks are recorded; rbp = core, RSP = the frame, of ring 0, on the #MC's stack. Clearing
 * MCG_STATUS lets the next one in, on top of that frame. So it moves to the interrupted stack first
 * or, where that is none, near this stack's far end, and the way back goes from there.
 */
ENTRY mcheck_leave
        UNLESS_CORE_STACK 1f
        jmp     2f
1:      lea     CORE_STACK_BASE(STACK_MC) + MCHECK_ROOM(%rbp), %rax
2:      lea     -FRAME_SIZE(%rax), %rdi
        mov     %rdi, %rdx
        mov     %rsp, %rsi
        mov     $FRAME_SIZE / 8, %ecx
        rep movsq
        IST_GIVE %rbp
        mov     %rdx, %rsp
mcheck_open:
        xor     %eax, %eax
        xor     %edx, %edx
        mov     $MSR_MCG_STATUS, %ecx
        wrmsr
        jmp     nested_return
END mcheck_leave

/*
 * Back to ring 0 from an exception; RSP = its frame, IF=0. An IRET would open NMIs, and if an NMI's
 * handler was interrupted the next one would overwrite its frame (N5). That handler, and whatever
 * interrupts it, has IF=0 and a stack of the core's. There, so, return by popfq and lretq, which
 * leaves NMIs as they are.
 */
ENTRY nested_return
#if CONFIG_NMI_MOVE
        POP_REGS
        add     $8, %rsp
        iretq
#endif
#if !CONFIG_NMI_IST
        /* nmi=rsp0 is wrong by its stack alone: what comes as an exception leaves as an NMI. */
        cmpl    $VECTOR_NMI, FRAME_VECTOR(%rsp)
        je      1f
#endif
        testl   $RFLAGS_IF, FRAME_RFLAGS(%rsp)
        jnz     1f
        UNLESS_CORE_STACK 1f
        mov     FRAME_RFLAGS(%rsp), %rcx
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

        .section .note.GNU-stack, "", @progbits
