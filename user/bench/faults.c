/* SPDX-License-Identifier: MIT */
/* An exception to its handler and back: another thread at the fault endpoint, or the thread itself. */
#include "user/bench/bench.h"
#include "user/libos/print.h"
#include "user/libos/signal.h"
#include "user/libos/thread.h"

static volatile uint64_t handler_stamp;

/* Receives the fault; the reply, without a word, lets the thread go on after its int3. */
static void handler(void *endpoint)
{
    timed_other = (struct timed_loop){.number = SYS_receive,
                                      .a0 = (cap_t)endpoint,
                                      .stamp = &handler_stamp,
                                      .next = SYS_reply_receive};
    timed_loop();
}

static void measure(const char *there, const char *trip, volatile uint64_t *stamp)
{
    struct metric to_handler = {.name = there}, round_trip = {.name = trip};

    timed_int3_nop();
    uint64_t overhead = timed.elapsed;
    for (unsigned i = 0; i < WARM_UP + ROUNDS; i++) {
        *stamp = 0;
        timed_int3();
        if (i >= WARM_UP && *stamp != 0) {
            uint32_t there_and = (uint32_t)*stamp - (uint32_t)timed.start;
            metric_add(&to_handler, there_and - overhead);
            metric_add(&round_trip, timed.elapsed - overhead);
        }
    }
    metric_report(&to_handler);
    metric_report(&round_trip);
}

/* This process's faults are init's business; for these they are ours. */
static void bench_endpoint(void)
{
    cap_t endpoint = make_endpoint();
    struct user_thread thread;

    if (thread_spawn(&thread, handler, (void *)endpoint, PRIORITY(HIGHER, HIGHER)) < 0 ||
        sys_space_set_fault(own.space, endpoint, 0).value < 0) {
        die("no fault handler");
    }
    measure("fault.to_handler", "fault.round_trip", &handler_stamp);
    sys_space_set_fault(own.space, 0, 0);
    thread_reap(&thread);
    sys_cap_delete(endpoint);
}

static void bench_signal(void)
{
    if (sys_thread_set_handler((uint64_t)timed_handler, 0).value < 0) {
        die("no signal handler");
    }
    measure("fault.to_own_handler", "fault.own_round_trip", &timed_handler_stamp);
    signal_clear();
}

void bench_faults(void)
{
    bench_signal();
    bench_endpoint();
}
