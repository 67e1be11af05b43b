/* SPDX-License-Identifier: MIT */
/*
 * Debug builds: locks are taken in the order of their ranks, by the outermost level on the kernel's
 * stack only, with IF=1, and given up before a core leaves to user mode or goes idle. The longest
 * hold of each rank is in struct core: under -icount the harness asserts a limit (tests/smp/test_locks.py).
 */
#ifndef ONESTACK_DEBUG_LOCK_CHECK_H
#define ONESTACK_DEBUG_LOCK_CHECK_H

#include "kernel/arch/core.h"

#if CONFIG_DEBUG
/* From the first core's own stack on; before, nobody else is there. */
void lock_check_start(void);
/* Boot takes locks with IF=0; from here on nobody does. */
void lock_check_boot_over(void);
/* At an exit: panic if the core still holds one. */
void lock_check_none(const struct core *core);
#else
static inline void lock_check_start(void)
{
}
static inline void lock_check_boot_over(void)
{
}
#endif

#endif
