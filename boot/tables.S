/* SPDX-License-Identifier: MIT */
/*
 * Descriptor and page tables of the boot, complete as they lie in the file. They are used until the
 * kernel has its own, by each application processor once more, and then given back with the rest
 * of .boot.*. Intel SDM vol. 3, 4.5 (page tables), 3.4.5 (descriptors).
 */
#include "boot/boot_asm.h"

#define PRESENT 0x01
#define WRITABLE 0x02
#define LARGE 0x80

        .section .boot.data, "aw"

        .align  4096
        .globl  boot_pml4
boot_pml4:
        .quad   boot_pdpt_low + PRESENT + WRITABLE
        .fill   510, 8, 0
        .quad   boot_pdpt_high + PRESENT + WRITABLE

/* 0 to 4 GiB, 1:1. */
boot_pdpt_low:
        .set    i, 0
        .rept   4
        .quad   boot_pd + i * 4096 + PRESENT + WRITABLE
        .set    i, i + 1
        .endr
        .fill   508, 8, 0

/* KERNEL_BASE, the second last GiB of the address space: the first physical GiB. */
boot_pdpt_high:
        .fill   510, 8, 0
        .quad   boot_pd + PRESENT + WRITABLE
        .quad   0

boot_pd:
        .set    i, 0
        .rept   4 * 512
        .quad   i * 0x200000 + PRESENT + WRITABLE + LARGE
        .set    i, i + 1
        .endr

        .align  8
        .globl  boot_gdt
boot_gdt:
        .quad   0
        .quad   0x00cf9b000000ffff      /* BOOT_CS32: 32-bit code, base 0, 4 GiB */
        .quad   0x00cf93000000ffff      /* BOOT_DS: data, base 0, 4 GiB */
        .quad   0x00af9b000000ffff      /* BOOT_CS64: 64-bit code */
        .if     . - boot_gdt - 1 - BOOT_GDT_LIMIT
        .error  "BOOT_GDT_LIMIT does not fit the table"
        .endif

        .globl  boot_gdt_pointer
boot_gdt_pointer:
        .short  BOOT_GDT_LIMIT
        .long   boot_gdt

        .section .note.GNU-stack, "", @progbits
