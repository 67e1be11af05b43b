/* SPDX-License-Identifier: MIT */
/*
 * spread THREADS: where threads go that do not say where they want to be. As many that never wait are
 * started here, then as many that were held on this core are let go. Says each time on how many
 * cores they are.
 */
#include "user/libos/number.h"
#include "user/libos/print.h"
#include "user/libos/start.h"
#include "user/libos/syscall.h"
#include "user/libos/thread.h"

#define MOST         8
#define LOOK_NS      100000000UL /* a few slices */
#define PRIORITY_LOW PRIORITY(90, 90)
#define LOOKS        100
#define ANY_CORE     0xff

static struct user_thread threads[MOST];
static volatile uint64_t places[MOST];

static void spin(void *mine)
{
    volatile uint64_t *place = mine;

    for (;;) {
        *place = sys_kernel_info(KINFO_CORE_HERE, 0).second + 1;
    }
}

static void start(uint64_t count, bool held)
{
    for (uint64_t i = 0; i < count; i++) {
        places[i] = 0;
        if (thread_spawn(&threads[i], spin, (void *)&places[i], PRIORITY_LOW) < 0) {
            die("no thread");
        }
        if (held) {
            sys_thread_set_affinity(threads[i].cap, 0);
        }
    }
}

static uint64_t cores_used(uint64_t count)
{
    uint64_t cores = 0, used = 0;

    for (uint64_t i = 0; i < count; i++) {
        cores |= places[i] ? 1UL << (places[i] - 1) : 0;
    }
    for (; cores; cores &= cores - 1) {
        used++;
    }
    return used;
}

/* A busy host may run some of the machine's cores late: give it time to get there. */
static void tell(const char *what, uint64_t count, uint64_t wanted)
{
    int looks = 0;

    do {
        sys_sleep(LOOK_NS);
    } while (cores_used(count) != wanted && ++looks < LOOKS);
    printf("spread: %s: %lu threads on %lu cores\n", what, count, cores_used(count));
}

int main(int argc, char **argv)
{
    uint64_t count;

    if (argc != 2 || !parse_number(argv[1], &count) || count > MOST) {
        die("THREADS");
    }
    uint64_t cores = sys_kernel_info(KINFO_CORES, 0).second, least = count < cores ? count : cores;

    start(count, false);
    tell("started", count, least);
    for (uint64_t i = 0; i < count; i++) {
        thread_reap(&threads[i]);
    }
    start(count, true);
    tell("held", count, 1);
    for (uint64_t i = 0; i < count; i++) {
        sys_thread_set_affinity(threads[i].cap, ANY_CORE);
    }
    tell("let go", count, least);
    return 0;
}
