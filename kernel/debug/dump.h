/* SPDX-License-Identifier: MIT */
/*
 * The NMI button: once armed (sys_nmi_dump), an external NMI has the state and backtrace of every core
 * printed, and the machine goes on. The handler that takes it asks the other cores by NMI, so that
 * those are found that spin with IF=0. Each handler leaves a snapshot and prints nothing (N2); the first
 * core to come to the end of its outermost level prints them all. At most one dump a second: a flood
 * of NMIs is only counted.
 */
#ifndef ONESTACK_DEBUG_DUMP_H
#define ONESTACK_DEBUG_DUMP_H

#include "kernel/arch/core.h"

/* NMI context: an NMI without a reason came. The reasons that it has now, 0 or NMI_REASON_DUMP. */
uint32_t dump_begin(const struct core *core);
/* Outermost level, after an NMI with that reason: print, unless somebody does already. */
void dump_print(struct core *core);

#endif
