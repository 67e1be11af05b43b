/* SPDX-License-Identifier: MIT */
/*
 * regs: no system call, fault or wait may change a register that it has no business with. Every call is
 * made with forged arguments and, where that means something, with good ones and as a wait;
 * whenever this process waits, its partner in another space runs with patterns of its own, looks
 * at them too, and ends the wait. Prints a line for each difference and the totals.
 */
#include "user/tests/regs/partner.h"

#include <stdbool.h>

#include "kernel/lib/string.h"
#include "user/libos/ipc.h"
#include "user/libos/print.h"
#include "user/libos/process.h"
#include "user/libos/signal.h"
#include "user/libos/thread.h"

#define FORGED     0x0000dead00000001UL
#define ANY_RESULT INT64_MIN /* whatever it is, the registers count */

struct call {
    const char *name;
    uint64_t number;
    uint64_t arguments[5];
    int64_t wanted; /* result, or ANY_RESULT */
    enum act act;   /* what the partner does while we wait */
    unsigned rules;
};

#define PAGED_PAGES 32

/* Rows: the arguments come last. A wait is ended by the partner. */
#define WAIT(what, call, wanted, act, rules, ...)           \
    {                                                       \
        what, SYS_##call, {__VA_ARGS__}, wanted, act, rules \
    }
#define CALL(what, call, wanted, ...) WAIT(what, call, wanted, ACT_NONE, 0, __VA_ARGS__)
#define GOOD(call, ...)               CALL(#call, call, 0, __VA_ARGS__)
/* One of the arguments points into a page that is missed. */
#define PAGE(call, wanted, act, rules, ...) \
    WAIT("a missed page in " #call, call, wanted, act, rules, __VA_ARGS__)

static struct region shared_region;
static struct shared *shared;
static struct process partner, pager_process;
static cap_t notification, endpoint, pager;
static struct region memory, paged;
static unsigned probes, differences;
static uint64_t seed = 1000;

static void set_arguments(const struct call *call)
{
    probe.in.rax = call->number;
    probe.in.rsi = call->arguments[0];
    probe.in.rdx = call->arguments[1];
    probe.in.r8 = call->arguments[2];
    probe.in.r9 = call->arguments[3];
    probe.in.r10 = call->arguments[4];
}

static void check_result(const struct call *call)
{
    if (call->wanted != ANY_RESULT && (int64_t)probe.out.rax != call->wanted) {
        printf("regs: %s: returned %ld, not %ld\n", call->name, (int64_t)probe.out.rax,
               call->wanted);
        differences++;
    }
}

/* The words of an answer are those of the question, turned over. */
static void check_words(const struct call *call)
{
    const uint64_t *is = &probe.out.r15;

    for (unsigned i = 0; i < MESSAGE_WORDS; i++) {
        if (is[i] != partner_word(shared->received.word[i])) {
            printf("regs: %s: word %u is 0x%lx\n", call->name, i, is[i]);
            differences++;
        }
    }
}

static void try(const struct call *call)
{
    probe_fill(seed += 1000);
    set_arguments(call);
    shared->act = call->act;
    probe_run(probe_syscall);
    probes++;
    differences += probe_check(call->rules, call->name);
    check_result(call);
    if (call->rules & PROBE_WORDS) {
        check_words(call);
    }
}

/* --- every call with a forged handle --- */

static const char *const call_names[] = {
#define SYSCALL(number, name, kind, args, text) [number] = #name,
#include "kernel/abi/syscalls.def"
#undef SYSCALL
};

/* With a handle of 0 these act on the caller, and a forged one is an address or a time to others. */
static bool needs_care(uint64_t number)
{
    return number == SYS_sleep || number == SYS_handler_return || number == SYS_thread_set_handler;
}

static void try_forged(void)
{
    for (uint64_t number = 0; number < SYS_COUNT + 2; number++) {
        struct call call = {
            .name = number < SYS_COUNT ? call_names[number] : "a number that is none",
            .number = number,
            .arguments = {FORGED, FORGED, FORGED, FORGED, FORGED},
            .wanted = number < SYS_COUNT ? ANY_RESULT : E_NOSYS,
        };
        if (number < SYS_COUNT && (call.name == NULL || needs_care(number))) {
            continue;
        }
        try(&call);
    }
}

/* --- calls that work --- */

static void try_all(const struct call *calls, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        try(&calls[i]);
    }
}

/* On a thread that never runs, and a space that has none. */
static void try_objects(void)
{
    cap_t thread = sys_thread_create(own.quota, own.space, PRIORITY(90, 90)).second;
    cap_t space = sys_space_create(own.quota, 0).second;
    cap_t other = sys_memory_create(own.quota, PAGE_BYTES, pager).second;
    cap_t copy = sys_cap_copy(notification, RIGHT_ALL, 0, 0).second;
    const struct call calls[] = {
        GOOD(notification_create, own.quota),
        GOOD(thread_create, own.quota, own.space, PRIORITY(90, 90)),
        GOOD(space_create, own.quota, 0),
        GOOD(memory_create, own.quota, PAGE_BYTES, 0),
        GOOD(range_slice, memory.memory, 0, PAGE_BYTES),
        GOOD(cap_move, copy, 0),
        GOOD(memory_supply, other, 0, memory.memory, 0),
        GOOD(memory_reclaim, other, 0, memory.memory, 0),
        GOOD(thread_set_priority, thread, 80),
        GOOD(thread_set_affinity, thread, 255),
        GOOD(thread_bind, thread, notification),
        GOOD(thread_bind, thread, 0),
        CALL("thread_cancel", thread_cancel, E_BUSY, thread),
        GOOD(thread_resume, thread),
        CALL("thread_suspend, another", thread_suspend, 0, thread),
        GOOD(thread_start, thread, (uint64_t)probe_after, 0, 0),
        GOOD(thread_end, thread),
        GOOD(thread_set_handler, 0, 0),
        GOOD(space_set_fault, space, endpoint, 1),
        GOOD(space_set_fault, space, 0),
        GOOD(space_watch, space, notification, 4),
        GOOD(space_end, space),
        GOOD(poll, notification),
        CALL("reply_save, of nobody", reply_save, E_NOREPLY, own.quota),
    };

    try_all(calls, sizeof(calls) / sizeof(*calls));
}

/* Refused, if init has given this program no hardware. */
static void try_hardware(void)
{
    const cap_t ports = own.grants[GRANT_IOPORTS];
    cap_t line = sys_range_slice(own.grants[GRANT_IRQS], 9, 1).second;
    const struct call calls[] = {
        CALL("ioports_read", ioports_read, ANY_RESULT, ports, 0x71, 1),
        CALL("ioports_write", ioports_write, ANY_RESULT, ports, 0x80, 1, 0),
        CALL("irq_bind", irq_bind, ANY_RESULT, line, notification, 8),
        CALL("irq_ack", irq_ack, ANY_RESULT, line),
        CALL("nmi_dump", nmi_dump, ANY_RESULT, ports, 0),
        CALL("irq_bind, to nothing", irq_bind, ANY_RESULT, line, 0),
    };

    try_all(calls, sizeof(calls) / sizeof(*calls));
}

static void try_good(void)
{
    static struct thread_info info;
    static struct thread_registers registers;
    struct result caps = sys_cap_copy(notification, RIGHT_ALL, 0, 0);
    uint64_t there = (uint64_t)region_reserve(PAGE_BYTES);
    const struct call calls[] = {
        GOOD(null, 0),
        GOOD(yield, 0),
        GOOD(signal, notification, 4),
        GOOD(poll, notification),
        CALL("poll again", poll, E_AGAIN, notification),
        GOOD(clock, 0),
        CALL("cap_info", cap_info, OBJ_NOTIFICATION, notification),
        GOOD(cap_copy, notification, RIGHT_ALL, 0, 0),
        GOOD(cap_revoke, caps.second),
        GOOD(cap_delete, caps.second),
        GOOD(endpoint_create, own.quota),
        GOOD(quota_split, own.quota, 8192),
        GOOD(quota_info, own.quota),
        GOOD(map, own.space, memory.memory, there | MAP_READ, PAGE_BYTES, 0),
        GOOD(protect, own.space, there, PAGE_BYTES, MAP_READ | MAP_WRITE),
        GOOD(unmap, own.space, there, PAGE_BYTES),
        GOOD(thread_info, 0, (uint64_t)&info),
        CALL("thread_get_registers", thread_get_registers, E_BUSY, partner.thread,
             (uint64_t)&registers),
        GOOD(kernel_info, KINFO_CORES, 0),
    };

    try_all(calls, sizeof(calls) / sizeof(*calls));
}

/* --- waits --- */

static void try_waits(void)
{
    static struct message message;
    const uint64_t extra = INFO_EXTRA, at = (uint64_t)&message, soon = 200000, late = 60000000000;
    const struct call calls[] = {
        GOOD(sleep, soon),
        WAIT("wait", wait, 0, ACT_SIGNAL, 0, notification, TIMEOUT_NONE),
        CALL("wait, timed out", wait, E_TIMEOUT, notification, soon),
        WAIT("wait, cancelled", wait, E_CANCELED, ACT_CANCEL, 0, notification, TIMEOUT_NONE),
        WAIT("suspended", thread_suspend, 0, ACT_RESUME, 0, 0),
        WAIT("call, fast", call, 0, ACT_SERVE, PROBE_WORDS, endpoint, 0),
        WAIT("call, slow", call, 0, ACT_SERVE, PROBE_WORDS, endpoint, extra, at, late),
        CALL("call, timed out", call, E_TIMEOUT, endpoint, extra, 0, soon),
        WAIT("call, cancelled", call, E_CANCELED, ACT_CANCEL, 0, endpoint, 0),
        WAIT("send", send, 0, ACT_RECEIVE, 0, endpoint, 0),
        CALL("send, timed out", send, E_TIMEOUT, endpoint, extra, 0, soon),
        WAIT("receive", receive, 0, ACT_SEND, PROBE_WORDS, endpoint, 0),
        CALL("receive, timed out", receive, E_TIMEOUT, endpoint, extra, 0, soon),
        WAIT("receive of a call", receive, 0, ACT_CALL, PROBE_WORDS, endpoint, 0),
        GOOD(reply, 0, 0),
        WAIT("receive of a second call", receive, 0, ACT_CALL, PROBE_WORDS, endpoint, 0),
        WAIT("reply_receive", reply_receive, 0, ACT_SEND, PROBE_WORDS, endpoint, 0),
        CALL("reply_receive, to nobody", reply_receive, ANY_RESULT, endpoint, extra, 0, soon),
    };

    try_all(calls, sizeof(calls) / sizeof(*calls));
}

/* --- faults --- */

static uint64_t fault_vector;

/* What faulted is left behind; all else must be as it was. */
static void skip(struct fault_info *fault)
{
    fault_vector = fault->vector;
    fault->registers.rip = (uint64_t)probe_after;
}

static void try_fault(const char *name, void (*site)(void), uint64_t vector)
{
    probe_fill(seed += 1000);
    probe.in.rcx = 0;
    fault_vector = ~0UL;
    probe_run(site);
    probes++;
    differences += probe_check(PROBE_ALL, name);
    if (fault_vector != vector) {
        printf("regs: %s: vector %ld, not %lu\n", name, (int64_t)fault_vector, vector);
        differences++;
    }
}

static void try_faults(void)
{
    signal_set(skip, NULL);
    try_fault("invalid opcode", probe_ud2, 6);
    try_fault("int3", probe_int3, 3);
    try_fault("division by zero", probe_divide, 0);
    try_fault("hlt", probe_hlt, 13);
    signal_clear();
}

/* --- missed pages: in user code, and under each kind of pointer that a call takes --- */

static unsigned paged_used;

/* The address of one that nobody has touched yet. */
static uint64_t fresh_page(void)
{
    return (uint64_t)paged.address + PAGE_BYTES * paged_used++;
}

static void fill_pages(const void *start, size_t size)
{
    for (size_t i = 0; i < sizeof(shared->page) / sizeof(*shared->page); i++) {
        shared->page[i] = PARTNER_FILL;
    }
    memcpy(shared->page, start, size);
}

static void try_access(const char *name, void (*site)(void), bool reads)
{
    probe_fill(seed += 1000);
    probe.address = fresh_page();
    probe_run(site);
    probes++;
    if (reads) {
        probe.in.rax = PARTNER_FILL;
    }
    differences += probe_check(PROBE_ALL, name);
}

/* Supplied pages are PARTNER_FILL, which no thread's rip can be: hence E_INVAL. */
static void try_paged_structs(void)
{
    struct result stopped = sys_thread_create(own.quota, own.space, PRIORITY(90, 90));
    const struct call calls[] = {
        PAGE(thread_info, 0, ACT_NONE, 0, 0, fresh_page()),
        PAGE(thread_get_registers, 0, ACT_NONE, 0, stopped.second, fresh_page()),
        PAGE(thread_set_registers, E_INVAL, ACT_NONE, 0, stopped.second, fresh_page()),
        PAGE(handler_return, E_INVAL, ACT_NONE, 0, fresh_page()),
    };

    fill_pages(NULL, 0);
    try_all(calls, sizeof(calls) / sizeof(*calls));
    try_access("a missed page, read", probe_touch, true);
    try_access("a missed page, written", probe_store, false);
}

/* Supplied pages are struct messages, whose buffers are missed next. */
static void try_paged_messages(void)
{
    const uint64_t longer = INFO_EXTRA | LONG_BYTES, none = TIMEOUT_NONE;
    struct message message = {
        .send_buffer = fresh_page(), .receive_buffer = fresh_page(), .receive_size = LONG_BYTES};
    const struct call calls[] = {
        PAGE(call, 0, ACT_SERVE, PROBE_WORDS, endpoint, longer, fresh_page(), none),
        PAGE(send, 0, ACT_RECEIVE, 0, endpoint, longer, fresh_page(), none),
        PAGE(receive, LONG_BYTES, ACT_SEND_LONG, PROBE_WORDS, endpoint, INFO_EXTRA, fresh_page(),
             none),
        WAIT("receive of a call", receive, 0, ACT_CALL, PROBE_WORDS, endpoint, 0),
        PAGE(reply, 0, ACT_NONE, 0, 0, longer, fresh_page(), none),
        WAIT("receive of a second call", receive, 0, ACT_CALL, PROBE_WORDS, endpoint, 0),
        PAGE(reply_receive, 0, ACT_SEND, PROBE_WORDS, endpoint, longer, fresh_page(), none),
    };

    fill_pages(&message, sizeof(message));
    try_all(calls, sizeof(calls) / sizeof(*calls));
}

/* Interrupted by its time slice and whatever else comes; the partner runs in between. */
static void try_preemption(void)
{
    for (unsigned i = 0; i < 20; i++) {
        probe_fill(seed += 1000);
        probe.spins = 2000000;
        probe_run(probe_spin);
        probes++;
        differences += probe_check(PROBE_ALL | PROBE_FLAGS, "preemption");
    }
}

static void make_objects(void)
{
    struct result created = sys_notification_create(own.quota);
    struct result pager_endpoint = sys_endpoint_create(own.quota);

    notification = created.second;
    if (created.value >= 0) {
        created = sys_endpoint_create(own.quota);
        endpoint = created.second;
    }
    pager = pager_endpoint.second;
    if (created.value < 0 || region_create(&shared_region, PAGE_BYTES) < 0 ||
        region_create(&memory, PAGE_BYTES) < 0) {
        die("no memory");
    }
    shared = shared_region.address;
    created = sys_memory_create(own.quota, PAGED_PAGES * PAGE_BYTES, pager);
    if (created.value < 0 ||
        region_map(&paged, created.second, PAGED_PAGES * PAGE_BYTES, MAP_READ | MAP_WRITE) < 0) {
        die("no paged memory");
    }
}

static void start(struct process *process, void (*function)(uint64_t), unsigned priority, cap_t ear)
{
    static struct start_page page;

    if (process_create(process, &page, 4UL << 20, PRIORITY(priority, priority)) < 0 ||
        process_load_twin(process, function, (uint64_t)shared) < 0 ||
        process_share(process, &shared_region, MAP_READ | MAP_WRITE) < 0 ||
        process_give(process, notification, RIGHT_ALL, 0, &page.extra[PARTNER_NOTIFICATION]) < 0 ||
        process_give(process, ear, RIGHT_ALL, 0, &page.extra[PARTNER_ENDPOINT]) < 0 ||
        process_give(process, own.thread, RIGHT_ALL, 0, &page.extra[PARTNER_MAIN]) < 0 ||
        process_give(process, paged.memory, RIGHT_ALL, 0, &page.extra[PARTNER_PAGED]) < 0 ||
        process_start(process) < 0) {
        die("cannot start a helper");
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    unsigned missed = probe_self_test();

    make_objects();
    start(&partner, partner_main, 90, endpoint);
    start(&pager_process, pager_main, 150, pager);
    try_forged();
    try_good();
    try_objects();
    try_hardware();
    try_waits();
    try_faults();
    try_paged_structs();
    try_paged_messages();
    try_preemption();
    differences += shared->differences;
    printf("regs: %u probes, %lu by the partner, %u differences, %u planted ones missed\n", probes,
           shared->probes, differences, missed);
    /* Each page that was meant to be missed was: the probes above are what they say. */
    if (shared->pages != paged_used) {
        printf("regs: %lu pages of %u were missed\n", shared->pages, paged_used);
        differences++;
    }
    return differences != 0 || missed != 0 || shared->probes == 0;
}
