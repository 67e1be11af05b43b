/* SPDX-License-Identifier: MIT */
/* What the parts of bench share. */
#ifndef ONESTACK_BENCH_BENCH_H
#define ONESTACK_BENCH_BENCH_H

#include <stdbool.h>

#include "user/bench/metric.h"
#include "user/bench/timed.h"
#include "user/libos/ipc.h"
#include "user/libos/process.h"

#define ROUNDS  1000
#define WARM_UP 16 /* rounds before the first sample: tables filled, caches of nobody's concern */

#define BENCH_PRIORITY 100 /* policy.c gives it to bench */
#define HIGHER         150

enum role { ROLE_SERVER, ROLE_WAITER, ROLE_YIELDER, ROLE_LOGGER };

#define LOG_MAX 128

/* A process in a space of its own, and what it shares with bench. */
struct shared {
    enum role role;
    bool fpu;                 /* shall have FPU state */
    uint64_t info;            /* of a server's answers */
    volatile uint64_t stamp;  /* a waiter's or yielder's */
    volatile uint64_t logged; /* a logger's stamps, all of them */
    volatile uint64_t log[LOG_MAX];
};

struct helper {
    struct process process;
    struct region region;
    struct shared *shared;
};

/*
 * Start one; `object` is the endpoint or notification it waits at, or the interrupt line that a
 * logger takes over. Ends bench if it cannot.
 */
void helper_start(struct helper *helper, enum role role, uint64_t priority, cap_t object,
                  const struct shared *wanted);
void helper_stop(struct helper *helper);

/* Set the next call up; timed_syscall() or a loop of them follows. */
void timed_set(uint64_t number, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3);
/* The cost of the stub with a nop in it, for what `timed` says now. */
uint64_t timed_overhead(void);
/* ROUNDS samples of the call in `timed`. */
void measure_call(const char *name);

cap_t make_endpoint(void);
cap_t make_notification(void);

/* blocker.S: what a thread without a stack runs; its argument is an endpoint. */
void bench_blocker(void);

/* The parts, in the order of the report. */
void bench_calls(void);
void bench_ipc(void);
void bench_notify(void);
void bench_faults(void);
void bench_irq(void);
void bench_objects(void);
void bench_threads(void);
void bench_pairs(void);

#endif
