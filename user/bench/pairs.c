/* SPDX-License-Identifier: MIT */
/*
 * Two pairs of client and server, each on a core and in spaces of its own, that have nothing in common:
 * how many calls a second one of them makes alone, and both together. On a wall clock, so
 * rounds of both kinds take turns; the harness looks at their ratio.
 */
#include "user/bench/bench.h"
#include "user/libos/print.h"
#include "user/libos/thread.h"

#define PAIRS          2
#define PAIRS_PRIORITY (BENCH_PRIORITY - 1)
#define PAIRS_ROUNDS   9
#define ROUND_NS       200000000

struct pair {
    volatile uint64_t calls;
    cap_t endpoint;
    struct helper server;
    struct user_thread client;
} __attribute__((aligned(64)));

static struct pair pairs[PAIRS];

static void call_forever(void *argument)
{
    struct pair *pair = argument;
    struct words words = {0};

    for (;;) {
        ipc_call(pair->endpoint, 0, &words, NULL, TIMEOUT_NONE);
        pair->calls++;
    }
}

static void start(struct pair *pair, uint64_t core)
{
    pair->endpoint = make_endpoint();
    helper_start(&pair->server, ROLE_SERVER, PAIRS_PRIORITY, pair->endpoint, &(struct shared){0});
    if (sys_thread_set_affinity(pair->server.process.thread, core).value < 0 ||
        thread_spawn(&pair->client, call_forever, pair, PRIORITY(PAIRS_PRIORITY, PAIRS_PRIORITY)) <
            0 ||
        sys_thread_set_affinity(pair->client.cap, core).value < 0) {
        die("cannot start a pair on core %lu", core);
    }
}

/* Calls a second while the first `count` pairs run. */
static uint64_t rate(unsigned count)
{
    uint64_t calls = 0, began;

    for (unsigned i = 0; i < PAIRS; i++) {
        if (i < count) {
            sys_thread_resume(pairs[i].client.cap);
        } else {
            sys_thread_suspend(pairs[i].client.cap);
        }
        calls -= pairs[i].calls;
    }
    began = sys_clock().second;
    sys_sleep(ROUND_NS);
    for (unsigned i = 0; i < PAIRS; i++) {
        calls += pairs[i].calls;
    }
    return calls * 1000000000 / (sys_clock().second - began);
}

void bench_pairs(void)
{
    for (unsigned i = 0; i < PAIRS; i++) {
        start(&pairs[i], i);
    }
    for (unsigned i = 0; i < PAIRS_ROUNDS; i++) {
        uint64_t alone = rate(1);

        printf("pairs: %lu alone, %lu together\n", alone, rate(PAIRS));
    }
    for (unsigned i = 0; i < PAIRS; i++) {
        thread_reap(&pairs[i].client);
        helper_stop(&pairs[i].server);
    }
}
