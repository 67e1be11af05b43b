/* SPDX-License-Identifier: MIT */
/* Those on the other side of a path. */
#include "kernel/abi/fault.h"
#include "user/libos/print.h"
#include "user/libos/thread.h"
#include "user/tests/sweep/sweep.h"

enum { HELPER_OBJECT, HELPER_MORE }; /* own.extra[] */

static enum role role_here;
static char buffer[4096];

static void turn_over(struct words *words)
{
    for (unsigned i = 0; i < MESSAGE_WORDS; i++) {
        words->word[i] = ~words->word[i];
    }
}

/* Answers each call with its words turned over and its bytes as they came. */
static void serve(void)
{
    struct message message = {.send_buffer = (uint64_t)buffer,
                              .receive_buffer = (uint64_t)buffer,
                              .receive_size = sizeof(buffer)};
    struct words words = {.word = {0}};
    cap_t endpoint = own.extra[HELPER_OBJECT];
    struct result result = ipc_receive(endpoint, 0, &words, &message, TIMEOUT_NONE);

    for (;;) {
        turn_over(&words);
        /* A short one stays on the fast way. */
        uint64_t bytes = result.value < 0 ? 0 : info_bytes((uint64_t)result.value);
        result = ipc_reply_receive(endpoint, bytes, &words, bytes ? &message : NULL, TIMEOUT_NONE);
    }
}

/* Backs memory HELPER_MORE, of which this is the pager, with fresh pages. */
static void supply(void)
{
    struct words words = {.word = {0}};
    cap_t endpoint = own.extra[HELPER_OBJECT], memory = own.extra[HELPER_MORE];
    struct result result = ipc_receive(endpoint, 0, &words, NULL, TIMEOUT_NONE);

    while (result.value >= 0) {
        struct result page = sys_memory_create(own.quota, PAGE_BYTES, 0);

        if (page.value < 0 || sys_memory_supply(memory, words.word[0], page.second, 0).value < 0) {
            shared->pager_failures++;
        }
        sys_cap_delete(page.second);
        result = ipc_reply_receive(endpoint, INFO_LABEL(FAULT_RESUME), &words, NULL, TIMEOUT_NONE);
    }
    shared->pager_failures++;
}

/* Lets every fault that comes go on; for traps, whose rip is past them. */
static void resume_faults(void)
{
    struct words words = {.word = {0}};
    struct result result = ipc_receive(own.extra[HELPER_OBJECT], 0, &words, NULL, TIMEOUT_NONE);

    while (result.value >= 0) {
        result = ipc_reply_receive(own.extra[HELPER_OBJECT], INFO_LABEL(FAULT_RESUME), &words, NULL,
                                   TIMEOUT_NONE);
    }
}

/* Below sweep: runs when that waits, and ends the wait. */
static _Noreturn void signal_for_ever(void)
{
    for (;;) {
        sys_signal(own.extra[HELPER_OBJECT], 1);
    }
}

static void helper_main(uint64_t address)
{
    shared = (struct shared *)address;
    switch (role_here) {
    case ROLE_WAITER:
        sweep_waiter(own.extra[HELPER_OBJECT], &shared->nmis);
    case ROLE_SERVER:
        serve();
        break;
    case ROLE_PAGER:
        supply();
        break;
    case ROLE_FAULTS:
        resume_faults();
        break;
    case ROLE_SIGNALLER:
        signal_for_ever();
    case ROLE_COUNT:
        break;
    }
}

/* The twin's data are ours as they are when it is made: so it learns its role. */
void helper_start(enum role role, uint64_t priority, cap_t object, cap_t more)
{
    static struct start_page page;
    static struct process helpers[ROLE_COUNT];
    static struct region region;
    struct process *process = &helpers[role];
    int64_t status = 0;

    if (shared == NULL) {
        status = region_create(&region, PAGE_BYTES);
        shared = region.address;
    }
    role_here = role;
    if (status >= 0) {
        status = process_create(process, &page, 8UL << 20, PRIORITY(priority, priority));
    }
    if (status >= 0) {
        status = process_load_twin(process, helper_main, (uint64_t)shared);
    }
    if (status >= 0) {
        status = process_share(process, &region, MAP_READ | MAP_WRITE);
    }
    if (status >= 0) {
        status = process_give(process, object, RIGHT_ALL, 0, &page.extra[HELPER_OBJECT]);
    }
    if (status >= 0 && more != 0) {
        status = process_give(process, more, RIGHT_ALL, 0, &page.extra[HELPER_MORE]);
    }
    if (status >= 0) {
        status = process_start(process);
    }
    if (status < 0) {
        die("cannot start a helper: %s", error_name(status));
    }
}
