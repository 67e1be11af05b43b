/* SPDX-License-Identifier: MIT */
/*
 * The end. Stops the other cores by NMI, prints registers, core state and a backtrace with names of
 * each, with trace=1 the last events too, and exits with EXIT_PANIC. The first line begins with `panic: `, the last is `panic: end`.
 */
#ifndef ONESTACK_DEBUG_PANIC_H
#define ONESTACK_DEBUG_PANIC_H

#include "kernel/arch/core.h"

_Noreturn __attribute__((format(printf, 1, 2))) void panic(const char *format, ...);
/* An exception that no one answers for. */
_Noreturn void panic_trap(struct core *core, unsigned trapno, uint32_t errcode,
                          const struct frame *regs, uint64_t cr2, unsigned state);
/* From #DF: tells a stack that ran into its guard page from the rest. */
_Noreturn void panic_double_fault(struct core *core, const struct frame *regs);
/* NMI context: another core panicked. `nest` and `state` are the interrupted code's. */
_Noreturn void panic_stop_here(struct core *core, const struct frame *regs, unsigned nest,
                               unsigned state);

#if CONFIG_DEBUG
#define KASSERT(condition)                                              \
    do {                                                                \
        if (!(condition)) {                                             \
            panic("%s:%d: not so: %s", __FILE__, __LINE__, #condition); \
        }                                                               \
    } while (0)
#else
#define KASSERT(condition) ((void)sizeof(condition))
#endif

#endif
