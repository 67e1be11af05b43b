/* SPDX-License-Identifier: MIT */
/*
 * A record of every entry and exit, per core, and of what it asks of other cores, on request: the boot
 * option `trace=1`. Without it not one instruction more is executed anywhere: the hooks are put in at
 * boot, in place of the entry code's calls to C and of the first instruction of each exit's window,
 * and in place of all calls to mail_post() and lapic_send().
 */
#ifndef ONESTACK_DEBUG_TRACE_H
#define ONESTACK_DEBUG_TRACE_H

#include <stdbool.h>
#include <stdint.h>

struct core;

/* Before the kernel's text becomes read-only. False: the code does not look as expected. */
bool trace_init(bool wanted);
/* A ring for a core that is being made; none if there is no memory, and then it is not traced. */
void trace_core_init(struct core *core);

/* The core's last events, `most` of them; it has stopped, or is this one. Nothing without a ring. */
void trace_print(const struct core *core, unsigned most);

/* From trace_hooks.S; IF=0. */
void trace_call(struct core *core, unsigned number, uint64_t argument);
void trace_leave(struct core *core);

#endif
