/* SPDX-License-Identifier: MIT */
/*
 * sweep: reads the name of a path from the console, starts whom it needs, says "sweep: NAME" and
 * walks that path for ever. paths.S has the loops, sweep.h the cast.
 */
#include "user/tests/sweep/sweep.h"

#include <stddef.h>

#include "kernel/lib/string.h"
#include "user/libos/console.h"
#include "user/libos/ipc.h"
#include "user/libos/memory.h"
#include "user/libos/print.h"
#include "user/libos/start.h"
#include "user/libos/syscall.h"
#include "user/libos/thread.h"

/* paths.S */
_Static_assert(offsetof(struct fault_info, registers) == 3 * 8, "FAULT_REGISTERS");
_Static_assert(offsetof(struct thread_registers, rip) == 15 * 8, "REGISTERS_RIP");
_Static_assert(offsetof(struct thread_registers, rflags) == 16 * 8, "REGISTERS_RFLAGS");
_Static_assert(offsetof(struct thread_registers, rbp) == 4 * 8, "rbp in sweep_handler");

typedef void loop_fn(void);
void sweep_handler(void);
void sweep_young(void);
typedef void once_fn(uint64_t a0, uint64_t a1, uint64_t a2);
once_fn sweep_start_once, sweep_pager_call_once, sweep_revoke_once, sweep_delete_once,
    sweep_space_end_once, sweep_cancel_once;
void sweep_touch_once(const void *address);
void sweep_miss_once(const struct message *message);

/* What the loops of single calls need; paths.S. */
struct thread_info sweep_info_buffer;
cap_t sweep_space, sweep_memory;
uint64_t sweep_window;

static uint8_t handler_stack[8192] __attribute__((aligned(16)));
static uint8_t young_stack[4096] __attribute__((aligned(16)));

static void set_handler(void)
{
    uint64_t top = (uint64_t)(handler_stack + sizeof(handler_stack));

    if (sys_thread_set_handler((uint64_t)sweep_handler, top).value < 0) {
        die("no signal handler");
    }
}

static void just_a_notification(void)
{
    sweep_notification = new_notification();
}

static void window_and_memory(void)
{
    struct result created = sys_memory_create(own.quota, PAGE_BYTES, 0);

    sweep_space = own.space;
    sweep_memory = created.second;
    sweep_window = (uint64_t)region_reserve(PAGE_BYTES);
    if (created.value < 0 ||
        sys_map(sweep_space, sweep_memory, sweep_window | MAP_READ, PAGE_BYTES, 0).value < 0) {
        die("no memory");
    }
}

static void device_and_nothing(void)
{
    start_device();
    just_a_notification();
}

static void copier(void)
{
    start_copier();
    make_copy_buffers();
}

static void small_copier(void)
{
    start_small_copier();
    make_copy_buffers();
}

static void notification_of_walker(void)
{
    start_signaller();
    sweep_endpoint = new_endpoint();
    if (sys_thread_bind(own.thread, sweep_notification).value < 0) {
        die("cannot bind");
    }
}

/* ---- objects, made anew each round ---- */

static cap_t made(struct result created)
{
    if (created.value < 0) {
        die("no object");
    }
    return created.second;
}

/* A thread each round; it runs at once, and to its end. */
static void young_loop(void)
{
    for (;;) {
        cap_t thread = made(sys_thread_create(own.quota, own.space, PRIORITY(110, 110)));

        sys_thread_set_affinity(thread, WALK_CORE);
        sweep_start_once(thread, (uint64_t)sweep_young,
                         (uint64_t)(young_stack + sizeof(young_stack)));
        sys_cap_delete(thread);
    }
}

/* A capability, three of that, one of the last of these. */
static void revoke_loop(void)
{
    cap_t root = new_notification();

    for (;;) {
        cap_t copy = root;

        for (unsigned i = 0; i < 3; i++) {
            copy = made(sys_cap_copy(root, RIGHT_ALL, 0, 0));
        }
        made(sys_cap_copy(copy, RIGHT_ALL, 0, 0));
        sweep_revoke_once(root, 0, 0);
    }
}

/* Memory with its only mapping. */
static void delete_loop(void)
{
    uint64_t bytes = 3 * PAGE_BYTES, window = (uint64_t)region_reserve(bytes);

    for (;;) {
        cap_t memory = made(sys_memory_create(own.quota, bytes, 0));

        sys_map(own.space, memory, window | MAP_READ, bytes, 0);
        sweep_delete_once(memory, 0, 0);
    }
}

/* A process: a space with a thread and memory in it. */
static void space_end_loop(void)
{
    cap_t memory = made(sys_memory_create(own.quota, PAGE_BYTES, 0));

    for (;;) {
        cap_t space = made(sys_space_create(own.quota, 0));
        cap_t thread = made(sys_thread_create(own.quota, space, PRIORITY(90, 90)));

        sys_map(space, memory, 0x10000 | MAP_READ, PAGE_BYTES, 0);
        sweep_space_end_once(space, 0, 0);
        sys_cap_delete(thread);
        sys_cap_delete(space);
    }
}

/* ---- pages that are missing ---- */

#define MISSING_BYTES (2 * PAGE_BYTES)

static cap_t pager_endpoint, paged;
static struct region pages; /* what they are supplied from */

static void pager(void *argument)
{
    struct words words = {.word = {0}};

    (void)argument;
    ipc_receive(pager_endpoint, 0, &words, NULL, TIMEOUT_NONE);
    for (;;) {
        if (sys_memory_supply(paged, words.word[0], pages.memory, words.word[0]).value < 0) {
            die("cannot supply a page");
        }
        ipc_reply_receive(pager_endpoint, 0, &words, NULL, TIMEOUT_NONE);
    }
}

static void start_own_pager(void)
{
    static struct user_thread thread;

    pager_endpoint = new_endpoint();
    sweep_window = (uint64_t)region_reserve(MISSING_BYTES);
    if (region_create(&pages, MISSING_BYTES) < 0 ||
        thread_spawn(&thread, pager, NULL, PRIORITY(101, 101)) < 0 ||
        sys_thread_set_affinity(thread.cap, WALK_CORE).value < 0) {
        die("no pager");
    }
}

/* Fresh memory at the same place each round. */
static void miss_pages(void)
{
    uint64_t flags = MAP_READ | MAP_WRITE;

    paged = made(sys_memory_create(own.quota, MISSING_BYTES, pager_endpoint));
    if (sys_map(own.space, paged, sweep_window | flags, MISSING_BYTES, 0).value < 0) {
        die("cannot map pages that are missing");
    }
}

static void drop_pages(void)
{
    sys_unmap(own.space, sweep_window, MISSING_BYTES);
    sys_cap_delete(paged);
}

static void touch_loop(void)
{
    for (;;) {
        miss_pages();
        sweep_touch_once((const void *)sweep_window);
        drop_pages();
    }
}

static void call_loop(void)
{
    for (;;) {
        miss_pages();
        sweep_pager_call_once(0, sweep_window, 0);
        drop_pages();
    }
}

static void pager_and_copier(void)
{
    start_own_pager();
    copier();
    memcpy((uint8_t *)pages.address + 24, sweep_from, COPY_BYTES);
}

/* The second of the two pages that a long message lies in; the first is there, not mapped yet. */
static void miss_loop(void)
{
    struct message message = sweep_message;

    message.send_buffer = sweep_window + 24;
    for (;;) {
        miss_pages();
        sys_memory_supply(paged, 0, pages.memory, 0);
        sweep_miss_once(&message);
        drop_pages();
    }
}

/* Of the one who drives a copy and waits for a page. */
static void cancel_loop(void)
{
    cap_t driver = start_driver();

    for (;;) {
        sweep_cancel_once(driver, 0, 0);
    }
}

/* ---- which path ---- */

loop_fn sweep_null_loop, sweep_slow_loop, sweep_yield_loop, sweep_block_loop, sweep_sleep_loop,
    sweep_call_loop, sweep_copy_loop, sweep_small_loop, sweep_spin_loop, sweep_divide_loop,
    sweep_debug_loop, sweep_breakpoint_loop, sweep_opcode_loop, sweep_stack_fault_loop,
    sweep_protection_loop, sweep_software_loop, sweep_page_fault_loop, sweep_post_loop,
    sweep_info_loop, sweep_bad_pointer_loop, sweep_map_loop, sweep_fault_loop, sweep_nap_loop,
    sweep_bound_loop, sweep_x87_loop, sweep_shadow_loop;

static const struct {
    const char *name;
    loop_fn *prepare, *loop;
} walks[] = {
    {"null", NULL, sweep_null_loop},
    {"shadow", NULL, sweep_shadow_loop},
    {"slow", device_and_nothing, sweep_slow_loop},
    {"post", just_a_notification, sweep_post_loop},
    {"info", NULL, sweep_info_loop},
    {"bad_pointer", NULL, sweep_bad_pointer_loop},
    {"map", window_and_memory, sweep_map_loop},
    {"yield", start_yielder, sweep_yield_loop},
    {"block", start_signaller, sweep_block_loop},
    {"bound", notification_of_walker, sweep_bound_loop},
    {"sleep", NULL, sweep_sleep_loop},
    {"call", start_server, sweep_call_loop},
    {"save", start_saver, sweep_call_loop},
    {"copy", copier, sweep_copy_loop},
    {"small", small_copier, sweep_small_loop},
    {"spin", start_device, sweep_spin_loop},
    {"idle", start_device, sweep_nap_loop},
    {"divide", set_handler, sweep_divide_loop},
    {"debug", set_handler, sweep_debug_loop},
    {"breakpoint", set_handler, sweep_breakpoint_loop},
    {"opcode", set_handler, sweep_opcode_loop},
    {"stack_fault", set_handler, sweep_stack_fault_loop},
    {"protection", set_handler, sweep_protection_loop},
    {"software", set_handler, sweep_software_loop},
    {"x87", set_handler, sweep_x87_loop},
    {"page_fault", set_handler, sweep_page_fault_loop},
    {"fault", start_resumer, sweep_fault_loop},
    {"young", NULL, young_loop},
    {"pager", start_own_pager, touch_loop},
    {"pager_call", start_own_pager, call_loop},
    {"miss", pager_and_copier, miss_loop},
    {"cancel", start_driven, cancel_loop},
    {"revoke", NULL, revoke_loop},
    {"delete", NULL, delete_loop},
    {"space_end", NULL, space_end_loop},
};

int main(int argc, char **argv)
{
    char name[32];

    (void)argc;
    (void)argv;
    if (sys_thread_set_affinity(own.thread, WALK_CORE).value < 0) {
        die("no core %u", WALK_CORE);
    }
    printf("sweep: ready\n");
    if (console_read_line(name, sizeof(name)) < 0) {
        return 1;
    }
    for (size_t i = 0; i < sizeof(walks) / sizeof(*walks); i++) {
        if (strcmp(walks[i].name, name) == 0) {
            start_load();
            start_waiter();
            if (walks[i].prepare) {
                walks[i].prepare();
            }
            printf("sweep: %s\n", name);
            console_drain();
            walks[i].loop();
        }
    }
    die("no walk %s", name);
}
