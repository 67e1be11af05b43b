/* SPDX-License-Identifier: MIT */
/*
 * Threads in numbers: what one takes, and how many can be blocked in receive at a time. They have no
 * user stack: bench_blocker (blocker.S) receives once and ends.
 */
#include "user/bench/bench.h"
#include "user/libos/format.h"
#include "user/libos/memory.h"
#include "user/libos/print.h"
#include "user/libos/thread.h"

#define WANTED  310000UL
#define SAMPLES 100 /* at each of the marks below */

#define MANY 1024 /* for the bytes of one */

void bench_blocker(void);

static const uint64_t marks[] = {10, 1000, 100000, 300000};

static uint64_t quota_free(cap_t quota)
{
    return sys_quota_info(quota).second;
}

/* On an account of their own, so that nothing else is counted; their capabilities are on ours. */
static void bench_bytes(void)
{
    static cap_t threads[MANY];
    struct result quota = sys_quota_split(own.quota, MANY * PAGE_BYTES);
    uint64_t before = quota_free(quota.second), after;

    for (unsigned i = 0; i < MANY; i++) {
        struct result created = sys_thread_create(quota.second, own.space, PRIORITY(90, 90));

        if (created.value < 0) {
            die("thread: %s", error_name(created.value));
        }
        threads[i] = created.second;
    }
    after = quota_free(quota.second);
    metric_report_one("thread.bytes", "bytes", (before - after) / MANY);
    for (unsigned i = 0; i < MANY; i++) {
        sys_cap_delete(threads[i]);
    }
    sys_cap_delete(quota.second);
}

/* Create and start one; it runs at once, above us, and blocks. */
static int64_t add_blocked(cap_t endpoint, uint64_t *instructions, cap_t *thread)
{
    timed_set(SYS_thread_create, own.quota, own.space, PRIORITY(HIGHER, HIGHER), 0);
    uint64_t overhead = timed_overhead();
    timed_syscall();
    *instructions = timed.elapsed - overhead;
    if (timed.result < 0) {
        return timed.result;
    }
    *thread = timed.second;
    return sys_thread_start(*thread, (uint64_t)bench_blocker, 0, endpoint).value;
}

static void report_mark(const struct metric *metric, uint64_t mark)
{
    char name[48];
    struct metric named = *metric;

    snprintf(name, sizeof(name), "thread.create.at_%lu", mark);
    named.name = name;
    metric_report(&named);
}

/* How many; their handles are in `threads`. */
static uint64_t fill(cap_t endpoint, cap_t *threads)
{
    struct metric metric = {0};
    uint64_t count = 0, mark = 0, instructions;

    while (count < WANTED && add_blocked(endpoint, &instructions, &threads[count]) >= 0) {
        count++;
        if (mark < sizeof(marks) / sizeof(*marks) && count > marks[mark] - SAMPLES / 10) {
            metric_add(&metric, instructions);
        }
        if (mark < sizeof(marks) / sizeof(*marks) && count == marks[mark]) {
            report_mark(&metric, marks[mark++]);
            metric = (struct metric){0};
        }
    }
    return count;
}

static void bench_blocked(void)
{
    struct region region;
    cap_t endpoint = make_endpoint();
    struct words words = {.word = {0}};
    struct metric wake = {.name = "thread.wake_and_end"};
    uint64_t woken = 0;

    if (region_create(&region, WANTED * sizeof(cap_t)) < 0) {
        die("no memory for %lu handles", WANTED);
    }
    uint64_t count = fill(endpoint, region.address);
    metric_report_one("threads.blocked", "count", count);
    for (; woken < count; woken++) {
        uint64_t start = timed_now();
        if (ipc_send(endpoint, 0, &words, NULL, 0).value < 0) {
            break;
        }
        metric_add(&wake, timed_now() - start);
    }
    metric_report(&wake);
    metric_report_one("threads.woken", "count", woken);
    const cap_t *threads = region.address;
    for (uint64_t i = 0; i < count; i++) {
        sys_cap_delete(threads[i]);
    }
    region_release(&region);
    sys_cap_delete(endpoint);
}

void bench_threads(void)
{
    bench_bytes();
    bench_blocked();
}
