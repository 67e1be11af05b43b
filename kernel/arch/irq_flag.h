/* SPDX-License-Identifier: MIT */
/* A short section with IF=0 (E5), from code that may or may not have it so already. */
#ifndef ONESTACK_ARCH_IRQ_FLAG_H
#define ONESTACK_ARCH_IRQ_FLAG_H

#include <stdint.h>

static inline uint64_t irq_save(void)
{
    uint64_t flags;

    __asm__ volatile("pushfq\n\t"
                     "popq %0\n\t"
                     "cli"
                     : "=r"(flags)
                     :
                     : "memory");
    return flags;
}

static inline void irq_restore(uint64_t flags)
{
    __asm__ volatile("pushq %0\n\t"
                     "popfq"
                     :
                     : "r"(flags)
                     : "memory", "cc");
}

#endif
