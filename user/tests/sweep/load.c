/* SPDX-License-Identifier: MIT */
/*
 * What another core does while this one is struck: two processes of its own there, below everybody's
 * concern, one of which calls the other, signals, maps and makes objects without end. They share the
 * kernel's locks, queues and allocators with the walker, and nothing else.
 */
#include "user/libos/ipc.h"
#include "user/libos/memory.h"
#include "user/libos/print.h"
#include "user/libos/start.h"
#include "user/libos/syscall.h"
#include "user/tests/sweep/sweep.h"

#define LOAD_CORE 1

static void load_server_main(uint64_t argument)
{
    struct words words = {.word = {0}};

    (void)argument;
    ipc_receive(own.extra[EXTRA_ENDPOINT], 0, &words, NULL, TIMEOUT_NONE);
    for (;;) {
        ipc_reply_receive(own.extra[EXTRA_ENDPOINT], 0, &words, NULL, TIMEOUT_NONE);
    }
}

static void load_main(uint64_t argument)
{
    struct words words = {.word = {0}};
    cap_t bits = new_notification();
    struct result memory = sys_memory_create(own.quota, PAGE_BYTES, 0);
    uint64_t window = (uint64_t)region_reserve(PAGE_BYTES);

    (void)argument;
    for (;;) {
        for (unsigned i = 0; i < 8; i++) {
            sys_null();
            ipc_call(own.extra[EXTRA_ENDPOINT], 0, &words, NULL, TIMEOUT_NONE);
        }
        sys_signal(bits, 1);
        sys_poll(bits);
        sys_map(own.space, memory.second, window | MAP_READ, PAGE_BYTES, 0);
        sys_unmap(own.space, window, PAGE_BYTES);
        sys_cap_delete(sys_endpoint_create(own.quota).second);
    }
}

void start_load(void)
{
    if (sys_kernel_info(KINFO_CORES, 0).second > LOAD_CORE) {
        cap_t extra[EXTRA_COUNT] = {[EXTRA_ENDPOINT] = new_endpoint()};

        start_twin_on(LOAD_CORE, load_server_main, PRIORITY_LOAD + 1, extra);
        start_twin_on(LOAD_CORE, load_main, PRIORITY_LOAD, extra);
    }
}
