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

#define SAMPLES 100
#define A_WHILE 100000000UL /* instructions or ticks in which an interrupt must have come */

static cap_t line;

static void out(uint16_t port, uint8_t value)
{
    sys_ioports_write(own.grants[GRANT_IOPORTS], port, 1, value);
}

static void timer_start(cap_t notification)
{
    int64_t status = sys_irq_bind(line, notification, 1).value;

    if (status < 0) {
        die("line %d: %s", PIT_LINE, error_name(status));
    }
    out(PIT_CONTROL, PIT_RATE);
    out(PIT_CHANNEL_0, PIT_COUNT & 0xff);
    out(PIT_CHANNEL_0, PIT_COUNT >> 8);
}

static void timer_stop(void)
{
    out(PIT_CONTROL, PIT_ONCE);
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
    helper_stop(&helper);
    sys_cap_delete(notification);
}

void bench_irq(void)
{
    struct result slice = sys_range_slice(own.grants[GRANT_IRQS], PIT_LINE, 1);

    line = slice.second;
    if (slice.value < 0) {
        die("line %d: %s", PIT_LINE, error_name(slice.value));
    }
    bench_no_switch();
    bench_to_user();
}
