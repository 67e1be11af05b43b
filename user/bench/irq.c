/* SPDX-License-Identifier: MIT */
/*
 * Interrupts. The old timer makes them: channel 0 of the 8254, line 0, a thousand a second. In QEMU
 * it goes by the guest's clock, so under -icount they come at the same instructions each time (the
 * real-time clock goes by the host's). Control words: Intel 8254 data sheet.
 */
#include "user/bench/bench.h"
#include "user/libos/print.h"
#include "user/libos/thread.h"

#define PIT_LINE      0
#define PIT_CHANNEL_0 0x40
#define PIT_CONTROL   0x43
#define PIT_RATE      0x34 /* channel 0, both bytes, mode 2: a pulse each time the count is over */
#define PIT_ONCE      0x30 /* mode 0, which waits for a count */
#define PIT_COUNT     1193 /* of 1,193,182 a second */

#define PIT_HZ 1193182

#define SAMPLES 100
#define A_WHILE 100000000UL /* instructions or ticks in which an interrupt must have come */

static cap_t line;
static uint64_t quickest, latest; /* irq.to_user at its least; the worst lateness under load */

static void out(uint16_t port, uint8_t value)
{
    sys_ioports_write(own.grants[GRANT_IOPORTS], port, 1, value);
}

static void timer_run(void)
{
    out(PIT_CONTROL, PIT_RATE);
    out(PIT_CHANNEL_0, PIT_COUNT & 0xff);
    out(PIT_CHANNEL_0, PIT_COUNT >> 8);
}

static void timer_start(cap_t notification)
{
    int64_t status = sys_irq_bind(line, notification, 1).value;

    if (status < 0) {
        die("line %d: %s", PIT_LINE, error_name(status));
    }
    timer_run();
}

static void timer_halt(void)
{
    out(PIT_CONTROL, PIT_ONCE);
}

static void timer_stop(void)
{
    timer_halt();
    sys_irq_bind(line, 0, 0);
}

/* Nobody waits: the gap that the interrupt leaves in a loop that looks at the TSC. */
static void bench_no_switch(void)
{
    struct metric metric = {.name = "irq.no_switch"};
    cap_t notification = make_notification();

    timer_start(notification);
    for (unsigned i = 0; i < SAMPLES; i++) {
        sys_poll(notification);
        sys_irq_ack(line);
        uint64_t gap = timed_spin(TIMED_SPIN_STEP, timed_now() + A_WHILE);
        /* Its own cause only: a timer of the kernel's may come too. */
        if (gap != 0 && sys_poll(notification).value >= 0) {
            metric_add(&metric, gap - TIMED_SPIN_STEP);
        }
    }
    timer_stop();
    metric_report(&metric);
    sys_cap_delete(notification);
}

/*
 * A waiter in another space: from our last stamp to its first. The interrupt came one to six
 * instructions after ours, for a round of stamps has four; one is taken off.
 */
static void bench_to_user(void)
{
    struct metric metric = {.name = "irq.to_user"};
    cap_t notification = make_notification();
    struct helper helper;
    static volatile uint64_t stamp;

    helper_start(&helper, ROLE_WAITER, HIGHER, notification, &(struct shared){0});
    timer_start(notification);
    for (unsigned i = 0; i < SAMPLES; i++) {
        sys_irq_ack(line);
        helper.shared->stamp = 0;
        timed_stamps(&stamp, &helper.shared->stamp);
        uint32_t passed = (uint32_t)helper.shared->stamp - (uint32_t)stamp;
        if ((int32_t)passed > 0) {           /* else it came before our first */
            metric_add(&metric, passed - 3); /* and two mov of the waiter's stub before its stamp */
        }
    }
    timer_stop();
    metric_report(&metric);
    quickest = metric.min;
    helper_stop(&helper);
    sys_cap_delete(notification);
}

/* --- under load --- */

/*
 * The timer's ticks are a known time apart, so the earliest of them, set against its own number, says
 * when each was due; what a tick is later than that is what the load cost it. The quiet case's own
 * time from interrupt to user comes on top.
 */
#define FIRST 2 /* before it there may be a pulse of the timer's last use */

static uint64_t due(const struct shared *shared, uint64_t tick)
{
    /* Nanoseconds, which under -icount are instructions. */
    return shared->log[FIRST] + (tick - FIRST) * PIT_COUNT * 1000000000UL / PIT_HZ;
}

static void report_latency(const char *name, const struct shared *shared)
{
    struct metric metric = {.name = name};
    int64_t earliest = 0;

    for (uint64_t i = FIRST; i < shared->logged; i++) {
        int64_t late = (int64_t)(shared->log[i] - due(shared, i));
        earliest = late < earliest ? late : earliest;
    }
    for (uint64_t i = FIRST; i < shared->logged; i++) {
        metric_add(&metric, (uint64_t)((int64_t)(shared->log[i] - due(shared, i)) - earliest));
    }
    metric_report(&metric);
    latest = metric.max > latest ? metric.max : latest;
}

static void measure_under(const char *name, void (*load)(const struct shared *shared))
{
    struct helper logger;

    helper_start(&logger, ROLE_LOGGER, HIGHER, line, &(struct shared){0});
    timer_run();
    load(logger.shared);
    timer_halt();
    report_latency(name, logger.shared);
    helper_stop(&logger);
}

static bool enough(const struct shared *shared)
{
    return shared->logged >= LOG_MAX;
}

static void load_none(const struct shared *shared)
{
    while (!enough(shared)) {
        sys_null();
    }
}

static void load_copies(const struct shared *shared)
{
    static char buffer[MESSAGE_BYTES_MAX];
    struct message message = {.send_buffer = (uint64_t)buffer,
                              .receive_buffer = (uint64_t)buffer,
                              .receive_size = sizeof(buffer)};
    struct words words = {.word = {0}};
    struct helper server;
    cap_t endpoint = make_endpoint();

    helper_start(&server, ROLE_SERVER, BENCH_PRIORITY, endpoint,
                 &(struct shared){.info = MESSAGE_BYTES_MAX});
    while (!enough(shared)) {
        ipc_call(endpoint, MESSAGE_BYTES_MAX, &words, &message, TIMEOUT_NONE);
    }
    helper_stop(&server);
    sys_cap_delete(endpoint);
}

static void load_revoke(const struct shared *shared)
{
    cap_t root = make_notification();

    while (!enough(shared)) {
        for (unsigned i = 0; i < 10000; i++) {
            sys_cap_copy(root, RIGHT_ALL, 0, 0);
        }
        sys_cap_revoke(root);
    }
    sys_cap_delete(root);
}

/* Addresses that are not RAM do as well as any; nobody touches them. */
static void load_unmap(const struct shared *shared)
{
    const uint64_t size = 1UL << 30, there = 1UL << 40;
    struct result part = sys_range_slice(own.grants[GRANT_DEVICE_MEMORY], size, size);

    if (part.value < 0) {
        die("device memory: %s", error_name(part.value));
    }
    while (!enough(shared)) {
        int64_t status = sys_map(own.space, part.second, there | MAP_READ, size, 0).value;

        if (status < 0) {
            die("map 1 GiB: %s", error_name(status));
        }
        sys_unmap(own.space, there, size);
    }
    sys_cap_delete(part.second);
}

/* A process whose threads all wait at an endpoint that lives on. */
static void load_end(const struct shared *shared)
{
    cap_t endpoint = make_endpoint();

    while (!enough(shared)) {
        struct helper victim;

        helper_start(&victim, ROLE_SERVER, BENCH_PRIORITY, endpoint, &(struct shared){0});
        struct result there = sys_cap_copy(endpoint, RIGHT_ALL, 0, victim.process.space);
        for (unsigned i = 0; i < 1000; i++) {
            struct result thread = sys_thread_create(own.quota, victim.process.space,
                                                     PRIORITY(HIGHER - 1, HIGHER));

            sys_thread_start(thread.second, (uint64_t)bench_blocker, 0, there.second);
            sys_cap_move(thread.second, victim.process.space);
        }
        helper_stop(&victim);
    }
    sys_cap_delete(endpoint);
}

static void take_line(void)
{
    struct result slice = sys_range_slice(own.grants[GRANT_IRQS], PIT_LINE, 1);

    line = slice.second;
    if (slice.value < 0) {
        die("line %d: %s", PIT_LINE, error_name(slice.value));
    }
}

void bench_irq(void)
{
    take_line();
    bench_no_switch();
    bench_to_user();
    measure_under("irq.late.quiet", load_none);
    measure_under("irq.late.copies_64KiB", load_copies);
    measure_under("irq.late.revoke_10000", load_revoke);
    measure_under("irq.late.unmap_1GiB", load_unmap);
    measure_under("irq.late.end_1000_threads", load_end);
    metric_report_one("irq.to_user.sampled", NULL, quickest + latest);
    sys_cap_delete(line);
}
