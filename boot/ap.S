/* SPDX-License-Identifier: MIT */
/*
 * Where an application processor starts: Intel SDM vol. 3, 8.4.4 (MP initialisation). The startup
 * IPI names a page below 1 MiB; kernel/arch/smp.c copies ap_trampoline there. The copy needs no patching: what it
 * reads it finds through %cs, and where it jumps is linked at its physical address.
 */
#include "boot/boot_asm.h"
#include "kernel/arch/lapic.h"
#include "kernel/arch/layout.h"

#define CR0_PE_ET 0x11

        /* Data to the kernel, which copies it; executed only as the copy. */
        .section .rodata
        .code16
/*
 * An application processor after its SIPI: real mode, %cs:0 = the page, IF=0. No stack. NMIs are
 * not masked by hardware: N8 sees to it that none comes.
 */
        .globl  ap_trampoline, ap_trampoline_end
        .type   ap_trampoline, @object
ap_trampoline:
        cli
        cld
        lgdtl   %cs:gdt_pointer - ap_trampoline
        movl    $CR0_PE_ET, %eax
        movl    %eax, %cr0
        ljmpl   $BOOT_CS32, $ap_protected
gdt_pointer:
        .short  BOOT_GDT_LIMIT
        .long   boot_gdt
ap_trampoline_end:
        .size   ap_trampoline, . - ap_trampoline

        .section .boot.text, "ax"
        .code32
/* From the trampoline, in 32-bit code at its link address: on with the boot processor's path. */
        .type   ap_protected, @function
ap_protected:
        movl    $BOOT_AP, %ebp
        jmp     enter_long_mode
        .size   ap_protected, . - ap_protected

        .text
        .code64
/*
 * From start.S: long mode, high half, boot page tables, still no stack. With the kernel's page tables
 * the local APIC can be asked for its id, the one that the startup IPI went to: it says which core
 * this is, so that numbers are the same at every boot. Then the core's own kernel stack, and C.
 */
        .globl  ap_high_half
        .type   ap_high_half, @function
ap_high_half:
        movq    smp_cr3(%rip), %rax
        movq    %rax, %cr3
        movl    LAPIC_BASE + LAPIC_ID, %ebx
        shrl    $24, %ebx
        movzbl  smp_core_of_apic(%rbx), %ebx
        cmpl    $MAX_CORES, %ebx        /* another id than it was started by: no stack for it */
        jae     1f
        movl    %ebx, %edi
        imulq   $CORE_AREA_SIZE, %rbx, %rbx
        /* The top word holds the core's address (E4); 16 keep the ABI's alignment. */
        leaq    CORE_AREA_BASE + CORE_STACK_TOP(STACK_KERNEL) - 16(%rbx), %rsp
        xorl    %ebp, %ebp
        call    smp_arrived
1:      cli
        hlt
        jmp     1b
        .size   ap_high_half, . - ap_high_half

        .section .note.GNU-stack, "", @progbits
