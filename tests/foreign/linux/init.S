/* SPDX-License-Identifier: MIT */
/*
 * The only program of an initramfs, for Linux or whatever has its system calls: a child that
 * fills its registers, makes a system call and looks whether they are all still there, for ever;
 * and the parent, which says so if the child is killed.
 */
    .set SYS_WRITE, 1
    .set SYS_GETPPID, 110
    .set SYS_FORK, 57
    .set SYS_WAIT4, 61
    .set SYS_PAUSE, 34

    .macro say text, bytes
    mov $SYS_WRITE, %eax
    mov $1, %edi
    lea \text(%rip), %rsi
    mov $\bytes, %edx
    syscall
    .endm
    .macro keeps register, value
    cmp $\value, \register
    jne fail
    .endm

    .text
    .globl _start
_start:
    mov $SYS_FORK, %eax
    syscall
    test %eax, %eax
    jz child
    mov $SYS_WAIT4, %eax
    mov $-1, %rdi
    xor %esi, %esi
    xor %edx, %edx
    xor %r10d, %r10d
    syscall
    say text_killed, text_killed_size
1:  mov $SYS_PAUSE, %eax
    syscall
    jmp 1b

child:
    say text_ready, text_ready_size

    .globl user_loop, user_call, user_after, user_wait, fail
user_loop:
    mov $0x11111111, %ebx
    mov $0x22222222, %ebp
    mov $0x33333333, %edx
    mov $0x44444444, %esi
    mov $0x55555555, %edi
    mov $0x66666666, %r8d
    mov $0x77777777, %r9d
    mov $0x08888888, %r10d
    mov $0x09999999, %r12d
    mov $0x0aaaaaaa, %r13d
    mov $0x0bbbbbbb, %r14d
    mov $0x0ccccccc, %r15d
    movq $0x12345678, -8(%rsp)        /* the red zone */
    movq $0x0abcdef0, -120(%rsp)
    mov $SYS_GETPPID, %eax
user_call:
    syscall
user_after:
    cmp $1, %eax
    jne fail
    keeps %rbx, 0x11111111
    keeps %rbp, 0x22222222
    keeps %rdx, 0x33333333
    keeps %rsi, 0x44444444
    keeps %rdi, 0x55555555
    keeps %r8, 0x66666666
    keeps %r9, 0x77777777
    keeps %r10, 0x08888888
    keeps %r12, 0x09999999
    keeps %r13, 0x0aaaaaaa
    keeps %r14, 0x0bbbbbbb
    keeps %r15, 0x0ccccccc
    cmpq $0x12345678, -8(%rsp)
    jne fail
    cmpq $0x0abcdef0, -120(%rsp)
    jne fail
    jmp user_loop

fail:
    say text_fail, text_fail_size
    ud2

    .section .rodata
text_ready:
    .ascii "init: looping\n"
    .set text_ready_size, . - text_ready
text_killed:
    .ascii "init: child killed\n"
    .set text_killed_size, . - text_killed
text_fail:
    .ascii "init: registers changed\n"
    .set text_fail_size, . - text_fail
    .section .note.GNU-stack, "", @progbits
