/* SPDX-License-Identifier: MIT */
/*
 * A deliberately naive kernel in one file: what the harness is tried on.
 *
 * It does what many small kernels do, and the sweep shows what an NMI makes of it:
 *   - a kernel stack for each thread; RSP0 and a per-CPU word hold the running one's top;
 *   - SYSCALL, which leaves RSP and GS as the user had them until the stub has changed both;
 *   - `swapgs` if and only if the interrupted CS was ring 3, in the NMI handler too;
 *   - NMI without an IST entry: its frame goes wherever RSP points, the user's stack included.
 * Do not mend it.
 *
 * Identity mapped: kernel at 2 MiB, the user's page at 4 MiB. Two user threads: A checks
 * itself for ever (system call, then yield), B only yields.
 */
    .set KCODE, 0x08
    .set KDATA, 0x10
    .set UDATA, 0x18 | 3
    .set UCODE, 0x20 | 3
    .set TSS, 0x28
    .set LAPIC, 0xfee00000
    .set COM1, 0x3f8
    .set BREAKPOINT, 3
    .set FIRST_IRQ, 0x20
    .set TIMER_VECTOR, 0x20
    .set TIMER_PERIOD, 2000000
    .set STACK_SIZE, 4096
    .set FRAME_VECTOR, 15 * 8         /* in the frame that trap_common builds */
    .set FRAME_RIP, 17 * 8
    .set FRAME_CS, 18 * 8
    .set CPU_KERNEL_RSP, 0            /* per-CPU words, relative to the kernel's GS */
    .set CPU_USER_RSP, 8
    .set CPU_NMIS, 16
    .set CPU_TICKS, 24
    .set SYS_NULL, 0
    .set SYS_YIELD, 1
    .set SYS_PUTC, 2
    .set SYS_COPY, 3
    .set COPY_BYTES, 1000

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
    .macro set_msr msr, low, high
    mov $\msr, %ecx
    mov $\low, %eax
    mov $\high, %edx
    wrmsr
    .endm

    .section .note.pvh, "a", @note
    .long 4, 4, 18
    .asciz "Xen"
    .long start32

/* ------------------------------------------------------------------ boot */
    .section .text.boot, "ax"
    .code32
/* From QEMU's PVH loader: protected mode, no paging, IF=0, no stack. */
function start32
    mov $boot_stack_top, %esp
    movl $pdpt + 7, pml4
    movl $pd_low + 7, pdpt
    movl $pd_high + 7, pdpt + 3 * 8
    mov $0, %ecx
1:  mov %ecx, %eax                    /* 512 pages of 2 MiB from 0, supervisor, writable */
    shl $21, %eax
    or $0x83, %eax
    mov %eax, pd_low(, %ecx, 8)
    inc %ecx
    cmp $512, %ecx
    jne 1b
    orl $4, pd_low + 2 * 8            /* the one at 4 MiB is the user's */
    movl $LAPIC & ~0x1fffff | 0x9b, pd_high + ((LAPIC >> 21) & 511) * 8
    mov $pml4, %eax
    mov %eax, %cr3
    mov $0x620, %eax                  /* PAE, OSFXSR, OSXMMEXCPT; not MCE */
    mov %eax, %cr4
    set_msr 0xc0000080, 0x101, 0      /* EFER: SCE, LME */
    mov $0x80010031, %eax             /* PG, WP, NE, ET, PE */
    mov %eax, %cr0
    lgdt gdtr
    ljmp $KCODE, $start64
end start32

    .code64
/* From start32. Long mode, boot stack, IF=0. Leaves through thread A's first iretq. */
function start64
    mov $KDATA, %eax
    mov %ax, %ss
    xor %eax, %eax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %fs
    mov %ax, %gs
    lea tss(%rip), %rax               /* the TSS descriptor's base */
    mov %ax, gdt + TSS + 2
    shr $16, %rax
    mov %al, gdt + TSS + 4
    shr $8, %eax
    mov %al, gdt + TSS + 7
    mov $TSS, %eax
    ltr %ax
    xor %ecx, %ecx
    mov $vector_stubs, %ebx
1:  call set_gate
    add $16, %ebx
    inc %ecx
    cmp $256, %ecx
    jne 1b
    mov $2, %ecx
    mov $nmi_entry, %ebx
    call set_gate
    lidt idtr
    set_msr 0xc0000081, 0, (KDATA | 3) << 16 | KCODE    /* STAR */
    set_msr 0xc0000082, syscall_entry, 0                /* LSTAR */
    set_msr 0xc0000084, 0x47700, 0                      /* SFMASK: IF, TF, DF, IOPL, NT, AC */
    set_msr 0xc0000101, percpu, 0                       /* GS base while the kernel runs */
    set_msr 0xc0000102, user_tls, 0                     /* GS base after swapgs */
    mov $0xff, %al
    out %al, $0x21
    out %al, $0xa1
    mov $LAPIC, %edi
    movl $0x1ff, 0xf0(%rdi)                           /* on, spurious vector 0xff */
    movl $0x400, 0x360(%rdi)                          /* LINT1 is NMI */
    movl $0xb, 0x3e0(%rdi)
    movl $0x20000 | TIMER_VECTOR, 0x320(%rdi)         /* periodic */
    movl $TIMER_PERIOD, 0x380(%rdi)
    mov $message_ready, %esi
    call print
    mov $stack_a_top, %eax
    mov %rax, percpu + CPU_KERNEL_RSP
    mov %rax, tss + 4
    mov stack_of_a, %rsp
    jmp switched
end start64

/* ecx = vector, ebx = handler below 4 GiB: an interrupt gate, DPL 0, no IST. */
function set_gate
    mov %ecx, %eax
    shl $4, %eax
    mov %bx, idt(%eax)
    movw $KCODE, idt + 2(%eax)
    movw $0x8e00, idt + 4(%eax)
    mov %ebx, %edx
    shr $16, %edx
    mov %dx, idt + 6(%eax)
    ret
end set_gate

/* ------------------------------------------------------------ interrupts */
    .text
    .balign 16
/* From the CPU through the IDT: 256 stubs of 16 bytes that make all frames alike. */
function vector_stubs
    .set vector, 0
    .rept 256
    .balign 16, 0xcc
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
    push $0
    .endif
    push $vector
    jmp trap_common
    .set vector, vector + 1
    .endr
end vector_stubs

/*
 * From a vector stub, with the vector and an error code pushed: thread's kernel stack, IF=0. Up
 * to the `swapgs` an NMI finds ring 0 in CS and the user's GS: hole 1; after the last one again.
 */
function trap_common
    testb $3, 24(%rsp)
    jz 1f
    swapgs
1:  push %rax
    push %rbx
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %rbp
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    cld
    cmpq $BREAKPOINT, FRAME_VECTOR(%rsp)
    je trap_return
    cmpq $FIRST_IRQ, FRAME_VECTOR(%rsp)
    jb panic
    mov $LAPIC, %edi
    movl $0, 0xb0(%rdi)             /* end of interrupt */
    cmpq $TIMER_VECTOR, FRAME_VECTOR(%rsp)
    jne trap_return
    incq %gs:CPU_TICKS
    testb $3, FRAME_CS(%rsp)
    jz trap_return
    call yield
trap_return:
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rbp
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rbx
    pop %rax
    testb $3, 24(%rsp)
    jz 1f
    swapgs
1:  add $16, %rsp
    iretq
end trap_common

/* From the CPU, on whatever stack was in use if it was ring 0. Trusts CS to tell whose GS it is. */
function nmi_entry
    testb $3, 8(%rsp)
    jz 1f
    swapgs
1:  incq %gs:CPU_NMIS
nmi_nop:
    nop                               /* the harness plants a breakpoint here */
    testb $3, 8(%rsp)
    jz 2f
    swapgs
2:  iretq
end nmi_entry

/* ----------------------------------------------------------- system calls */
/*
 * From user mode by SYSCALL: user's RSP and GS, IF=0, rcx = rip, r11 = rflags. On the first
 * two instructions an NMI is pushed on the user's stack, over its red zone: hole 2; on the
 * first, it also counts itself in the user's memory: hole 1.
 */
function syscall_entry
    swapgs
    mov %rsp, %gs:CPU_USER_RSP
    mov %gs:CPU_KERNEL_RSP, %rsp
    push %gs:CPU_USER_RSP
    push %r11
    push %rcx
    sti
    cmp $SYS_YIELD, %eax
    je 1f
    cmp $SYS_PUTC, %eax
    je 2f
    cmp $SYS_COPY, %eax
    je 3f
    xor %eax, %eax
    jmp syscall_exit
1:  cli
    call yield
    xor %eax, %eax
    jmp syscall_exit
2:  mov %edi, %eax
    mov $COM1, %edx
    out %al, %dx
    xor %eax, %eax
    jmp syscall_exit
3:  push %rsi                         /* from one kernel buffer to another */
    push %rdi
    mov $copy_source, %esi
    mov $copy_target, %edi
    mov $COPY_BYTES, %ecx
copy_bytes:
    rep movsb
    pop %rdi
    pop %rsi
    mov %ecx, %eax
syscall_exit:
    cli
    pop %rcx
    pop %r11
    pop %rsp                          /* hole 2 again, to the end */
    swapgs                            /* and hole 1 */
    sysretq
end syscall_entry

/* -------------------------------------------------------------- threads */
/* IF=0. Keeps what a system call must not change on this thread's stack; goes on with the other's. */
function yield
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    push %rdx
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    mov current, %eax
    mov %rsp, stack_of_a(, %rax, 8)
    xor $1, %eax
    mov %eax, current
    mov top_of_a(, %rax, 8), %rcx
    mov %rcx, %gs:CPU_KERNEL_RSP
    mov %rcx, tss + 4
    mov stack_of_a(, %rax, 8), %rsp
switched:
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rdx
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
end yield

/* A thread's first return address: its kernel stack holds an iretq frame. */
function thread_start
    swapgs
    iretq
end thread_start

/* ---------------------------------------------------------------- panic */
/* From trap_common on an exception; rsp = the frame. Does not return. */
function panic
    mov $message_panic, %esi
    call print
    mov FRAME_VECTOR(%rsp), %rbx
    call print_hex
    mov $message_rip, %esi
    call print
    mov FRAME_RIP(%rsp), %rbx
    call print_hex
    mov $message_end, %esi
    call print
1:  cli
    hlt
    jmp 1b
end panic

/* rsi = text ended by a zero byte. */
function print
    mov $COM1, %edx
1:  lodsb
    test %al, %al
    jz 2f
    out %al, %dx
    jmp 1b
2:  ret
end print

/* rbx = number: sixteen digits. */
function print_hex
    mov $COM1, %edx
    mov $16, %ecx
1:  rol $4, %rbx
    mov %ebx, %eax
    and $15, %eax
    mov digits(%rax), %al
    out %al, %dx
    dec %ecx
    jnz 1b
    ret
end print_hex

/* ------------------------------------------------------------- user mode */
    .section .user, "awx"             /* naive here too: code and data in one page */

/* Thread A: patterns in all registers, the red zone and GS memory; a system call; all still there? */
function user_a
    mov $SYS_PUTC, %eax
    mov $'A', %edi
    syscall
user_loop:
    mov $0x11111111, %ebx
    mov $0x22222222, %ebp
    mov $0x33333333, %edx
    mov $0x44444444, %esi
    mov $0x55555555, %edi
    mov $0x66666666, %r8d
    mov $0x77777777, %r9d
    mov $0x88888888, %r10d
    mov $0x99999999, %r12d
    mov $0xaaaaaaaa, %r13d
    mov $0xbbbbbbbb, %r14d
    mov $0xcccccccc, %r15d
    movl $0x12345678, -8(%rsp)        /* the red zone */
    movl $0x9abcdef0, -24(%rsp)
    mov $SYS_NULL, %eax
user_null:
    syscall
user_null_after:
    cmpl $0x12345678, -8(%rsp)
    jne user_fail
    cmpl $0x9abcdef0, -24(%rsp)
    jne user_fail
    cmpl $0, %gs:CPU_NMIS             /* user_tls: is an NMI counted in it? */
    jne user_fail
    mov $SYS_COPY, %eax
user_copy:
    syscall
user_copy_after:
    mov $SYS_YIELD, %eax
user_yield:
    syscall
user_yield_after:
    cmp $0x11111111, %rbx
    jne user_fail
    cmp $0x22222222, %rbp
    jne user_fail
    cmp $0x33333333, %rdx
    jne user_fail
    cmp $0x44444444, %rsi
    jne user_fail
    cmp $0x55555555, %rdi
    jne user_fail
    cmp $0x66666666, %r8
    jne user_fail
    cmp $0x77777777, %r9
    jne user_fail
    mov $0x99999999, %eax
    cmp %rax, %r12
    jne user_fail
    cmpl $0x12345678, -8(%rsp)
    jne user_fail
    cmpl $0x9abcdef0, -24(%rsp)
    jne user_fail
    jmp user_loop
user_fail:
    mov $SYS_PUTC, %eax
    mov $'!', %edi
    syscall
    ud2
end user_a

/* Thread B. */
function user_b
    mov $SYS_YIELD, %eax
    syscall
    jmp user_b
end user_b

    .balign 64
object user_tls, 64
    .fill 8, 8, 0
    .fill 256, 8, 0
object user_stack_a_top, 0
    .fill 256, 8, 0
object user_stack_b_top, 0
    .fill 8, 8, 0

/* ------------------------------------------------------------------ data */
    .data
    .balign 16
gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff
    .quad 0x0000890000000067, 0
gdtr:
    .word gdtr - gdt - 1
    .long gdt, 0
idtr:
    .word 256 * 16 - 1
    .quad idt
object stack_of_a, 16                 /* saved kernel RSP of A, then B */
    .quad stack_a_top - 18 * 8, stack_b_top - 18 * 8
object top_of_a, 16
    .quad stack_a_top, stack_b_top
message_ready:
    .asciz "toy: ready\n"
message_panic:
    .asciz "toy: panic: vector "
message_rip:
    .asciz " rip "
message_end:
    .asciz "\n"
digits:
    .ascii "0123456789abcdef"

    .balign 16
    .fill STACK_SIZE - 18 * 8, 1, 0   /* thread A's stack: twelve registers, then its first frame */
    .fill 12, 8, 0
    .quad thread_start, user_a, UCODE, 0x202, user_stack_a_top, UDATA
object stack_a_top, 0
    .fill STACK_SIZE - 18 * 8, 1, 0
    .fill 12, 8, 0
    .quad thread_start, user_b, UCODE, 0x202, user_stack_b_top, UDATA
object stack_b_top, 0

    .bss
    .balign 4096
pml4:
    .skip 4096
pdpt:
    .skip 4096
pd_low:
    .skip 4096
pd_high:
    .skip 4096
object idt, 4096
    .skip 4096
    .balign 16
object percpu, 32
    .skip 32
object copy_source, COPY_BYTES
    .skip COPY_BYTES
object copy_target, COPY_BYTES
    .skip COPY_BYTES
object current, 4
    .skip 4
    .balign 16
    .skip 4                           /* so that RSP0, at 4, is aligned */
object tss, 104
    .skip 102
    .skip 2
    .balign 16
    .skip STACK_SIZE
boot_stack_top:
    .section .note.GNU-stack, "", @progbits
