/* SPDX-License-Identifier: MIT */
/*
 * Each core watches the next one: once in `watchdog=` milliseconds (boot option; 0, which it is without
 * one: never) it looks whether that is in the kernel, and then asks it for a round of its outermost
 * level's end by an ordinary IPI. One that has done none by the next look is stuck, with IF=0 or 1:
 * an NMI makes it say where, and the watcher prints that, once. User mode and idle are never stuck,
 * nor is who writes such a report.
 */
#ifndef ONESTACK_DEBUG_WATCHDOG_H
#define ONESTACK_DEBUG_WATCHDOG_H

#include "kernel/arch/core.h"

/* Before any core's first look. */
void watchdog_set(uint64_t milliseconds);
/* At the start, and whenever the core's timer has fired: look if it is time, set the timer. */
void watchdog_event(struct core *core);

#endif
