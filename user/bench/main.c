/* SPDX-License-Identifier: MIT */
/*
 * bench [PART...]: what the kernel's operations cost, one line a metric. In guest instructions if
 * QEMU runs with `-icount shift=0,sleep=off`; without it the figures are TSC ticks and mean little.
 */
#include "user/bench/bench.h"

#include <stddef.h>

#include "kernel/lib/string.h"
#include "user/libos/print.h"

/* timed.S */
_Static_assert(offsetof(struct timed, number) == 0, "NUMBER");
_Static_assert(offsetof(struct timed, a0) == 8, "A0");
_Static_assert(offsetof(struct timed, a3) == 32, "A3");
_Static_assert(offsetof(struct timed, start) == 40, "START");
_Static_assert(offsetof(struct timed, elapsed) == 48, "ELAPSED");
_Static_assert(offsetof(struct timed, partner) == 56, "PARTNER");
_Static_assert(offsetof(struct timed, result) == 64, "RESULT");
_Static_assert(offsetof(struct timed, second) == 72, "SECOND");

_Static_assert(offsetof(struct timed_loop, a3) == 32, "A3");
_Static_assert(offsetof(struct timed_loop, stamp) == 40, "STAMP");
_Static_assert(offsetof(struct timed_loop, next) == 48, "NEXT");
_Static_assert(offsetof(struct timed_loop, next_a1) == 56, "NEXT_A1");

struct timed timed;
struct timed_loop timed_other;
volatile uint64_t timed_handler_stamp;

void timed_set(uint64_t number, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
    timed = (struct timed){.number = number, .a0 = a0, .a1 = a1, .a2 = a2, .a3 = a3};
}

uint64_t timed_overhead(void)
{
    timed_nop();
    return timed.elapsed;
}

void measure_call(const char *name)
{
    struct metric metric = {.name = name};
    uint64_t overhead = timed_overhead();

    for (unsigned i = 0; i < WARM_UP + ROUNDS; i++) {
        timed_syscall();
        if (timed.result < 0) {
            die("%s: %s", name, error_name(timed.result));
        }
        if (i >= WARM_UP) {
            metric_add(&metric, timed.elapsed - overhead);
        }
    }
    metric_report(&metric);
}

static cap_t must(const char *what, struct result created)
{
    if (created.value < 0) {
        die("%s: %s", what, error_name(created.value));
    }
    return created.second;
}

cap_t make_endpoint(void)
{
    return must("endpoint", sys_endpoint_create(own.quota));
}

cap_t make_notification(void)
{
    return must("notification", sys_notification_create(own.quota));
}

void bench_calls(void)
{
    timed_set(SYS_null, 0, 0, 0, 0);
    measure_call("syscall.null");
    timed_set(SYS_clock, 0, 0, 0, 0);
    measure_call("syscall.slow");
    timed_set(SYS_yield, 0, 0, 0, 0);
    measure_call("yield.alone");
}

/* User code that nothing disturbs, for the harness to interrupt and count. */
static void spin_forever(void)
{
    printf("bench spins\n");
    for (;;) {
        timed_spin(UINT32_MAX, 0);
    }
}

static const struct {
    const char *name;
    void (*run)(void);
    bool only_named; /* not if no part is named */
} parts[] = {
    {"calls", bench_calls, false},     {"ipc", bench_ipc, false},
    {"notify", bench_notify, false},   {"faults", bench_faults, false},
    {"irq", bench_irq, false},         {"objects", bench_objects, false},
    {"threads", bench_threads, false}, {"spin", spin_forever, true},
    {"pairs", bench_pairs, true},
};

static bool wanted(size_t part, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], parts[part].name) == 0) {
            return true;
        }
    }
    return argc < 2 && !parts[part].only_named;
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        if (wanted(i, argc, argv)) {
            parts[i].run();
        }
    }
    metric_print();
    return metric_failures != 0;
}
