/* SPDX-License-Identifier: MIT */
/*
 * From the loader to C: two 32-bit entries, one path through the mode switches, the high half.
 * IF=0 throughout, and there is no IDT: a fault or an NMI in here is a triple fault (N8).
 * Intel SDM vol. 3, 9.8.5 (entering IA-32e mode).
 */
#include "boot/boot_asm.h"
#include "boot/bootinfo.h"
#include "kernel/arch/debug_exit.h"
#include "kernel/arch/layout.h"
#include "kernel/arch/uart.h"

#define MULTIBOOT2_LOADER_MAGIC 0x36d76289

#define CR0_BOOT 0x80010033             /* PG, WP, NE, ET, MP, PE; CD and NW clear */
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define EFER_NXE 0x800
#define EFLAGS_ID 0x200000
#define CPUID_EXTENDED 0x80000000
#define CPUID_FEATURES 0x80000001
#define CPUID_NX 0x00100000
#define CPUID_LONG_MODE 0x20000000

        .section .boot.text, "ax"
        .code32

/*
 * QEMU -kernel, by the PVH note (Xen docs/misc/pvh.pandoc): 32-bit protected mode, flat segments,
 * no paging, no stack. %ebx = physical address of hvm_start_info.
 */
        .globl  pvh_entry
        .type   pvh_entry, @function
pvh_entry:
        movl    $BOOT_PVH, %ebp
        jmp     boot_processor
        .size   pvh_entry, . - pvh_entry

/*
 * GRUB, under BIOS and UEFI alike (Multiboot2 specification 2.0, 3.2): as above, but with
 * %eax = magic and %ebx = physical address of the information. Also the entry in the ELF header.
 */
        .globl  multiboot2_entry
        .type   multiboot2_entry, @function
multiboot2_entry:
        movl    $BOOT_MULTIBOOT2, %ebp
        cmpl    $MULTIBOOT2_LOADER_MAGIC, %eax
        je      boot_processor
        movl    $message_loader, %esi
        jmp     refuse
        .size   multiboot2_entry, . - multiboot2_entry

/* Both entries meet here: %ebp = BOOT_…, %ebx = information. First a stack, then the checks. */
        .type   boot_processor, @function
boot_processor:
        cli
        cld
        movl    $boot_stack_top - KERNEL_BASE, %esp

        /* No CPUID, unless EFLAGS.ID can be changed. */
        pushfl
        popl    %eax
        movl    %eax, %ecx
        xorl    $EFLAGS_ID, %eax
        pushl   %eax
        popfl
        pushfl
        popl    %eax
        movl    $message_cpuid, %esi
        cmpl    %ecx, %eax
        je      refuse

        /* CPUID writes %ebx. */
        movl    %ebx, %edi
        movl    $message_long_mode, %esi
        movl    $CPUID_EXTENDED, %eax
        cpuid
        cmpl    $CPUID_FEATURES, %eax
        jb      refuse
        movl    $CPUID_FEATURES, %eax
        cpuid
        testl   $CPUID_LONG_MODE, %edx
        jz      refuse
        /* Here and not in C: to set EFER.NXE without it is a fault. */
        movl    $message_nx, %esi
        testl   $CPUID_NX, %edx
        jz      refuse
        movl    %edi, %ebx

        lgdtl   boot_gdt_pointer
        ljmpl   $BOOT_CS32, $enter_long_mode
        .size   boot_processor, . - boot_processor

/*
 * The boot processor from above, application processors from ap.S with %ebp = BOOT_AP and without
 * a stack. boot_gdt is loaded, CS is BOOT_CS32, paging is off. Each control register is written
 * whole, because firmware leaves its own bits behind (CD and NW on Bochs, much of CR4 under UEFI).
 */
        .globl  enter_long_mode
        .type   enter_long_mode, @function
enter_long_mode:
        movl    $BOOT_DS, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        xorl    %eax, %eax
        movl    %eax, %fs
        movl    %eax, %gs

        movl    $CR4_PAE, %eax
        movl    %eax, %cr4
        movl    $boot_pml4, %eax
        movl    %eax, %cr3
        movl    $MSR_EFER, %ecx
        rdmsr
        orl     $EFER_LME | EFER_NXE, %eax
        wrmsr
        movl    $CR0_BOOT, %eax
        movl    %eax, %cr0
        ljmpl   $BOOT_CS64, $long_mode
        .size   enter_long_mode, . - enter_long_mode

        .code64
/* Long mode at last, still at the physical address: a near jump does not reach the high half. */
        .type   long_mode, @function
long_mode:
        movabsq $high_half, %rax
        jmpq    *%rax
        .size   long_mode, . - long_mode

        .code32
/*
 * A clean end before there is C: %esi = reason, zero-terminated. No stack needed. The same line and
 * exit code as boot_refuse() gives. Waits for the UART a bounded time, so that an absent one
 * cannot keep the machine from its exit.
 */
        .type   refuse, @function
refuse:
        movl    $uart_setup, %edi
        xorl    %edx, %edx
1:      movb    (%edi), %dl             /* port offset, then value; 0xff ends the list */
        cmpb    $0xff, %dl
        je      2f
        addl    $COM1_PORT, %edx
        movb    1(%edi), %al
        outb    %al, %dx
        addl    $2, %edi
        xorl    %edx, %edx
        jmp     1b

2:      movl    %esi, %ebx
        movl    $message_prefix, %esi
        movl    $3f, %edi
        jmp     print
3:      movl    %ebx, %esi
        movl    $4f, %edi
        jmp     print
4:      movl    $message_end, %esi
        movl    $5f, %edi
        jmp     print

5:      movl    $EXIT_BOOT_REFUSED, %eax
        movl    $DEBUG_EXIT_PORT, %edx
        outl    %eax, %dx
        xchgw   %bx, %bx                /* Bochs: magic_break */
6:      cli
        hlt
        jmp     6b
        .size   refuse, . - refuse

/*
 * %esi = text, %edi = where to go on. Waits after each byte until it is on the line, so that none is
 * left when the machine ends. Changes %eax, %ecx, %edx, %esi.
 */
        .type   print, @function
print:
        movb    (%esi), %al
        testb   %al, %al
        jz      3f
        movl    $COM1_PORT + UART_DATA, %edx
        outb    %al, %dx
        incl    %esi
        movl    $UART_POLLS_EARLY, %ecx
        movl    $COM1_PORT + UART_LINE_STATUS, %edx
1:      inb     %dx, %al
        testb   $UART_LSR_TX_DONE, %al
        jnz     print
        decl    %ecx
        jnz     1b
        jmp     print
3:      jmpl    *%edi
        .size   print, . - print

        .section .boot.rodata, "a"
uart_setup:
        .byte   UART_INTERRUPT_ENABLE, 0
        .byte   UART_LINE_CONTROL, UART_LCR_8N1 | UART_LCR_DLAB
        .byte   UART_DATA, UART_DIVISOR_115200
        .byte   UART_INTERRUPT_ENABLE, 0
        .byte   UART_LINE_CONTROL, UART_LCR_8N1
        .byte   UART_FIFO_CONTROL, UART_FCR_ENABLE_CLEAR
        .byte   UART_MODEM_CONTROL, UART_MCR_DTR_RTS_OUT2
        .byte   0xff

message_prefix:
        .asciz  "boot refused: "
message_loader:
        .asciz  "started by neither PVH nor Multiboot2"
message_cpuid:
        .asciz  "the CPU has no CPUID"
message_long_mode:
        .asciz  "the CPU has no long mode"
message_nx:
        .asciz  "the CPU lacks NX"
message_end:
        .asciz  "\r\n"

        .text
        .code64
/*
 * From long_mode, for good in the high half. The boot processor gets the boot stack; a zero in
 * %rbp ends every backtrace. Application processors go on in ap.S.
 */
        .type   high_half, @function
high_half:
        testl   %ebp, %ebp
        jz      ap_high_half
        movq    $boot_stack_top, %rsp
        movl    %ebp, %edi
        movl    %ebx, %esi
        xorl    %ebp, %ebp
        call    boot_main
        ud2
        .size   high_half, . - high_half

        .section .bss
        .align  16
        .globl  boot_stack_top
boot_stack:
        .skip   BOOT_STACK_SIZE
boot_stack_top:

        .section .note.GNU-stack, "", @progbits
