/* SPDX-License-Identifier: MIT */
/* signal with and without somebody who waits; yield to another process. */
#include "user/bench/bench.h"
#include "user/libos/print.h"
#include "user/libos/thread.h"

static volatile uint64_t waiter_stamp;

static void waiter(void *notification)
{
    timed_other = (struct timed_loop){.number = SYS_wait,
                                      .a0 = (cap_t)notification,
                                      .a1 = TIMEOUT_NONE,
                                      .stamp = &waiter_stamp,
                                      .next = SYS_wait,
                                      .next_a1 = TIMEOUT_NONE};
    timed_loop();
}

/* From our stamp to that of who runs in our stead, less the stub: it is 0 if nobody did. */
static void measure_switch(const char *name, volatile uint64_t *stamp)
{
    struct metric metric = {.name = name};
    uint64_t overhead = timed_overhead();

    for (unsigned i = 0; i < WARM_UP + ROUNDS; i++) {
        *stamp = 0;
        timed_syscall();
        if (i >= WARM_UP && *stamp != 0) {
            metric_add(&metric, (uint32_t)((uint32_t)*stamp - (uint32_t)timed.start) - overhead);
        }
    }
    metric_report(&metric);
}

void bench_notify(void)
{
    cap_t notification = make_notification();
    struct user_thread thread;
    struct helper helper;

    timed_set(SYS_signal, notification, 1, 0, 0);
    measure_call("notify.no_switch");

    sys_poll(notification);
    if (thread_spawn(&thread, waiter, (void *)notification, PRIORITY(HIGHER, HIGHER)) < 0) {
        die("no thread");
    }
    measure_switch("notify.switch", &waiter_stamp);
    thread_reap(&thread);

    helper_start(&helper, ROLE_WAITER, HIGHER, notification, &(struct shared){0});
    timed_set(SYS_signal, notification, 1, 0, 0);
    measure_switch("notify.switch.space", &helper.shared->stamp);
    helper_stop(&helper);

    helper_start(&helper, ROLE_YIELDER, BENCH_PRIORITY, 0, &(struct shared){0});
    timed_set(SYS_yield, 0, 0, 0, 0);
    measure_switch("yield.process", &helper.shared->stamp);
    helper_stop(&helper);
    sys_cap_delete(notification);
}
