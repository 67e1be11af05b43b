/* SPDX-License-Identifier: MIT */
/*
 * busy [SECONDS]: user code that does nothing but look at its registers, for NMIs and interrupts to
 * strike, for so long or until a line is typed. A timer of its own and a twin in another space add
 * wake-ups and switches. Prints a line for each difference, progress once a second, and what the
 * kernel counted meanwhile.
 */
#include "kernel/lib/string.h"
#include "user/libos/console.h"
#include "user/libos/number.h"
#include "user/libos/print.h"
#include "user/libos/probe.h"
#include "user/libos/process.h"
#include "user/libos/syscall.h"
#include "user/libos/thread.h"

#define SECOND   1000000000UL
#define FOR_EVER (1UL << 32) /* seconds */

static uint64_t count(enum kernel_info_kind kind)
{
    uint64_t sum = 0;

    for (uint64_t core = 0; core < sys_kernel_info(KINFO_CORES, 0).second; core++) {
        sum += sys_kernel_info(kind, core).second;
    }
    return sum;
}

/* Mapped in both spaces. */
struct shared {
    volatile uint64_t looks, differences; /* the twin's */
};

/* Patterns of its own; it gets its turn when our time slice ends. */
static void twin(uint64_t address)
{
    struct shared *shared = (struct shared *)address;

    for (;;) {
        probe_fill(++shared->looks << 32);
        probe.spins = 1000;
        probe_run(probe_spin);
        shared->differences += probe_check(PROBE_ALL | PROBE_FLAGS, "the twin");
    }
}

/* Wakes every 100 microseconds, above everybody here. */
static void ticker(void *argument)
{
    volatile uint64_t *ticks = argument;

    for (;;) {
        sys_sleep(100000);
        ++*ticks;
    }
}

static unsigned look(uint64_t seed)
{
    probe_fill(seed);
    if (seed % 4 == 0) {
        probe.in.rax = SYS_null;
        probe_run(probe_syscall);
        return probe_check(PROBE_KEPT_BY_SYSCALL, "null");
    }
    probe.spins = 500;
    probe_run(probe_spin);
    return probe_check(PROBE_ALL | PROBE_FLAGS, "user code");
}

static struct shared *start_helpers(volatile uint64_t *ticks)
{
    static struct start_page page;
    struct process process;
    struct user_thread thread;
    struct region shared;

    if (region_create(&shared, PAGE_BYTES) < 0 ||
        process_create(&process, &page, 4UL << 20, PRIORITY(100, 100)) < 0 ||
        process_load_twin(&process, twin, (uint64_t)shared.address) < 0 ||
        process_share(&process, &shared, MAP_READ | MAP_WRITE) < 0 || process_start(&process) < 0 ||
        thread_spawn(&thread, ticker, (void *)ticks, PRIORITY(150, 150)) < 0) {
        die("cannot start the helpers");
    }
    return shared.address;
}

int main(int argc, char **argv)
{
    uint64_t seconds = FOR_EVER;
    static volatile uint64_t ticks;
    unsigned differences = 0, missed = probe_self_test();
    uint64_t looks = 0, start = sys_clock().second, next = start + SECOND;
    uint64_t nmis = count(KINFO_NMI_COUNT), worked = count(KINFO_NMI_WORKED);
    uint64_t irqs = count(KINFO_IRQ_COUNT);

    if (argc > 1 && !parse_number(argv[1], &seconds)) {
        die("usage: busy [SECONDS]");
    }
    struct shared *shared = start_helpers(&ticks);
    printf("busy: ready\n");
    for (uint64_t now = start; now < start + seconds * SECOND; now = sys_clock().second) {
        differences += look(++looks);
        if (looks % 64 == 0 && console_poll() > 0) {
            break;
        }
        if (now >= next) {
            next += SECOND;
            printf("busy: %lu looks, %lu ticks\n", looks, ticks);
        }
    }
    printf(
        "busy: %lu looks, %u differences, %u planted ones missed, %lu nmis, %lu worked, %lu irqs\n",
        looks, differences, missed, count(KINFO_NMI_COUNT) - nmis, count(KINFO_NMI_WORKED) - worked,
        count(KINFO_IRQ_COUNT) - irqs);
    return differences != 0 || missed != 0 || shared->looks == 0;
}
