/* SPDX-License-Identifier: MIT */
/*
 * What the other cores do while the walker's is struck: on each a process of its own that calls,
 * signals, maps and makes objects without end, and a server that another one calls: of the next core
 * where there are several, so that messages cross. They share the kernel's locks, queues and
 * allocators with the walker, and nothing else.
 */
#include "user/libos/ipc.h"
#include "user/libos/memory.h"
#include "user/libos/print.h"
#include "user/libos/start.h"
#include "user/libos/syscall.h"
#include "user/tests/sweep/sweep.h"

#define FIRST_LOAD (WALK_CORE + 1)

static void serve_load(uint64_t argument)
{
    cap_t endpoint = own.extra[EXTRA_ENDPOINT];
    struct words words = {0};

    (void)argument;
    ipc_receive(endpoint, 0, &words, NULL, TIMEOUT_NONE);
    for (;;) {
        ipc_reply_receive(endpoint, 0, &words, NULL, TIMEOUT_NONE);
    }
}

static void load_main(uint64_t argument)
{
    cap_t endpoint = own.extra[EXTRA_ENDPOINT];
    cap_t bits = new_notification();
    struct result memory = sys_memory_create(own.quota, PAGE_BYTES, 0);
    uint64_t window = (uint64_t)region_reserve(PAGE_BYTES);
    struct words words = {0};

    (void)argument;
    for (;;) {
        for (unsigned i = 0; i < 8; i++) {
            ipc_call(endpoint, 0, &words, NULL, TIMEOUT_NONE);
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
    uint64_t cores = sys_kernel_info(KINFO_CORES, 0).second;

    for (uint64_t core = FIRST_LOAD; core < cores; core++) {
        cap_t extra[EXTRA_COUNT] = {[EXTRA_ENDPOINT] = new_endpoint()};
        uint64_t next = core + 1 < cores ? core + 1 : FIRST_LOAD;

        start_twin_on(next, serve_load, PRIORITY_LOAD, extra);
        start_twin_on(core, load_main, PRIORITY_LOAD, extra);
    }
}
