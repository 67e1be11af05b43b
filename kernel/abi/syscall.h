/* SPDX-License-Identifier: MIT */
/* Numbers of the system calls and what their arguments are made of; syscalls.def is the list. */
#ifndef ONESTACK_ABI_SYSCALL_H
#define ONESTACK_ABI_SYSCALL_H

#ifndef __ASSEMBLER__
#include <stdint.h>

enum syscall_number {
#define SYSCALL(number, name, kind, args, text) SYS_##name = (number),
#include "kernel/abi/syscalls.def"
#undef SYSCALL
    SYS_COUNT
};

/* map, protect: W^X, so WRITE with EXECUTE is refused. */
#define MAP_READ     0x1u
#define MAP_WRITE    0x2u
#define MAP_EXECUTE  0x4u
#define MAP_UNCACHED 0x8u
#define MAP_LARGE    0x10u /* 2 MiB pages wherever address, offset and length allow */

struct thread_info {
    uint32_t state; /* enum thread_state, kernel/obj/thread.h */
    uint8_t priority, base_priority, ceiling, core;
    uint64_t cpu_time; /* nanoseconds */
};

/* The order of struct frame, then the bases. CS, SS and the system bits of RFLAGS are the kernel's. */
struct thread_registers {
    uint64_t r15, r14, r13, r12, rbp, rbx;
    uint64_t r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
    uint64_t rip, rflags, rsp;
    uint64_t fs_base, gs_base;
};

/* What a signal handler finds at its stack pointer, and a fault endpoint's message in its words. */
struct fault_info {
    uint64_t vector, error, address; /* address: CR2 of a page fault, else 0 */
    struct thread_registers registers;
};

enum kernel_info_kind {
    KINFO_CORES,      /* cores online */
    KINFO_FREE_BYTES, /* kernel-wide memory that belongs to no object */
    KINFO_NMI_COUNT,  /* index = core: NMIs taken */
    KINFO_NMI_WORKED, /* index = core: NMI work done */
    KINFO_IRQ_COUNT,  /* index = core */
    KINFO_TSC_HZ,
    KINFO_CORE_HERE, /* the core that runs the caller */
    KINFO_MCHECK_COUNT,
    KINFO_IRQ_NESTED, /* index = core: of KINFO_IRQ_COUNT, those that struck the kernel */
    KINFO_CORE_STATE, /* index = core: core_state, core_nest << 32; of one's own as it is in this call */
    KINFO_MCHECK_STATUS,  /* index = core: of the last bank recorded, its status, */
    KINFO_MCHECK_ADDRESS, /* and its physical address; 0 = none */
    KINFO_MAIL_COUNT,     /* index = core: messages that it has read, */
    KINFO_ARRIVED,        /* threads that have come to live there from other cores, */
    KINFO_FLUSH_COUNT,    /* what others made it forget of page tables, */
    KINFO_IDLE_NS,        /* and nanoseconds in idle, up to the last time that it began to */
    KINFO_COUNT
};
#endif

#endif
