/* SPDX-License-Identifier: MIT */
/* The paths: what is set up once, and one round of each. */
#include <stddef.h>

#include "kernel/lib/string.h"
#include "user/libos/print.h"
#include "user/libos/signal.h"
#include "user/libos/thread.h"
#include "user/tests/sweep/sweep.h"

#define LONG_BYTES  1024
#define PAGED_PAGES 256   /* then a new object */
#define NAP         20000 /* ns */

struct shared *shared;
uint64_t sweep_bads;
static cap_t notification, endpoint;
static struct message message;
static char sent[LONG_BYTES], answered[LONG_BYTES];

static void round_probe(void (*site)(void), unsigned rules, const char *what)
{
    probe_run(site);
    if (probe_check(rules, what) != 0) {
        sweep_bads++;
        sweep_bad();
    }
}

static void bad(const char *what)
{
    printf("sweep: %s\n", what);
    sweep_bads++;
    sweep_bad();
}

static void set_call(uint64_t number, uint64_t call, uint64_t a0, uint64_t a1, uint64_t a2,
                     uint64_t a3)
{
    probe_fill(number * 1000);
    probe.in.rax = call;
    probe.in.rsi = a0;
    probe.in.rdx = a1;
    probe.in.r8 = a2;
    probe.in.r9 = a3;
}

static void prepare_notification(void)
{
    notification = sys_notification_create(own.quota).second;
}

static void prepare_server(void)
{
    endpoint = sys_endpoint_create(own.quota).second;
    helper_start(ROLE_SERVER, SWEEP_PRIORITY, endpoint, 0);
    sys_sleep(1000000); /* it waits for us now */
}

/* --- system calls --- */

static void round_null(uint64_t number)
{
    set_call(number, SYS_null, 0, 0, 0, 0);
    round_probe(probe_syscall, PROBE_KEPT_BY_SYSCALL, "null");
}

/* Goes the slow way, and touches user memory. */
static void round_info(uint64_t number)
{
    static struct thread_info info;

    set_call(number, SYS_thread_info, 0, (uint64_t)&info, 0, 0);
    round_probe(probe_syscall, PROBE_KEPT_BY_SYSCALL, "thread_info");
}

static void round_bad_pointer(uint64_t number)
{
    set_call(number, SYS_thread_info, 0, 0x1000, 0, 0);
    round_probe(probe_syscall, PROBE_KEPT_BY_SYSCALL, "a bad pointer");
    if ((int64_t)probe.out.rax != E_FAULT) {
        bad("a bad pointer was accepted");
    }
}

static void round_signal(uint64_t number)
{
    set_call(number, SYS_signal, notification, 1, 0, 0);
    round_probe(probe_syscall, PROBE_KEPT_BY_SYSCALL, "signal");
}

/* --- messages --- */

static void check_answer(void)
{
    const uint64_t *was = &probe.in.r15, *is = &probe.out.r15;

    for (unsigned i = 0; i < MESSAGE_WORDS; i++) {
        if (is[i] != ~was[i]) {
            bad("a word of the answer is wrong");
            return;
        }
    }
}

static void round_call(uint64_t number)
{
    set_call(number, SYS_call, endpoint, 0, 0, 0);
    round_probe(probe_syscall, PROBE_WORDS, "call");
    check_answer();
}

static void round_long(uint64_t number)
{
    message = (struct message){.send_buffer = (uint64_t)sent,
                               .receive_buffer = (uint64_t)answered,
                               .receive_size = sizeof(answered)};
    memset(sent, (int)number, sizeof(sent));
    memset(answered, 0, sizeof(answered));
    set_call(number, SYS_call, endpoint, INFO_EXTRA | LONG_BYTES, (uint64_t)&message, TIMEOUT_NONE);
    round_probe(probe_syscall, PROBE_WORDS, "a long call");
    check_answer();
    if (memcmp(sent, answered, sizeof(sent)) != 0) {
        bad("a byte of the answer is wrong");
    }
}

/* --- waits --- */

static void prepare_wait(void)
{
    prepare_notification();
    helper_start(ROLE_SIGNALLER, SWEEP_HELPER, notification, 0);
}

static void round_wait(uint64_t number)
{
    set_call(number, SYS_wait, notification, TIMEOUT_NONE, 0, 0);
    round_probe(probe_syscall, PROBE_KEPT_BY_SYSCALL, "wait");
}

/* Nobody else runs meanwhile: the core goes idle, the timer ends it. */
static void round_sleep(uint64_t number)
{
    set_call(number, SYS_sleep, NAP, 0, 0, 0);
    round_probe(probe_syscall, PROBE_KEPT_BY_SYSCALL, "sleep");
}

/* --- exceptions --- */

static uint64_t handled;

static void handle(struct fault_info *fault)
{
    handled++;
    fault->registers.rip = (uint64_t)probe_after;
}

static void prepare_handler(void)
{
    static uint8_t stack[4096] __attribute__((aligned(16)));

    signal_set(handle, stack + sizeof(stack));
}

static void round_handler(uint64_t number)
{
    uint64_t before = handled;

    probe_fill(number * 1000);
    round_probe(probe_ud2, PROBE_ALL, "the handler");
    if (handled != before + 1) {
        bad("the handler did not run once");
    }
}

static void prepare_fault_endpoint(void)
{
    prepare_notification();
    endpoint = sys_endpoint_create(own.quota).second;
    helper_start(ROLE_FAULTS, SWEEP_PRIORITY, endpoint, 0);
    sys_sleep(1000000);
    sys_space_set_fault(own.space, endpoint, 0);
}

static void round_fault_endpoint(uint64_t number)
{
    probe_fill(number * 1000);
    round_probe(probe_int3, PROBE_ALL, "the fault endpoint");
}

/* --- missed pages --- */

static struct region paged;
static cap_t paged_memory;

static void prepare_pager(void)
{
    endpoint = sys_endpoint_create(own.quota).second;
    struct result created = sys_memory_create(own.quota, PAGED_PAGES * PAGE_BYTES, endpoint);

    paged_memory = created.second;
    if (created.value < 0 ||
        region_map(&paged, paged_memory, PAGED_PAGES * PAGE_BYTES, MAP_READ | MAP_WRITE) < 0) {
        die("no paged memory");
    }
    helper_start(ROLE_PAGER, SWEEP_PRIORITY, endpoint, paged_memory);
    sys_sleep(1000000);
}

/* Each round misses another page; after the last the pages are there, and the path a plain store. */
static void round_pager(uint64_t number)
{
    probe_fill(number * 1000);
    probe.address = (uint64_t)paged.address + number % PAGED_PAGES * PAGE_BYTES;
    round_probe(probe_store, PROBE_ALL, "a missed page");
    if (*(volatile uint64_t *)probe.address != probe.in.rax || shared->pager_failures != 0) {
        bad("the page has not what was stored");
    }
}

/* The same in a system call: PARMCHK, the pager, and the call again. */
static void round_pager_call(uint64_t number)
{
    struct thread_info *info = (struct thread_info *)((uint8_t *)paged.address +
                                                      number % PAGED_PAGES * PAGE_BYTES);

    set_call(number, SYS_thread_info, 0, (uint64_t)info, 0, 0);
    round_probe(probe_syscall, PROBE_KEPT_BY_SYSCALL, "a missed page in a call");
    if (probe.out.rax != 0 || info->priority != SWEEP_PRIORITY || shared->pager_failures != 0) {
        bad("the call did not write");
    }
}

/* --- interrupts --- */

/* In user code, for its time slice to end: somebody else of the same priority wants to run. */
static void prepare_timer(void)
{
    prepare_notification();
    helper_start(ROLE_SIGNALLER, SWEEP_PRIORITY, notification, 0);
}

static void round_spin(uint64_t number)
{
    probe_fill(number * 1000);
    probe.spins = 10000;
    round_probe(probe_spin, PROBE_ALL | PROBE_FLAGS, "user code");
}

/* --- threads --- */

static volatile uint64_t thread_rounds;

static void do_nothing(void *argument)
{
    (void)argument;
    thread_rounds++;
}

static void use_fpu(void *argument)
{
    uint64_t low = (uint64_t)argument, back, other;

    /* The first of these loads this thread's FPU state; the registers must be empty otherwise. */
    __asm__ volatile("movq %2, %%xmm3\n\t"
                     "movq %%xmm3, %0\n\t"
                     "movq %%xmm4, %1"
                     : "=r"(back), "=r"(other)
                     : "r"(low));
    if (back != low || other != 0) {
        bad("the FPU's content is not this thread's");
    }
    thread_rounds++;
}

/* Made, started (it runs at once, being above us), ended. */
static void round_of_thread(thread_fn *function, void *argument)
{
    struct user_thread thread;
    uint64_t before = thread_rounds;

    sweep_begin();
    int64_t status = thread_spawn(&thread, function, argument, PRIORITY(SWEEP_PRIORITY + 10, 180));
    sweep_end();
    if (status < 0 || thread_rounds != before + 1) {
        bad("the thread did not run once");
    }
    thread_reap(&thread);
}

static void round_thread(uint64_t number)
{
    (void)number;
    round_of_thread(do_nothing, NULL);
}

static void round_fpu(uint64_t number)
{
    /* Ours is in the registers; so is what must not be seen. */
    __asm__ volatile("movq %0, %%xmm4" : : "r"(0x5ec7e75ec7e7UL));
    round_of_thread(use_fpu, (void *)number);
}

/* --- memory --- */

static void round_map(uint64_t number)
{
    static struct region region;
    static uint64_t there;

    if (there == 0) {
        region_create(&region, PAGE_BYTES);
        there = (uint64_t)region_reserve(PAGE_BYTES);
    }
    set_call(number, SYS_map, own.space, region.memory, there | MAP_READ, PAGE_BYTES);
    probe.in.r10 = 0;
    round_probe(probe_syscall, PROBE_KEPT_BY_SYSCALL, "map");
    if (probe.out.rax != 0 || sys_unmap(own.space, there, PAGE_BYTES).value != 0) {
        bad("map or unmap failed");
    }
}

const struct path paths[] = {
    {"null", NULL, round_null},
    {"info", NULL, round_info},
    {"bad-pointer", NULL, round_bad_pointer},
    {"signal", prepare_notification, round_signal},
    {"call", prepare_server, round_call},
    {"long", prepare_server, round_long},
    {"wait", prepare_wait, round_wait},
    {"sleep", NULL, round_sleep},
    {"handler", prepare_handler, round_handler},
    {"fault", prepare_fault_endpoint, round_fault_endpoint},
    {"pager", prepare_pager, round_pager},
    {"pager-call", prepare_pager, round_pager_call},
    {"spin", NULL, round_spin},
    {"timer", prepare_timer, round_spin},
    {"thread", NULL, round_thread},
    {"fpu", NULL, round_fpu},
    {"map", NULL, round_map},
};
const unsigned path_count = sizeof(paths) / sizeof(*paths);
