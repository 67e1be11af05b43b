/* SPDX-License-Identifier: MIT */
/*
 * Descriptor tables. Selectors are constants (E9): SYSCALL and SYSRET want kernel code, kernel
 * data, user (32-bit code), user data, user code in this order (Intel SDM vol. 3, 5.8.8).
 */
#ifndef ONESTACK_ARCH_SEGMENTS_H
#define ONESTACK_ARCH_SEGMENTS_H

#define KERNEL_CS    0x08
#define KERNEL_DS    0x10
#define USER_CS32    0x1b /* never valid: there is no 32-bit user code; holds the place for STAR */
#define USER_DS      0x23
#define USER_CS      0x2b
#define TSS_SELECTOR 0x30
#define GDT_ENTRIES  8 /* the TSS takes two */

/* Exceptions that the code names (Intel SDM vol. 3, 6.3.1). */
#define VECTOR_DB        1
#define VECTOR_NMI       2
#define VECTOR_BP        3
#define VECTOR_NM        7
#define VECTOR_DF        8
#define VECTOR_GP        13
#define VECTOR_PF        14
#define VECTOR_MC        18
#define VECTOR_IRQ_FIRST 32

/* IST numbers in gates: 0 = none. */
#define IST_NMI    1
#define IST_DF     2
#define IST_MC     3
#define IST_DB     4
#define IST_VECTOR 5 /* all others, if the entry model wants one */

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

/* Intel SDM vol. 3, 7.7: 64-bit TSS. Starts 4 bytes before an 8-byte boundary so that RSP0 has one. */
struct tss {
    uint32_t pad;
    uint32_t reserved0;
    uint64_t rsp0 __attribute__((packed, aligned(4)));
    uint64_t rsp1 __attribute__((packed, aligned(4)));
    uint64_t rsp2 __attribute__((packed, aligned(4)));
    uint64_t reserved1 __attribute__((packed, aligned(4)));
    uint64_t ist[7] __attribute__((packed, aligned(4)));
    uint64_t reserved2 __attribute__((packed, aligned(4)));
    uint16_t reserved3;
    uint16_t io_bitmap;
} __attribute__((aligned(8)));

#define TSS_HARDWARE_OFFSET 4 /* the CPU's TSS begins after `pad` */
_Static_assert(offsetof(struct tss, rsp0) - TSS_HARDWARE_OFFSET == 4, "SDM figure 7-11");
_Static_assert(offsetof(struct tss, ist) - TSS_HARDWARE_OFFSET == 36, "SDM figure 7-11");
_Static_assert(offsetof(struct tss, io_bitmap) - TSS_HARDWARE_OFFSET == 102, "SDM figure 7-11");

struct core;

/* Fill the IDT, once, before any core loads it. */
void idt_init(void);
/* On the core itself: its GDT, TSS and the IDT; RSP0 must have been set. */
void segments_load(struct core *core);
#endif

#endif
