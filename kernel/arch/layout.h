/* SPDX-License-Identifier: MIT */
/*
 * The kernel's address space. Shared by C, assembly and the linker script's assertions.
 *
 *   0x0000000000001000  user space, ends one page below 2^47 (E9: no SYSRET or IRETQ to a
 *   0x00007ffffffff000  non-canonical RIP, not even by running off the end)
 *   0xffff800000000000  direct map of all RAM, no execute, without the kernel image's frames
 *   0xffffc00000000000  capability windows: one per address space (kernel/obj/window.c)
 *   0xffffffff80000000  kernel image, physical address + this
 *   0xffffffffc0000000  core areas: struct core, kernel stack, IST stacks, guard pages between
 *   0xfffffffffec00000  IOAPIC, uncached
 *   0xfffffffffee00000  LAPIC, uncached: a sign-extended 32-bit address reaches it
 */
#ifndef ONESTACK_ARCH_LAYOUT_H
#define ONESTACK_ARCH_LAYOUT_H

#define PAGE_SHIFT      12
#define PAGE_SIZE       0x1000
#define LARGE_PAGE_SIZE 0x200000

#define USER_BASE 0x1000
#define USER_END  0x00007ffffffff000

#define DIRECT_MAP_BASE 0xffff800000000000
#define DIRECT_MAP_SIZE 0x0000400000000000 /* 64 TiB */
#define CAP_WINDOW_BASE 0xffffc00000000000
#define CAP_WINDOW_END  0xffffff8000000000 /* the PML4's last entry is the image's */
/* One entry of a third-level table, so that no table frame is shared by two accounts. */
#define CAP_WINDOW_SIZE 0x40000000
#define CAP_TABLE_MAX   0x100000 /* capabilities in one table, */
#define CAP_TABLE_BYTES 0x4000000
#define KERNEL_BASE     0xffffffff80000000
#define IOAPIC_BASE     0xfffffffffec00000
#define LAPIC_BASE      0xfffffffffee00000

/*
 * One core's area. Every stack is STACK_SIZE bytes, aligned to it, with an unmapped page below
 * and the core's address in its top word (E4), so that (rsp | STACK_SIZE - 1) - 7 finds the core
 * from any of them.
 */
#define MAX_CORES          64
#define CORE_AREA_BASE     0xffffffffc0000000
#define CORE_AREA_SIZE     0x20000
#define STACK_SIZE         0x2000
#define CORE_STRUCT_SIZE   0x4000 /* what struct core may take: four pages */
#define CORE_STACK_STRIDE  0x4000 /* guard, guard, two pages of stack */
#define CORE_STACK_BASE(n) (CORE_STRUCT_SIZE + (n)*CORE_STACK_STRIDE + STACK_SIZE)
#define CORE_STACK_TOP(n)  (CORE_STACK_BASE(n) + STACK_SIZE)

/* Each core's SYSCALL stub, by number from syscall_entry on. */
#define SYSCALL_STUB_SIZE 64

/* Which stack: the kernel stack, then IST 1 to 4 (N1). */
#define STACK_KERNEL 0
#define STACK_NMI    1
#define STACK_DF     2
#define STACK_MC     3
#define STACK_DB     4
#define STACK_COUNT  5
/* IST 5, in entry models that have one for all other vectors. */
#define STACK_VECTOR 5
/* How far an IST entry moves down its stack while a handler runs. */
#define IST_STEP 0x800

#endif
