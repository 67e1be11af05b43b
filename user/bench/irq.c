/* SPDX-License-Identifier: MIT */
/*
 * Interrupts. The real-time clock makes them: its periodic interrupt, line 8, 1,024 a second (Motorola
 * MC146818 data sheet: register A the rate, B the enable bits, C the cause, cleared by reading it).
 */
#include "user/bench/bench.h"
#include "user/libos/print.h"
#include "user/libos/thread.h"

#define RTC_INDEX       0x70
#define RTC_DATA        0x71
#define RTC_LINE        8
#define RTC_A_RATE_1024 0x26 /* divider on, rate 6 */
#define RTC_B_PERIODIC  0x42 /* and 24 hours, as it was */
#define RTC_B_QUIET     0x02

#define SAMPLES 100
#define A_WHILE 100000000UL /* instructions or ticks in which an interrupt must have come */

static cap_t line;

static void rtc_write(uint8_t index, uint8_t value)
{
    sys_ioports_write(own.grants[GRANT_IOPORTS], RTC_INDEX, 1, index);
    sys_ioports_write(own.grants[GRANT_IOPORTS], RTC_DATA, 1, value);
}

static void rtc_acknowledge(void)
{
    sys_ioports_write(own.grants[GRANT_IOPORTS], RTC_INDEX, 1, 0x0c);
    sys_ioports_read(own.grants[GRANT_IOPORTS], RTC_DATA, 1);
    sys_irq_ack(line);
}

static void rtc_start(cap_t notification)
{
    int64_t status = sys_irq_bind(line, notification, 1).value;

    if (status < 0) {
        die("line %d: %s", RTC_LINE, error_name(status));
    }
    rtc_write(0x0a, RTC_A_RATE_1024);
    rtc_write(0x0b, RTC_B_PERIODIC);
    rtc_acknowledge();
}

static void rtc_stop(void)
{
    rtc_write(0x0b, RTC_B_QUIET);
    rtc_acknowledge();
    sys_irq_bind(line, 0, 0);
}

/* Nobody waits: the gap that the interrupt leaves in a loop that looks at the TSC. */
static void bench_no_switch(void)
{
    struct metric metric = {.name = "irq.no_switch"};
    cap_t notification = make_notification();

    rtc_start(notification);
    for (unsigned i = 0; i < SAMPLES; i++) {
        sys_poll(notification);
        rtc_acknowledge();
        uint64_t gap = timed_spin(TIMED_SPIN_STEP, timed_now() + A_WHILE);
        /* Its own cause only: a timer of the kernel's may come too. */
        if (gap != 0 && sys_poll(notification).value >= 0) {
            metric_add(&metric, gap - TIMED_SPIN_STEP);
        }
    }
    rtc_stop();
    metric_report(&metric);
    sys_cap_delete(notification);
}

/*
 * A waiter in another space: from our last stamp to its first. The interrupt came one to four
 * instructions after ours; one is taken off.
 */
static void bench_to_user(void)
{
    struct metric metric = {.name = "irq.to_user"};
    cap_t notification = make_notification();
    struct helper helper;
    static volatile uint64_t stamp;

    helper_start(&helper, ROLE_WAITER, HIGHER, notification, &(struct shared){0});
    rtc_start(notification);
    for (unsigned i = 0; i < SAMPLES; i++) {
        rtc_acknowledge();
        helper.shared->stamp = 0;
        timed_stamps(&stamp, &helper.shared->stamp);
        uint32_t passed = (uint32_t)helper.shared->stamp - (uint32_t)stamp;
        if ((int32_t)passed > 0) {           /* else it came before our first */
            metric_add(&metric, passed - 3); /* and two mov of the waiter's stub before its stamp */
        }
    }
    rtc_stop();
    metric_report(&metric);
    helper_stop(&helper);
    sys_cap_delete(notification);
}

void bench_irq(void)
{
    struct result slice = sys_range_slice(own.grants[GRANT_IRQS], RTC_LINE, 1);

    line = slice.second;
    if (slice.value < 0) {
        die("line %d: %s", RTC_LINE, error_name(slice.value));
    }
    bench_no_switch();
    bench_to_user();
}
