/* SPDX-License-Identifier: MIT */
/*
 * What loaders look for in the file: the Multiboot2 header (Multiboot2 specification 2.0, 3.1) in
 * its first 32 KiB, and the PVH entry note, which the linker script puts in a PT_NOTE segment.
 */

#define MULTIBOOT2_HEADER_MAGIC 0xe85250d6
#define MULTIBOOT2_ARCHITECTURE_I386 0

#define HEADER_TAG_END 0
#define HEADER_TAG_INFORMATION 1
#define HEADER_TAG_ENTRY_ADDRESS 3
#define HEADER_TAG_MODULE_ALIGN 6

#define INFORMATION_CMDLINE 1
#define INFORMATION_MODULE 3
#define INFORMATION_MEMORY_MAP 6

        .section .boot.header, "a"
        .align  8
header:
        .long   MULTIBOOT2_HEADER_MAGIC
        .long   MULTIBOOT2_ARCHITECTURE_I386
        .long   header_end - header
        .long   -(MULTIBOOT2_HEADER_MAGIC + MULTIBOOT2_ARCHITECTURE_I386 + (header_end - header))

        /* Without these the kernel cannot run: a loader that does not know them must refuse. */
        .align  8
        .short  HEADER_TAG_INFORMATION, 0
        .long   20
        .long   INFORMATION_CMDLINE, INFORMATION_MODULE, INFORMATION_MEMORY_MAP

        /* The ELF entry is the same; said here too, so that no loader has to translate it. */
        .align  8
        .short  HEADER_TAG_ENTRY_ADDRESS, 0
        .long   12
        .long   multiboot2_entry

        .align  8
        .short  HEADER_TAG_MODULE_ALIGN, 0
        .long   8

        .align  8
        .short  HEADER_TAG_END, 0
        .long   8
header_end:

/* XEN_ELFNOTE_PHYS32_ENTRY (Xen public/elfnote.h). QEMU reads 8 bytes of it from a 64-bit ELF. */
#define NOTE_PHYS32_ENTRY 18

        .section .note.Xen, "a", @note
        .align  4
        .long   name_end - name
        .long   descriptor_end - descriptor
        .long   NOTE_PHYS32_ENTRY
name:   .asciz  "Xen"
name_end:
        .align  4
descriptor:
        .quad   pvh_entry
descriptor_end:

        .section .note.GNU-stack, "", @progbits
