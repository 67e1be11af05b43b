/* SPDX-License-Identifier: MIT */
/*
 * Debug builds: locks are taken in the order of their ranks, by the outermost level on the kernel's
 * stack only, with IF=1, and given up before a core leaves to user mode or goes idle. The longest
 * hold is in struct core, for the harness.
 */
#ifndef ONESTACK_DEBUG_LOCK_CHECK_H
#define ONESTACK_DEBUG_LOCK_CHECK_H

#include "kernel/arch/core.h"

#if CONFIG_DEBUG
/* When boot, with IF=0, is over; until then nobody else has anything to do. */
void lock_check_start(void);
/* At an exit: panic if the core still holds one. */
void lock_check_none(const struct core *core);
#else
static inline void lock_check_start(void)
{
}
#endif

#endif
