/* SPDX-License-Identifier: MIT */
/* The loops of the threads that the walker meets on its path, each in a space of its own. */
#include "user/tests/sweep/pattern.inc"

    .set INFO_EXTRA, 1 << 28 /* helpers.c asserts */
    .set COPY_BYTES, 5000    /* sweep.h */
    .set SMALL_BYTES, 32
    .set E_CANCELED, -9
    .set BIT_NMI, 0          /* enum sweep_bit */
    .set BIT_IRQ, 1
    .set SHARED_NMIS, 0 /* struct sweep_shared */
    .set SHARED_IRQS, 8
    .set SHARED_WAKES, 16

    .text
/*
 * Above everybody: whatever the event, the next user instruction must be sweep_woken, in here.
 * Acknowledging tells how often the line came.
 */
GLOBAL sweep_waiter_loop
    mov %rsp, sweep_stack(%rip)
1:  PATTERN
    mov sweep_notification(%rip), %rsi
    mov $-1, %rdx
    mov $SYS_wait, %eax
    cmp %eax, %eax /* the flags, too, as in each round */
    .globl sweep_wait, sweep_woken
sweep_wait:
    syscall
sweep_woken:
    CHECK_KEPT
    test %rax, %rax
    jnz sweep_fail
    mov %rdx, %rbx
    mov sweep_shared(%rip), %rbp
    incq SHARED_WAKES(%rbp)
    bt $BIT_NMI, %rbx
    jnc 2f
    mov sweep_nmi_line(%rip), %rsi
    mov $SYS_irq_ack, %eax
    syscall
    add %rdx, SHARED_NMIS(%rbp)
2:  bt $BIT_IRQ, %rbx
    jnc 1b
    mov sweep_irq_line(%rip), %rsi
    mov $SYS_irq_ack, %eax
    syscall
    add %rdx, SHARED_IRQS(%rbp)
    jmp 1b
    END sweep_waiter_loop

/* A driver: waits for its line, acknowledges. Below the waiter, above the walker. */
GLOBAL sweep_device_loop
    mov %rsp, sweep_stack(%rip)
1:  PATTERN
    mov sweep_device_line(%rip), %rsi
    mov $SYS_irq_ack, %eax
    .globl sweep_device_ack
sweep_device_ack:
    syscall
    CHECK_KEPT
    mov sweep_notification(%rip), %rsi
    mov $-1, %rdx
    mov $SYS_wait, %eax
    .globl sweep_device, sweep_device_after
sweep_device:
    syscall
sweep_device_after:
    CHECK_KEPT
    jmp 1b
    END sweep_device_loop

/* Of the walker's priority. */
    LOOP yield_back
    STRIKE yield_back, SYS_yield

/* Below the walker, which it wakes. */
    LOOP signal
    mov sweep_notification(%rip), %rsi
    mov $1, %edx
    STRIKE signal, SYS_signal

GLOBAL sweep_server_loop
    mov %rsp, sweep_stack(%rip)
    mov sweep_endpoint(%rip), %rsi
    xor %edx, %edx
    mov $SYS_receive, %eax
    syscall
    jmp sweep_reply_after
1:  PATTERN sweep_answer
    mov sweep_endpoint(%rip), %rsi
    xor %edx, %edx
    mov $SYS_reply_receive, %eax
    .globl sweep_reply, sweep_reply_after
sweep_reply:
    syscall
sweep_reply_after:
    CHECK_KEPT sweep_words
    jmp 1b
    END sweep_server_loop

/* A server that turns its caller into a capability, and answers by that. */
GLOBAL sweep_saver_loop
    mov %rsp, sweep_stack(%rip)
1:  PATTERN
    mov sweep_endpoint(%rip), %rsi
    xor %edx, %edx
    mov $SYS_receive, %eax
    syscall
    CHECK_KEPT
    PATTERN
    mov sweep_quota(%rip), %rsi
    mov $SYS_reply_save, %eax
    .globl sweep_save, sweep_save_after
sweep_save:
    syscall
sweep_save_after:
    CHECK_KEPT
    test %rax, %rax
    jnz sweep_fail
    mov %rdx, sweep_saved(%rip)
    PATTERN sweep_answer
    mov sweep_saved(%rip), %rsi
    xor %edx, %edx
    mov $SYS_reply, %eax
    .globl sweep_answer_saved, sweep_answer_saved_after
sweep_answer_saved:
    syscall
sweep_answer_saved_after:
    CHECK_KEPT sweep_answer
    test %rax, %rax
    jnz sweep_fail
    mov sweep_saved(%rip), %rsi
    mov $SYS_cap_delete, %eax
    syscall
    jmp 1b
    END sweep_saver_loop

/* Sends what is missing, to one who receives it, and nobody brings it: a copy that is cancelled. */
GLOBAL sweep_driver_loop
    mov %rsp, sweep_stack(%rip)
1:  PATTERN
    mov sweep_endpoint(%rip), %rsi
    mov $INFO_EXTRA | COPY_BYTES, %edx
    lea sweep_message(%rip), %r8
    mov $-1, %r9
    mov $SYS_call, %eax
    .globl sweep_driver, sweep_driver_after
sweep_driver:
    syscall
sweep_driver_after:
    CHECK_KEPT
    cmp $E_CANCELED, %rax
    jne sweep_fail
    jmp 1b
    END sweep_driver_loop

GLOBAL sweep_driven_loop
    mov %rsp, sweep_stack(%rip)
1:  PATTERN
    mov sweep_endpoint(%rip), %rsi
    mov $INFO_EXTRA, %edx
    lea sweep_message(%rip), %r8
    mov $-1, %r9
    mov $SYS_receive, %eax
    syscall
    CHECK_KEPT
    cmp $E_CANCELED, %rax
    jne sweep_fail
    jmp 1b
    END sweep_driven_loop

/* Of the fault endpoint: FAULT_RESUME is no label, and no words matter. */
GLOBAL sweep_resumer_loop
    mov %rsp, sweep_stack(%rip)
    mov sweep_endpoint(%rip), %rsi
    xor %edx, %edx
    mov $SYS_receive, %eax
    syscall
    jmp sweep_resume_fault_after
1:  PATTERN
    mov sweep_endpoint(%rip), %rsi
    xor %edx, %edx
    mov $SYS_reply_receive, %eax
    .globl sweep_resume_fault, sweep_resume_fault_after
sweep_resume_fault:
    syscall
sweep_resume_fault_after:
    cmp $3, %rbx /* the vector */
    jne sweep_fail
    COMPARE sweep_stack(%rip), %rsp
    jmp 1b
    END sweep_resumer_loop

/* As the server, with so many bytes each way. */
.macro COPIER name, bytes
GLOBAL sweep_\name\()_loop
    mov %rsp, sweep_stack(%rip)
    mov sweep_endpoint(%rip), %rsi
    mov $INFO_EXTRA, %edx
    lea sweep_message(%rip), %r8
    mov $-1, %r9
    mov $SYS_receive, %eax
    syscall
    jmp sweep_\name\()_after
1:  PATTERN sweep_answer
    mov sweep_endpoint(%rip), %rsi
    mov $INFO_EXTRA | \bytes, %edx
    lea sweep_message(%rip), %r8
    mov $-1, %r9
    mov $SYS_reply_receive, %eax
    .globl sweep_\name, sweep_\name\()_after
sweep_\name:
    syscall
sweep_\name\()_after:
    CHECK_KEPT sweep_words
    cmp $\bytes, %rax
    jne sweep_fail
    mov $\bytes, %edx
    call sweep_compare
    jmp 1b
    END sweep_\name\()_loop
.endm

    COPIER copy_back, COPY_BYTES
    COPIER small_back, SMALL_BYTES

    .bss
    .balign 8
sweep_saved:
    .skip 8

    .section .note.GNU-stack, "", @progbits
