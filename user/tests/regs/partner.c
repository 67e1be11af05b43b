/* SPDX-License-Identifier: MIT */
#include "user/tests/regs/partner.h"

#include <stddef.h>

#include "kernel/abi/fault.h"
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

static void supply_page(void)
{
    struct words words = {.word = {0}};
    struct result page = sys_memory_create(own.quota, PAGE_BYTES, 0);

    ipc_receive(own.extra[PARTNER_ENDPOINT], 0, &words, NULL, TIMEOUT_NONE);
    sys_memory_supply(own.extra[PARTNER_PAGED], words.word[0], page.second, 0);
    sys_cap_delete(page.second);
    ipc_reply(0, INFO_LABEL(FAULT_RESUME), &words, NULL, TIMEOUT_NONE);
}

static void act(struct shared *shared, enum act what)
{
    struct words words = {.word = {11, 22, 33, 44, 55, 66}};
    cap_t endpoint = own.extra[PARTNER_ENDPOINT];

    /* Before the act, for it may let the other one run, who then wants the next. */
    shared->acts[0] = shared->acts[1];
    shared->acts[1] = ACT_NONE;
    remember(shared, &words);
    switch (what) {
    case ACT_NONE:
        break;
    case ACT_PAGE:
        supply_page();
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
        ipc_receive(endpoint, 0, &words, NULL, TIMEOUT_NONE);
        remember(shared, &words);
        turn_over(&words);
        ipc_reply(0, 0, &words, NULL, TIMEOUT_NONE);
        break;
    case ACT_RECEIVE:
        ipc_receive(endpoint, 0, &words, NULL, TIMEOUT_NONE);
        break;
    case ACT_SEND:
        turn_over(&words);
        ipc_send(endpoint, 0, &words, NULL, TIMEOUT_NONE);
        break;
    case ACT_CALL:
        turn_over(&words);
        ipc_call(endpoint, 0, &words, NULL, TIMEOUT_NONE);
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
        act(shared, shared->acts[0]);
    }
}
