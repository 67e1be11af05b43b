/* SPDX-License-Identifier: MIT */
/*
 * The loops of the thread that walks the path, each round the same: patterns into all registers,
 * the instruction in question, then whoever finds a wrong value goes to sweep_fail, where the
 * harness has a breakpoint.
 */
#include "user/tests/sweep/pattern.inc"

    .set INFO_EXTRA, 1 << 28
    .set COPY_BYTES, 5000 /* sweep.h */
    .set SMALL_BYTES, 32
    .set SLEEP_NANOSECONDS, 20000
    .set NAP_NANOSECONDS, 100000000
    .set FAULT_REGISTERS, 3 * 8 /* struct fault_info; main.c asserts */
    .set REGISTERS_RIP, 15 * 8
    .set REGISTERS_RFLAGS, 16 * 8
    .set TRAP_FLAG, 0x302 /* the flag, the one that always reads as 1, and IF */

    .text
/* From any thread. The kernel reports it, in case that nobody waits here. */
GLOBAL sweep_fail
    ud2
    jmp sweep_fail
    END sweep_fail

/* ---- system calls ---- */

    LOOP null
    STRIKE null, SYS_null

/* MOV SS holds back what comes for one instruction, NMIs too on hardware and Bochs: until SYSCALL is over. */
    LOOP shadow
    mov %ss, %ecx
    mov $SYS_null, %eax
    .globl sweep_shadow, sweep_shadow_after
sweep_shadow:
    mov %ecx, %ss
sweep_shadow_call:
    syscall
sweep_shadow_after:
    CHECK_KEPT
    jmp 1b
    END sweep_shadow_loop

    LOOP slow
    mov sweep_notification(%rip), %rsi
    STRIKE slow, SYS_cap_info

    LOOP yield
    STRIKE yield, SYS_yield

/* Nobody waits there. */
    LOOP post
    mov sweep_notification(%rip), %rsi
    mov $1, %edx
    STRIKE post, SYS_signal

/* Writes to user memory; and is refused to. */
    LOOP info
    xor %esi, %esi
    lea sweep_info_buffer(%rip), %rdx
    STRIKE info, SYS_thread_info

    LOOP bad_pointer
    xor %esi, %esi
    mov $0x1000, %edx
    STRIKE bad_pointer, SYS_thread_info

    LOOP map
    mov sweep_space(%rip), %rsi
    mov sweep_window(%rip), %rdx
    mov $0x1000, %r8d
    mov $SYS_unmap, %eax
    .globl sweep_unmap, sweep_unmap_after
sweep_unmap:
    syscall
sweep_unmap_after:
    CHECK_KEPT
    SCRATCH mov
    mov sweep_space(%rip), %rsi
    mov sweep_memory(%rip), %rdx
    mov sweep_window(%rip), %r8
    or $1, %r8 /* MAP_READ */
    mov $0x1000, %r9d
    xor %r10d, %r10d
    STRIKE map, SYS_map

    LOOP block
    mov sweep_notification(%rip), %rsi
    mov $-1, %rdx
    STRIKE block, SYS_wait

    LOOP sleep
    mov $SLEEP_NANOSECONDS, %esi
    STRIKE sleep, SYS_sleep

/* Long, so that what is struck in idle is seldom the end of it. */
    LOOP nap
    mov $NAP_NANOSECONDS, %esi
    STRIKE nap, SYS_sleep

/* Another's signal is the message. */
    LOOP bound
    mov sweep_endpoint(%rip), %rsi
    xor %edx, %edx
    mov $SYS_receive, %eax
    .globl sweep_bound, sweep_bound_after
sweep_bound:
    syscall
sweep_bound_after:
    CHECK_KEPT sweep_notified
    jmp 1b
    END sweep_bound_loop

    LOOP call
    mov sweep_endpoint(%rip), %rsi
    xor %edx, %edx
    STRIKE call, SYS_call, sweep_answer

/* The answer's bytes are compared, and wiped for the next round. */
.macro COPY name, bytes
    LOOP \name
    mov sweep_endpoint(%rip), %rsi
    mov $INFO_EXTRA | \bytes, %edx
    lea sweep_message(%rip), %r8
    mov $-1, %r9
    mov $SYS_call, %eax
    .globl sweep_\name, sweep_\name\()_after
sweep_\name:
    syscall
sweep_\name\()_after:
    CHECK_KEPT sweep_answer
    cmp $\bytes, %rax
    jne sweep_fail
    mov $\bytes, %edx
    call sweep_compare
    jmp 1b
    END sweep_\name\()_loop
.endm

    COPY copy, COPY_BYTES
    COPY small, SMALL_BYTES

/* edx = how many bytes. All registers are lost. */
GLOBAL sweep_compare
    mov sweep_from(%rip), %rsi
    mov sweep_to(%rip), %rdi
    mov %edx, %ecx
    repe cmpsb
    jne sweep_fail
    mov sweep_to(%rip), %rdi
    mov %edx, %ecx
    xor %eax, %eax
    rep stosb
    ret
    END sweep_compare

/* ---- nothing but user code, for interrupts ---- */

GLOBAL sweep_spin_loop
    mov %rsp, sweep_stack(%rip)
    PATTERN
    .globl sweep_spin
sweep_spin:
    jmp sweep_spin
    END sweep_spin_loop

/* ---- exceptions, each handled by the thread itself and gone on behind ---- */

/* setup: what a register must have beside the pattern. */
.macro RAISE name, setup, instruction:vararg
GLOBAL sweep_\name\()_loop
    mov %rsp, sweep_stack(%rip)
    lea sweep_\name\()_after(%rip), %rax
    mov %rax, sweep_resume(%rip)
1:  PATTERN
    \setup
    .globl sweep_\name, sweep_\name\()_after
sweep_\name:
    \instruction
    jmp sweep_fail
sweep_\name\()_after:
    CHECK_KEPT
    jmp 1b
    END sweep_\name\()_loop
.endm

    RAISE divide, "xor %ecx, %ecx", div %rcx
    RAISE debug, "push $TRAP_FLAG; popfq", nop
    RAISE breakpoint, "", int3
    RAISE opcode, "", ud2
    RAISE stack_fault, "mov sweep_non_canonical(%rip), %rbp", mov (%rbp), %rax
    RAISE protection, "", cli
    RAISE software, "", int $0x80
    RAISE x87, "fninit; fldcw sweep_unmasked(%rip); fldz; fldz; fdivp", fwait
    RAISE page_fault, "xor %eax, %eax", mov (%rax), %rax

/* Answered by the space's fault endpoint; rip is past it already. */
GLOBAL sweep_fault_loop
    mov %rsp, sweep_stack(%rip)
1:  PATTERN
    .globl sweep_fault, sweep_fault_after
sweep_fault:
    int3
sweep_fault_after:
    CHECK_ALL
    jmp 1b
    END sweep_fault_loop

/* The kernel comes here with rsp at a struct fault_info on the handler's own stack. */
GLOBAL sweep_handler
    mov sweep_resume(%rip), %rax
    mov %rax, FAULT_REGISTERS + REGISTERS_RIP(%rsp)
    movq $0x202, FAULT_REGISTERS + REGISTERS_RFLAGS(%rsp)
    mov sweep_words+0x08(%rip), %rax
    mov %rax, FAULT_REGISTERS + 4 * 8(%rsp) /* rbp, which one of them needs as an address */
    lea FAULT_REGISTERS(%rsp), %rsi
    mov $SYS_handler_return, %eax
    .globl sweep_handler_return
sweep_handler_return:
    syscall
    jmp sweep_fail
    END sweep_handler

/* ---- once a call, the loop is C's ---- */

.macro ENTER
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, sweep_stack(%rip)
.endm

/* C: void sweep_NAME_once(uint64_t a0, uint64_t a1, uint64_t a2). It has to return 0. */
.macro ONCE name, number
GLOBAL sweep_\name\()_once
    ENTER
    mov %rdi, %rax
    mov %rsi, %rcx
    mov %rdx, %r8
    WORDS mov, sweep_words
    mov %rax, %rsi
    mov %rcx, %rdx
    xor %r9d, %r9d
    xor %r10d, %r10d
    mov $\number, %eax
    .globl sweep_\name, sweep_\name\()_after
sweep_\name:
    syscall
sweep_\name\()_after:
    CHECK_KEPT
    test %rax, %rax
    jnz sweep_fail
    jmp restore
    END sweep_\name\()_once
.endm

    ONCE start, SYS_thread_start
    ONCE pager_call, SYS_thread_info
    ONCE revoke, SYS_cap_revoke
    ONCE delete, SYS_cap_delete
    ONCE space_end, SYS_space_end
    ONCE cancel, SYS_thread_cancel

/* C: void sweep_miss_once(const struct message *). Its pages are missing; the answer is as COPY's. */
GLOBAL sweep_miss_once
    ENTER
    mov %rdi, %r8
    WORDS mov, sweep_words
    mov sweep_endpoint(%rip), %rsi
    mov $INFO_EXTRA | COPY_BYTES, %edx
    mov $-1, %r9
    mov $SYS_call, %eax
    .globl sweep_miss, sweep_miss_after
sweep_miss:
    syscall
sweep_miss_after:
    CHECK_KEPT sweep_answer
    cmp $COPY_BYTES, %rax
    jne sweep_fail
    mov $COPY_BYTES, %edx
    call sweep_compare
    jmp restore
    END sweep_miss_once

/* C: void sweep_touch_once(const void *address) */
GLOBAL sweep_touch_once
    ENTER
    mov %rdi, sweep_touched(%rip)
    PATTERN
    mov sweep_touched(%rip), %rax
    .globl sweep_touch, sweep_touch_after
sweep_touch:
    mov (%rax), %rax
sweep_touch_after:
    mov sweep_scratch+0x40(%rip), %rax
    CHECK_ALL
restore:
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
    END sweep_touch_once

/* A thread that is new each round: its first instruction of the FPU, then its end. */
GLOBAL sweep_young
    PATTERN
    .globl sweep_fpu, sweep_fpu_after
sweep_fpu:
    pxor %xmm0, %xmm0
sweep_fpu_after:
    SCRATCH COMPARE
    WORDS COMPARE, sweep_words
    xor %esi, %esi
    mov $SYS_thread_end, %eax
    .globl sweep_end
sweep_end:
    syscall
    jmp sweep_fail
    END sweep_young

    .section .rodata
    .balign 8
    .globl sweep_words, sweep_answer, sweep_scratch, sweep_notified
sweep_words:
    .irp n, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
    .quad 0x0101010101010101 * \n
    .endr
sweep_answer:
    .irp n, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16
    .quad 0x0101010101010101 * \n
    .endr
sweep_scratch:
    .irp n, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29
    .quad 0x0101010101010101 * \n
    .endr
sweep_notified: /* the words of a message of bits */
    .quad 1, 0, 0, 0, 0, 0
sweep_non_canonical:
    .quad 0x0000800000000000
sweep_unmasked: /* of the x87: every exception is raised, by the next instruction that waits */
    .word 0x0340

    .bss
    .balign 8
    .globl sweep_stack, sweep_resume
sweep_stack:
    .skip 8
sweep_resume:
    .skip 8
sweep_touched:
    .skip 8

    .section .note.GNU-stack, "", @progbits
