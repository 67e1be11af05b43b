/* SPDX-License-Identifier: MIT */
/*
 * What is said of a core: by itself at its end (panic.c), or by another from the snapshot that its NMI
 * handler has left (dump.c, watchdog.c), for nothing is printed in NMI context (N2).
 */
#ifndef ONESTACK_DEBUG_REPORT_H
#define ONESTACK_DEBUG_REPORT_H

#include "kernel/arch/core.h"

const char *state_name(unsigned state);
void print_code(const char *label, uint64_t address);
void print_registers(const struct frame *registers, uint64_t cr3);
/* From `rsp`, on a stack of the core's, which nobody else uses meanwhile. */
void print_backtrace(const struct core *core, uint64_t rsp);
/* Registers, state and backtrace as the core's snapshot has them. */
void print_snapshot(const struct core *core);

/* The next request's number, for snapshot_ask() or to be sent along with an NMI. Any context. */
uint32_t snapshot_request(void);
/* By an NMI with the reason `why` (events.h); not in NMI context. */
void snapshot_ask(struct core *other, uint32_t why);
/* In the handler: answer all requests that there have been. */
void snapshot_take(struct core *core, const struct frame *registers, unsigned nest, unsigned state);
bool snapshot_taken(const struct core *core, uint32_t number);
/* Wait until the core has answered that request, for 50 ms at most. */
bool snapshot_wait(const struct core *core, uint32_t number);

#endif
