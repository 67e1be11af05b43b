/* SPDX-License-Identifier: MIT */
/*
 * Threads in numbers: how many can be blocked in receive at a time, and what making and ending one
 * costs among so many. They have no user stack: bench_blocker (blocker.S) receives once and ends.
 */
#include "user/bench/bench.h"
#include "user/libos/format.h"
#include "user/libos/memory.h"
#include "user/libos/print.h"
#include "user/libos/thread.h"

#define WANTED  310000UL
#define SAMPLES 10 /* up to each of the marks below */

static const uint64_t marks[] = {10, 1000, 100000, 300000};
#define MARKS (sizeof(marks) / sizeof(*marks))

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

static void report_mark(const char *what, const struct metric *metric, uint64_t mark)
{
    char name[48];
    struct metric named = *metric;

    snprintf(name, sizeof(name), "thread.%s.at_%lu", what, mark);
    named.name = name;
    metric_report(&named);
}

/* Is `count`, on its way to the mark, one of those that are measured? */
static bool near_mark(uint64_t count, uint64_t mark)
{
    return count > mark - SAMPLES && count <= mark;
}

/* How many; their handles are in `threads`. */
static uint64_t fill(cap_t endpoint, cap_t *threads)
{
    struct metric metric = {0};
    uint64_t count = 0, mark = 0, instructions;

    while (count < WANTED && add_blocked(endpoint, &instructions, &threads[count]) >= 0) {
        count++;
        if (mark < MARKS && near_mark(count, marks[mark])) {
            metric_add(&metric, instructions);
        }
        if (mark < MARKS && count == marks[mark]) {
            report_mark("create", &metric, marks[mark++]);
            metric = (struct metric){0};
        }
    }
    return count;
}

/* Each gets a message, runs, and ends. How many did. */
static uint64_t wake_all(cap_t endpoint, uint64_t count)
{
    struct metric metric = {0};
    struct words words = {.word = {0}};
    uint64_t left = count, mark = MARKS;

    while (mark > 0 && marks[mark - 1] > count) {
        mark--;
    }
    for (; left > 0; left--) {
        uint64_t start = timed_now();
        if (ipc_send(endpoint, 0, &words, NULL, 0).value < 0) {
            break;
        }
        if (mark > 0 && near_mark(left, marks[mark - 1])) {
            metric_add(&metric, timed_now() - start);
        }
        if (mark > 0 && left == marks[mark - 1] - SAMPLES + 1) {
            report_mark("wake_and_end", &metric, marks[--mark]);
            metric = (struct metric){0};
        }
    }
    return count - left;
}

static void bench_blocked(void)
{
    struct region region;
    cap_t endpoint = make_endpoint();

    if (region_create(&region, WANTED * sizeof(cap_t)) < 0) {
        die("no memory for %lu handles", WANTED);
    }
    cap_t *threads = region.address;
    uint64_t count = fill(endpoint, threads);
    metric_report_one("threads.blocked", "count", count);
    metric_report_one("threads.woken", "count", wake_all(endpoint, count));
    for (uint64_t i = 0; i < count; i++) {
        sys_cap_delete(threads[i]);
    }
    region_release(&region);
    sys_cap_delete(endpoint);
}

void bench_threads(void)
{
    bench_blocked();
}
