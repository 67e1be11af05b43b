/* SPDX-License-Identifier: MIT */
/*
 * sweep PATH [ROUNDS]: runs one path through the kernel again and again, for the harness to strike at
 * each instruction of it. What the harness holds on to, all of them symbols of sweep.elf:
 *
 *   sweep_round         called before each round, with its number
 *   probe_go            the path begins: the next instruction but one is the one under test (rounds of
 *                       paths that are C, "thread" and "fpu", call sweep_begin and sweep_end instead)
 *   probe_after         the path is over
 *   sweep_bad           called when a register or an answer was wrong; a line says which
 *   sweep_waiter_woken  the first instruction of the waiter, a thread of higher priority in another
 *                       space, after an external NMI has woken it. An event's work is done in
 *                       time if this is the first user instruction after the event.
 *
 * The waiter counts in shared->nmis. "sweep: ready PATH" is printed when rounds are about to begin.
 */
#ifndef ONESTACK_SWEEP_SWEEP_H
#define ONESTACK_SWEEP_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

#include "user/libos/ipc.h"
#include "user/libos/memory.h"
#include "user/libos/probe.h"
#include "user/libos/process.h"

#define SWEEP_PRIORITY 100 /* policy.c gives it */
#define SWEEP_HELPER   90
#define SWEEP_WAITER   170

/* A helper of the path, in a space of its own. */
enum role { ROLE_WAITER, ROLE_SERVER, ROLE_PAGER, ROLE_SIGNALLER, ROLE_FAULTS, ROLE_COUNT };

/* Mapped in all the spaces. */
struct shared {
    volatile uint64_t nmis;
    volatile uint64_t pager_failures;
};

struct path {
    const char *name;
    void (*prepare)(void); /* may be NULL */
    void (*round)(uint64_t number);
};

extern const struct path paths[];
extern const unsigned path_count;
extern struct shared *shared;

/* Start a helper; it gets `object` as own.extra[0] and `more` as own.extra[1]. */
void helper_start(enum role role, uint64_t priority, cap_t object, cap_t more);

/* How often sweep_bad was called. */
extern uint64_t sweep_bads;

void sweep_round(uint64_t number);
void sweep_begin(void);
void sweep_end(void);
void sweep_bad(void);

/* waiter.S: wait at the notification for ever, count at *count. */
_Noreturn void sweep_waiter(cap_t notification, volatile uint64_t *count);

#endif
