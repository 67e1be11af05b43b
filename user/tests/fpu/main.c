/* SPDX-License-Identifier: MIT */
/*
 * fpu: what threads see in the FPU's, SSE's and AVX's registers. Each keeps its own through every kind
 * of switch; a new one finds the initial state, whoever ran before and whoever had its memory; the
 * first use is paid for by the thread's account, and is a fault where that is empty. One line each.
 */
#include "user/tests/fpu/state.h"

#include <stddef.h>

#include "kernel/lib/string.h"
#include "user/libos/ipc.h"
#include "user/libos/print.h"
#include "user/libos/process.h"
#include "user/libos/signal.h"
#include "user/libos/thread.h"

#define ROUNDS        200
#define X87_INITIAL   0x037fu
#define MXCSR_INITIAL 0x1f80u
#define VECTOR_NM     7
#define LOWER         PRIORITY(90, 100)
#define SAME          PRIORITY(100, 100)
#define FRESH_STACK   256
#define THREAD_BYTES  512 /* of kernel memory */
#define SPINS         200000

_Static_assert(offsetof(struct fpu_registers, x87) == 512, "X87");
_Static_assert(offsetof(struct fpu_registers, mxcsr) == 620, "MXCSR");
_Static_assert(offsetof(struct fpu_registers, done) == 624, "DONE");

uint32_t fpu_has_avx;

static unsigned failures;

static void result(const char *name, unsigned bad)
{
    printf("fpu: %s: %s\n", name, bad == 0 ? "ok" : "WRONG");
    failures += bad;
}

static uint8_t byte_of(uint64_t seed, unsigned i)
{
    return (uint8_t)((seed * 0x9e3779b97f4a7c15UL + i * 0x100000001b3UL) >> 24);
}

/* Every register a value of its own; the x87's are numbers, so that no load changes them. */
static void fill(struct fpu_registers *r, uint64_t seed)
{
    *r = (struct fpu_registers){.mxcsr = MXCSR_INITIAL | (uint32_t)(seed & 3) << 13};
    for (unsigned i = 0; i < sizeof(r->ymm); i++) {
        r->ymm[i / 32][i % 32] = byte_of(seed, i);
    }
    r->x87.control = X87_INITIAL | (uint32_t)(seed & 3) << 10;
    for (unsigned i = 0; i < 80; i++) {
        r->x87.st[i / 10][i % 10] = byte_of(seed, 1000 + i);
    }
    for (unsigned i = 0; i < 8; i++) {
        r->x87.st[i][7] |= 0x80; /* the integer bit */
        r->x87.st[i][9] = 0x3f;  /* an ordinary exponent */
    }
}

static bool same(const struct fpu_registers *a, const struct fpu_registers *b)
{
    for (unsigned i = 0; i < 16; i++) {
        if (memcmp(a->ymm[i], b->ymm[i], fpu_has_avx ? 32 : 16) != 0) {
            return false;
        }
    }
    return memcmp(a->x87.st, b->x87.st, sizeof(a->x87.st)) == 0 && a->mxcsr == b->mxcsr &&
           (uint16_t)a->x87.control == (uint16_t)b->x87.control &&
           (uint16_t)a->x87.tags == (uint16_t)b->x87.tags;
}

static bool is_initial(const struct fpu_registers *r)
{
    static const struct fpu_registers zero;
    struct fpu_registers expected = zero;

    expected.mxcsr = MXCSR_INITIAL;
    expected.x87.control = X87_INITIAL;
    expected.x87.tags = 0xffff; /* all empty */
    return same(r, &expected);
}

/* --- a pattern through switches of each kind --- */

static unsigned keep(uint64_t seed, void (*wait)(void *), void *argument)
{
    struct fpu_registers before, after;

    fill(&before, seed);
    fpu_load(&before);
    wait(argument);
    fpu_store(&after);
    return !same(&before, &after);
}

static void by_yield(void *argument)
{
    (void)argument;
    sys_yield();
}

static void by_sleep(void *argument)
{
    (void)argument;
    sys_sleep(20000);
}

static void by_spinning(void *argument)
{
    (void)argument;
    for (volatile unsigned i = 0; i < SPINS; i++) {
    }
}

static void by_call(void *argument)
{
    struct words words = {{0}};

    ipc_call(*(cap_t *)argument, 0, &words, NULL, TIMEOUT_NONE);
}

struct peer {
    cap_t endpoint; /* 0: none */
    volatile uint64_t rounds, bad;
    volatile bool stop;
};

/* Runs beside main, with patterns of its own. */
static void beside(void *argument)
{
    struct peer *peer = argument;

    while (!peer->stop) {
        peer->bad += keep(0x1000 + peer->rounds, by_yield, NULL);
        peer->rounds++;
    }
}

/* Serves calls, changing all registers each time. */
static void server(uint64_t address)
{
    struct peer *peer = (struct peer *)address;
    struct fpu_registers before, after;
    struct words words = {{0}};

    ipc_receive(peer->endpoint, 0, &words, NULL, TIMEOUT_NONE);
    for (;;) {
        fill(&before, 0x2000 + peer->rounds);
        fpu_load(&before);
        ipc_reply_receive(peer->endpoint, 0, &words, NULL, TIMEOUT_NONE);
        fpu_store(&after);
        peer->bad += !same(&before, &after);
        peer->rounds++;
    }
}

/* Serves calls; for the first half of them it has no such registers. */
static void late_server(void *argument)
{
    struct peer *peer = argument;
    struct fpu_registers before, after;
    struct words words = {{0}};

    ipc_receive(peer->endpoint, 0, &words, NULL, TIMEOUT_NONE);
    for (;;) {
        bool uses = peer->rounds >= ROUNDS / 2;

        if (uses) {
            fill(&before, 0x4000 + peer->rounds);
            fpu_load(&before);
        }
        ipc_reply_receive(peer->endpoint, 0, &words, NULL, TIMEOUT_NONE);
        if (uses) {
            fpu_store(&after);
            peer->bad += !same(&before, &after);
        }
        peer->rounds++;
    }
}

static void test_beside(const char *name, void (*wait)(void *), uint64_t rounds)
{
    struct peer peer = {0};
    struct user_thread thread;
    unsigned bad = 0;

    if (thread_spawn(&thread, beside, &peer, SAME) < 0) {
        die("no thread");
    }
    for (uint64_t i = 0; i < rounds || peer.rounds == 0; i++) {
        bad += keep(i, wait, NULL);
    }
    peer.stop = true;
    thread_reap(&thread);
    result(name, bad + (unsigned)peer.bad);
}

static void test_calls_to_another_space(void)
{
    static struct start_page page;
    struct process process;
    struct region shared;
    unsigned bad = 0;

    if (region_create(&shared, PAGE_BYTES) < 0 ||
        process_create(&process, &page, 4UL << 20, SAME) < 0 ||
        process_load_twin(&process, server, (uint64_t)shared.address) < 0 ||
        process_share(&process, &shared, MAP_READ | MAP_WRITE) < 0) {
        die("no twin");
    }
    struct peer *peer = shared.address;
    cap_t endpoint = sys_endpoint_create(own.quota).second;

    if (process_give(&process, endpoint, RIGHT_ALL, 0, &peer->endpoint) < 0 ||
        process_start(&process) < 0) {
        die("no server");
    }
    for (uint64_t i = 0; i < ROUNDS; i++) {
        bad += keep(i, by_call, &endpoint);
    }
    result("calls to another space", bad + (unsigned)peer->bad + (peer->rounds < ROUNDS - 1));
    process_destroy(&process);
    region_release(&shared);
    sys_cap_delete(endpoint);
}

static void test_calls_to_a_late_one(void)
{
    struct peer peer = {.endpoint = sys_endpoint_create(own.quota).second};
    struct user_thread thread;
    unsigned bad = 0;

    if (thread_spawn(&thread, late_server, &peer, SAME) < 0) {
        die("no thread");
    }
    for (uint64_t i = 0; i < ROUNDS; i++) {
        bad += keep(i, by_call, &peer.endpoint);
    }
    thread_reap(&thread);
    sys_cap_delete(peer.endpoint);
    result("calls to one that begins late", bad + (unsigned)peer.bad + (peer.rounds < ROUNDS - 1));
}

/* --- new threads --- */

static cap_t raw_thread(cap_t quota, void (*entry)(void), void *stack_top, uint64_t argument)
{
    struct result made = sys_thread_create(quota, own.space, SAME);

    if (made.value < 0 ||
        sys_thread_start(made.second, (uint64_t)entry, (uint64_t)stack_top, argument).value < 0) {
        die("no thread: %ld", made.value);
    }
    return made.second;
}

static unsigned look_fresh(uint64_t seed)
{
    static uint8_t stack[FRESH_STACK] __attribute__((aligned(16)));
    static struct fpu_registers mine, theirs, after;

    theirs = (struct fpu_registers){0};
    fill(&mine, seed);
    fpu_load(&mine); /* what it must not see */
    cap_t thread = raw_thread(own.quota, fpu_fresh, stack + sizeof(stack), (uint64_t)&theirs);

    while (__atomic_load_n(&theirs.done, __ATOMIC_ACQUIRE) == 0) {
        sys_yield();
    }
    fpu_store(&after);
    sys_cap_delete(thread);
    return !is_initial(&theirs) + !same(&mine, &after);
}

static void dirty(void *argument)
{
    struct fpu_registers pattern;

    (void)argument;
    fill(&pattern, 0x3000);
    fpu_load(&pattern);
}

static void test_fresh(void)
{
    unsigned bad = 0;

    bad += look_fresh(1);
    uint64_t before = sys_quota_info(own.quota).second;

    for (uint64_t i = 0; i < ROUNDS; i++) {
        struct user_thread thread;

        bad += look_fresh(i);
        /* Whose memory the next one may get; it ends with its registers loaded. */
        if (thread_spawn(&thread, dirty, NULL, SAME) < 0) {
            die("no thread");
        }
        sys_yield();
        thread_reap(&thread);
    }
    result("a new thread's are initial", bad);
    result("nothing is left of ended ones", sys_quota_info(own.quota).second != before);
}

/* --- who pays --- */

static volatile uint64_t fault_vector;

static void on_fault(struct fault_info *fault)
{
    fault_vector = fault->vector;
    fault->registers.rip = (uint64_t)fpu_touched;
}

static volatile bool touched, measured;

static void touch(void *argument)
{
    (void)argument;
    signal_set(on_fault, NULL);
    fpu_touch();
    touched = true;
    while (!measured) {
        sys_yield();
    }
}

/* Threads that never run: with the one that does they fill a page of the account. */
static void fill_page(cap_t quota, cap_t threads[], unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        threads[i] = sys_thread_create(quota, own.space, SAME).second;
    }
}

/* On an account with so many bytes: the vector of the fault, 0 = none; *used: what it took. */
static uint64_t touch_on(uint64_t bytes, uint64_t *used)
{
    static uint8_t stack[8192] __attribute__((aligned(16)));
    struct thread_entry *entry = (struct thread_entry *)(stack + sizeof(stack)) - 1;
    cap_t quota = sys_quota_split(own.quota, bytes).second;
    cap_t others[PAGE_BYTES / THREAD_BYTES - 1];

    *entry = (struct thread_entry){touch, NULL};
    fault_vector = 0;
    touched = measured = false;
    fill_page(quota, others, sizeof(others) / sizeof(*others));
    uint64_t before = sys_quota_info(quota).second;
    cap_t thread = raw_thread(quota, thread_entry_point, entry, (uint64_t)entry);

    while (!touched) {
        sys_yield();
    }
    *used = before - sys_quota_info(quota).second;
    measured = true;
    sys_cap_delete(thread);
    for (unsigned i = 0; i < sizeof(others) / sizeof(*others); i++) {
        sys_cap_delete(others[i]);
    }
    sys_cap_delete(quota);
    return fault_vector;
}

static void test_account(void)
{
    uint64_t poor, rich;
    uint64_t before = sys_quota_info(own.quota).second;

    /* One page holds the threads, another the save area. */
    result("first use without memory is a fault", touch_on(PAGE_BYTES, &poor) != VECTOR_NM);
    result("first use is paid for",
           touch_on(4 * PAGE_BYTES, &rich) != 0 || rich != PAGE_BYTES || poor != 0);
    result("and given back", sys_quota_info(own.quota).second != before);
}

static bool avx_enabled(void)
{
    uint32_t eax = 1, ebx, ecx, edx, low, high;

    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    if (!(ecx & 1u << 27) || !(ecx & 1u << 28)) {
        return false;
    }
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 6) == 6;
}

int main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    fpu_has_avx = avx_enabled();
    printf("fpu: with%s AVX\n", fpu_has_avx ? "" : "out");
    test_account(); /* first: it wants what the account has to be the same before and after */
    test_fresh();
    test_beside("yield", by_yield, ROUNDS);
    test_beside("sleep", by_sleep, 20);
    test_beside("time slice", by_spinning, 50);
    test_calls_to_another_space();
    test_calls_to_a_late_one();
    printf("fpu: %u wrong\n", failures);
    return failures != 0;
}
