/* SPDX-License-Identifier: MIT */
#include "user/tests/regs/partner.h"

#include <stddef.h>

#include "kernel/abi/fault.h"
#include "kernel/lib/string.h"
#include "user/libos/memory.h"
#include "user/libos/start.h"

static void turn_over(struct words *words)
{
    for (unsigned i = 0; i < MESSAGE_WORDS; i++) {
        words->word[i] = partner_word(words->word[i]);
    }
}

/* The words come in the order rbx, rbp, r12-r15; the probe has them in the opposite one. */
static void remember(struct shared *shared, const struct words *words)
{
    for (unsigned i = 0; i < MESSAGE_WORDS; i++) {
        shared->received.word[i] = words->word[MESSAGE_WORDS - 1 - i];
    }
}

static void act(struct shared *shared, enum act what)
{
    static uint64_t bytes[LONG_BYTES / 8];
    struct words words = {.word = {11, 22, 33, 44, 55, 66}};
    struct message message = {.send_buffer = (uint64_t)bytes,
                              .receive_buffer = (uint64_t)bytes,
                              .receive_size = sizeof(bytes)};
    cap_t endpoint = own.extra[PARTNER_ENDPOINT];

    /* Before the act, for it may let the other one run, who then wants the next. */
    shared->act = ACT_NONE;
    remember(shared, &words);
    switch (what) {
    case ACT_NONE:
        break;
    case ACT_SIGNAL:
        sys_signal(own.extra[PARTNER_NOTIFICATION], 1);
        break;
    case ACT_CANCEL:
        sys_thread_cancel(own.extra[PARTNER_MAIN]);
        break;
    case ACT_RESUME:
        sys_thread_resume(own.extra[PARTNER_MAIN]);
        break;
    case ACT_SERVE:
        ipc_receive(endpoint, 0, &words, &message, TIMEOUT_NONE);
        remember(shared, &words);
        turn_over(&words);
        ipc_reply(0, 0, &words, NULL, TIMEOUT_NONE);
        break;
    case ACT_RECEIVE:
        ipc_receive(endpoint, 0, &words, &message, TIMEOUT_NONE);
        break;
    case ACT_SEND:
    case ACT_SEND_LONG:
        turn_over(&words);
        ipc_send(endpoint, what == ACT_SEND ? 0 : LONG_BYTES, &words, &message, TIMEOUT_NONE);
        break;
    case ACT_CALL:
        turn_over(&words);
        ipc_call(endpoint, 0, &words, &message, TIMEOUT_NONE);
        break;
    }
}

void partner_main(uint64_t address)
{
    struct shared *shared = (struct shared *)address;

    for (uint64_t round = 0;; round++) {
        probe_fill(round);
        probe.spins = 20;
        probe_run(probe_spin);
        shared->differences += probe_check(PROBE_ALL | PROBE_FLAGS, "the partner");
        shared->probes++;
        /* Nothing is stored where nothing is wanted: regs may wake and want something just now. */
        if (shared->act != ACT_NONE) {
            act(shared, shared->act);
        }
    }
}

/* A page that begins as shared->page says, for the one at `offset`. */
static int64_t supply_page(struct shared *shared, uint64_t offset)
{
    struct region page;
    int64_t status = region_create(&page, PAGE_BYTES);

    if (status < 0) {
        return status;
    }
    uint64_t *words = page.address;
    for (unsigned i = 0; i < PAGE_BYTES / sizeof(uint64_t); i++) {
        words[i] = PARTNER_FILL;
    }
    memcpy(words, shared->page, sizeof(shared->page));
    region_unmap(&page);
    status = sys_memory_supply(own.extra[PARTNER_PAGED], offset, page.memory, 0).value;
    sys_cap_delete(page.memory);
    return status;
}

void pager_main(uint64_t address)
{
    struct shared *shared = (struct shared *)address;
    struct words words = {.word = {0}};
    cap_t endpoint = own.extra[PARTNER_ENDPOINT];
    struct result result = ipc_receive(endpoint, 0, &words, NULL, TIMEOUT_NONE);

    while (result.value >= 0) {
        shared->pages += supply_page(shared, words.word[0]) >= 0;
        result = ipc_reply_receive(endpoint, INFO_LABEL(FAULT_RESUME), &words, NULL, TIMEOUT_NONE);
    }
}
