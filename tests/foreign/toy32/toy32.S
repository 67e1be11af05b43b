/* SPDX-License-Identifier: MIT */
/*
 * A naive 32-bit protected mode kernel in one file, for the harness to be tried on: Multiboot, no
 * paging, one user process, `int $0x80`. It never uses LINT1, which it masks, so QEMU's own NMI
 * does nothing to it.
 *
 * GS finds the per-CPU words while the kernel runs. The stubs load it after they have saved the
 * user's, and the NMI handler trusts CS to tell whose it is: between the gate and the load, and
 * between the restore and the `iret`, an NMI counts itself in the user's memory. The frame itself
 * goes to the kernel's stack: the CPU has switched by then, as there is no SYSCALL here.
 * Do not mend it.
 */
    .set KCODE, 0x08
    .set KDATA, 0x10
    .set UCODE, 0x18 | 3
    .set UDATA, 0x20 | 3
    .set KPERCPU, 0x28
    .set UTLS, 0x30 | 3
    .set TSS, 0x38
    .set LAPIC, 0xfee00000
    .set COM1, 0x3f8
    .set SYSCALL_VECTOR, 0x80
    .set FIRST_IRQ, 0x20
    .set FRAME_VECTOR, 9 * 4          /* in the frame that trap_common builds */
    .set FRAME_EIP, 11 * 4
    .set FRAME_CS, 12 * 4
    .set CPU_NMIS, 0
    .set CPU_CALLS, 4

    .macro function name
    .globl \name
    .type \name, @function
\name:
    .endm
    .macro end name
    .size \name, . - \name
    .endm
    .macro object name, size
    .globl \name
    .type \name, @object
    .size \name, \size
\name:
    .endm
    .macro set_base entry, base       /* the base of a descriptor */
    mov $\base, %eax
    mov %ax, gdt + \entry + 2
    shr $16, %eax
    mov %al, gdt + \entry + 4
    mov %ah, gdt + \entry + 7
    .endm

    .code32
    .text
    .balign 4
    .long 0x1badb002, 0, -0x1badb002  /* Multiboot: first in the file */

/* From the boot loader: protected mode, flat segments of its own, IF=0, no stack. */
function start
    mov $kernel_stack_top, %esp
    set_base KPERCPU, percpu
    set_base UTLS & ~3, user_tls
    set_base TSS, tss
    lgdt gdtr
    ljmp $KCODE, $1f
1:  mov $KDATA, %eax
    mov %ax, %ss
    mov %ax, %ds
    mov %ax, %es
    mov $TSS, %eax
    ltr %ax
    xor %ecx, %ecx
    mov $vector_stubs, %ebx
2:  call set_gate
    add $16, %ebx
    inc %ecx
    cmp $256, %ecx
    jne 2b
    mov $2, %ecx
    mov $nmi_entry, %ebx
    call set_gate
    mov $SYSCALL_VECTOR, %ecx
    mov $syscall_entry, %ebx
    call set_gate
    orb $0x60, idt + SYSCALL_VECTOR * 8 + 5             /* for user mode */
    lidt idtr
    mov $0xff, %al
    out %al, $0x21
    out %al, $0xa1
    movl $0x1ff, LAPIC + 0xf0                           /* on */
    movl $0x10000, LAPIC + 0x360                        /* LINT1 masked */
    mov $message_ready, %esi
    call print
    mov $UTLS, %eax
    mov %ax, %gs
    mov $UDATA, %eax
    mov %ax, %ds
    mov %ax, %es
    push $UDATA
    push $user_stack_top
    push $0x202
    push $UCODE
    push $user_loop
    iret
end start

/* ecx = vector, ebx = handler: an interrupt gate, DPL 0. */
function set_gate
    mov %bx, idt(, %ecx, 8)
    movw $KCODE, idt + 2(, %ecx, 8)
    movw $0x8e00, idt + 4(, %ecx, 8)
    mov %ebx, %edx
    shr $16, %edx
    mov %dx, idt + 6(, %ecx, 8)
    ret
end set_gate

/* From the CPU through the IDT: 256 stubs of 16 bytes that make all frames alike. */
    .balign 16
function vector_stubs
    .set vector, 0
    .rept 256
    .balign 16, 0xcc
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
    push $0
    .endif
    push $vector
    jmp trap_common
    .set vector, vector + 1
    .endr
end vector_stubs

/* From a vector stub: kernel stack, IF=0. An interrupt is acknowledged, an exception is an end. */
function trap_common
    push %gs
    pusha
    mov $KPERCPU, %eax
    mov %ax, %gs
    cmpl $FIRST_IRQ, FRAME_VECTOR(%esp)
    jb trap_exception
    movl $0, LAPIC + 0xb0
    popa
    pop %gs
    add $8, %esp
    iret
trap_exception:
    testb $3, FRAME_CS(%esp)
    jz panic
    mov $message_killed, %esi
    jmp report
end trap_common

/* From the CPU, on the kernel's stack always. Trusts CS to tell whose GS it is. */
function nmi_entry
    push %eax
    testb $3, 8(%esp)
    jz 1f
    push %gs
    mov $KPERCPU, %eax
    mov %ax, %gs
    incl %gs:CPU_NMIS
    pop %gs
    jmp 2f
1:  incl %gs:CPU_NMIS
2:
nmi_room:                             /* the harness plants faults here */
    nopl 0(%eax, %eax)
    nopl 0(%eax, %eax)
    pop %eax
    iret
end nmi_entry

/* From user mode by `int $0x80`: kernel stack, IF=0. Counts the call. */
function syscall_entry
    push %gs
    push %ecx
    mov $KPERCPU, %ecx
    mov %cx, %gs
    sti
    incl %gs:CPU_CALLS
    xor %eax, %eax
    cli
    pop %ecx
    pop %gs
    iret
end syscall_entry

/* ---------------------------------------------------------------- ends */
/* From trap_common on an exception in ring 0; esp = the frame. Does not return. */
function panic
    mov $message_panic, %esi
    jmp report
end panic

/* esi = what to say; esp = the frame. Does not return. */
function report
    call print
    mov FRAME_VECTOR(%esp), %ebx
    call print_hex
    mov $message_eip, %esi
    call print
    mov FRAME_EIP(%esp), %ebx
    call print_hex
    mov $message_end, %esi
    call print
1:  cli
    hlt
    jmp 1b
end report

/* esi = text ended by a zero byte. */
function print
    mov $COM1, %edx
1:  lodsb
    test %al, %al
    jz 2f
    out %al, %dx
    jmp 1b
2:  ret
end print

/* ebx = number: eight digits. */
function print_hex
    mov $COM1, %edx
    mov $8, %ecx
1:  rol $4, %ebx
    mov %ebx, %eax
    and $15, %eax
    mov digits(%eax), %al
    out %al, %dx
    loop 1b
    ret
end print_hex

/* ------------------------------------------------------------- user mode */
/* Patterns in all registers; a system call; all still there? */
function user_loop
    mov $0x11111111, %ebx
    mov $0x22222222, %ebp
    mov $0x33333333, %edx
    mov $0x44444444, %esi
    mov $0x55555555, %edi
    mov $0x66666666, %ecx
user_null:
    int $SYSCALL_VECTOR
user_null_after:
    cmp $0x11111111, %ebx
    jne user_ud2
    cmp $0x66666666, %ecx
    jne user_ud2
    jmp user_loop
user_ud2:
    ud2
end user_loop

/* ------------------------------------------------------------------ data */
    .data
    .balign 16
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff
    .quad 0x004093000000003f, 0x0040f3000000003f, 0x0000890000000067
gdtr:
    .word gdtr - gdt - 1
    .long gdt
idtr:
    .word 256 * 8 - 1
    .long idt
    .balign 4
object tss, 104
    .long 0, kernel_stack_top, KDATA
    .fill 92, 1, 0
message_ready:
    .asciz "toy32: ready\n"
message_panic:
    .asciz "toy32: panic: vector "
message_killed:
    .asciz "toy32: process killed: vector "
message_eip:
    .asciz " eip "
message_end:
    .asciz "\n"
digits:
    .ascii "0123456789abcdef"

    .bss
    .balign 64
object user_tls, 64
    .skip 64
object percpu, 64
    .skip 64
    .skip 1024
object user_stack_top, 0
object idt, 2048
    .skip 2048
object kernel_stack, 4096
    .skip 4096
object kernel_stack_top, 0
    .skip 4
    .section .note.GNU-stack, "", @progbits
