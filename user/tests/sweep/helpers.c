/* SPDX-License-Identifier: MIT */
#include "user/tests/sweep/sweep.h"

#include <stddef.h>

#include "kernel/abi/error.h"
#include "user/libos/ipc.h"
#include "user/libos/memory.h"
#include "user/libos/print.h"
#include "user/libos/process.h"
#include "user/libos/syscall.h"
#include "user/libos/thread.h"

#define PRIORITY_WAITER 180
#define PRIORITY_DEVICE 150
#define PRIORITY_WALKER 100
#define PRIORITY_BELOW  90
#define HELPER_BYTES    (2UL << 20)

/* partners.S, paths.S */
_Static_assert(BIT_NMI == 0 && BIT_IRQ == 1, "enum sweep_bit");
_Static_assert(offsetof(struct sweep_shared, irqs) == 8, "SHARED_IRQS");
_Static_assert(offsetof(struct sweep_shared, wakes) == 16, "SHARED_WAKES");
_Static_assert(E_CANCELED == -9, "E_CANCELED");
_Static_assert(INFO_EXTRA == 1 << 28 && COPY_BYTES == 5000 && SMALL_BYTES == 32, "sizes");

cap_t sweep_notification, sweep_endpoint, sweep_quota, sweep_nmi_line, sweep_irq_line,
    sweep_device_line;
struct sweep_shared *sweep_shared;
struct message sweep_message;
uint8_t *sweep_from, *sweep_to;

_Static_assert(EXTRA_COUNT <= EXTRA_CAPS, "start page");

cap_t new_notification(void)
{
    struct result created = sys_notification_create(own.quota);

    if (created.value < 0) {
        die("no notification");
    }
    return created.second;
}

cap_t new_endpoint(void)
{
    struct result created = sys_endpoint_create(own.quota);

    if (created.value < 0) {
        die("no endpoint");
    }
    return created.second;
}

/* An interrupt line of its own capability, bound to `bit` of a notification. */
static cap_t bound_line(uint64_t line, cap_t notification, enum sweep_bit bit)
{
    struct result slice = sys_range_slice(own.grants[GRANT_IRQS], line, 1);

    if (slice.value < 0 || sys_irq_bind(slice.second, notification, 1UL << bit).value < 0) {
        die("cannot bind line %lu", line);
    }
    return slice.second;
}

/* FS and GS are the user's; patterns there too. */
static void set_bases(uint64_t base)
{
    __asm__ volatile("wrfsbase %0; wrgsbase %1" : : "r"(base), "r"(base + 0x1000));
}

cap_t start_twin_on(uint64_t core, void (*function)(uint64_t), uint64_t priority,
                    const cap_t extra[EXTRA_COUNT])
{
    static struct start_page page;
    static struct region shared;
    struct process process;

    if (shared.address == NULL) {
        if (region_create(&shared, PAGE_BYTES) < 0) {
            die("no memory");
        }
        sweep_shared = shared.address;
    }
    if (process_create(&process, &page, HELPER_BYTES, PRIORITY(priority, priority)) < 0 ||
        process_load_twin(&process, function, 0) < 0 ||
        process_share(&process, &shared, MAP_READ | MAP_WRITE) < 0 ||
        sys_thread_set_affinity(process.thread, core).value < 0) {
        die("cannot make a helper");
    }
    for (unsigned i = 0; extra != NULL && i < EXTRA_COUNT; i++) {
        if (extra[i] != 0 && process_give(&process, extra[i], RIGHT_ALL, 0, &page.extra[i]) < 0) {
            die("cannot give capability %u to a helper", i);
        }
    }
    if (process_start(&process) < 0) {
        die("cannot start a helper");
    }
    return process.thread;
}

static cap_t start_twin(void (*function)(uint64_t), uint64_t priority,
                        const cap_t extra[EXTRA_COUNT])
{
    return start_twin_on(WALK_CORE, function, priority, extra);
}

static void take_extra(uint64_t base)
{
    sweep_notification = own.extra[EXTRA_NOTIFICATION];
    sweep_endpoint = own.extra[EXTRA_ENDPOINT];
    set_bases(base);
}

static void waiter_main(uint64_t argument)
{
    (void)argument;
    take_extra(0x100000);
    sweep_nmi_line = own.extra[EXTRA_LINE];
    sweep_irq_line = own.extra[EXTRA_LINE_2];
    sweep_waiter_loop();
}

void start_waiter(void)
{
    cap_t extra[EXTRA_COUNT] = {[EXTRA_NOTIFICATION] = new_notification()};

    extra[EXTRA_LINE] = bound_line(NMI_LINE, extra[EXTRA_NOTIFICATION], BIT_NMI);
    extra[EXTRA_LINE_2] = bound_line(EVENT_LINE, extra[EXTRA_NOTIFICATION], BIT_IRQ);
    start_twin(waiter_main, PRIORITY_WAITER, extra);
    set_bases(0x200000);
}

static void device_main(uint64_t argument)
{
    (void)argument;
    take_extra(0x300000);
    sweep_device_line = own.extra[EXTRA_LINE];
    sweep_device_loop();
}

void start_device(void)
{
    cap_t extra[EXTRA_COUNT] = {[EXTRA_NOTIFICATION] = new_notification()};

    extra[EXTRA_LINE] = bound_line(DEVICE_LINE, extra[EXTRA_NOTIFICATION], BIT_NMI);
    start_twin(device_main, PRIORITY_DEVICE, extra);
}

static void yielder_main(uint64_t argument)
{
    (void)argument;
    take_extra(0x400000);
    sweep_yield_back_loop();
}

void start_yielder(void)
{
    start_twin(yielder_main, PRIORITY_WALKER, (cap_t[EXTRA_COUNT]){0});
}

static void signaller_main(uint64_t argument)
{
    (void)argument;
    take_extra(0x500000);
    sweep_signal_loop();
}

void start_signaller(void)
{
    sweep_notification = new_notification();
    start_twin(signaller_main, PRIORITY_BELOW,
               (cap_t[EXTRA_COUNT]){[EXTRA_NOTIFICATION] = sweep_notification});
}

static void server_main(uint64_t argument)
{
    (void)argument;
    take_extra(0x600000);
    sweep_server_loop();
}

/* Above the walker only so that it waits there before the first call. */
void start_server(void)
{
    sweep_endpoint = new_endpoint();
    start_twin(server_main, PRIORITY_WALKER + 1,
               (cap_t[EXTRA_COUNT]){[EXTRA_ENDPOINT] = sweep_endpoint});
}

/* Neither begins at a page, and the two pages that each touches differ in where they end. */
void make_copy_buffers(void)
{
    struct region buffers;

    if (region_create(&buffers, 4 * PAGE_BYTES) < 0) {
        die("no memory");
    }
    sweep_from = (uint8_t *)buffers.address + 24;
    sweep_to = (uint8_t *)buffers.address + 2 * PAGE_BYTES + 1000;
    for (unsigned i = 0; i < COPY_BYTES; i++) {
        sweep_from[i] = (uint8_t)(i * 7 + i / 256);
    }
    sweep_message = (struct message){.send_buffer = (uint64_t)sweep_from,
                                     .receive_buffer = (uint64_t)sweep_to,
                                     .receive_size = COPY_BYTES};
}

static void copier_main(uint64_t argument)
{
    (void)argument;
    take_extra(0x700000);
    make_copy_buffers();
    sweep_copy_back_loop();
}

static void small_copier_main(uint64_t argument)
{
    (void)argument;
    take_extra(0x700000);
    make_copy_buffers();
    sweep_small_back_loop();
}

static void start_copier_in(void (*function)(uint64_t))
{
    sweep_endpoint = new_endpoint();
    start_twin(function, PRIORITY_WALKER + 1,
               (cap_t[EXTRA_COUNT]){[EXTRA_ENDPOINT] = sweep_endpoint});
}

void start_copier(void)
{
    start_copier_in(copier_main);
}

void start_small_copier(void)
{
    start_copier_in(small_copier_main);
}

static void resumer_main(uint64_t argument)
{
    (void)argument;
    take_extra(0x800000);
    sweep_resumer_loop();
}

void start_resumer(void)
{
    sweep_endpoint = new_endpoint();
    start_twin(resumer_main, PRIORITY_WALKER + 1,
               (cap_t[EXTRA_COUNT]){[EXTRA_ENDPOINT] = sweep_endpoint});
    if (sys_space_set_fault(own.space, sweep_endpoint, 0).value < 0) {
        die("no fault endpoint");
    }
}

static void saver_main(uint64_t argument)
{
    (void)argument;
    take_extra(0x900000);
    sweep_quota = own.quota;
    sweep_saver_loop();
}

void start_saver(void)
{
    sweep_endpoint = new_endpoint();
    start_twin(saver_main, PRIORITY_WALKER + 1,
               (cap_t[EXTRA_COUNT]){[EXTRA_ENDPOINT] = sweep_endpoint});
}

static void driven_main(uint64_t argument)
{
    (void)argument;
    take_extra(0xa00000);
    make_copy_buffers();
    sweep_driven_loop();
}

void start_driven(void)
{
    sweep_endpoint = new_endpoint();
    start_twin(driven_main, PRIORITY_WALKER + 1,
               (cap_t[EXTRA_COUNT]){[EXTRA_ENDPOINT] = sweep_endpoint});
}

/* What it sends is missing, and its pager never answers. */
static void driver_main(uint64_t argument)
{
    uint64_t bytes = 2 * PAGE_BYTES, window = (uint64_t)region_reserve(bytes);
    struct result memory = sys_memory_create(own.quota, bytes, new_endpoint());

    (void)argument;
    take_extra(0xb00000);
    if (memory.value < 0 ||
        sys_map(own.space, memory.second, window | MAP_READ, bytes, 0).value < 0) {
        die("no memory that is missing");
    }
    sweep_message = (struct message){.send_buffer = window + 24};
    sweep_driver_loop();
}

cap_t start_driver(void)
{
    return start_twin(driver_main, PRIORITY_WALKER + 1,
                      (cap_t[EXTRA_COUNT]){[EXTRA_ENDPOINT] = sweep_endpoint});
}
