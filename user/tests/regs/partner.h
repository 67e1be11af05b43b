/* SPDX-License-Identifier: MIT */
/* Who runs while regs waits: a twin in another space, of lower priority. */
#ifndef ONESTACK_REGS_PARTNER_H
#define ONESTACK_REGS_PARTNER_H

#include "user/libos/ipc.h"
#include "user/libos/probe.h"

enum { PARTNER_NOTIFICATION, PARTNER_ENDPOINT, PARTNER_MAIN, PARTNER_PAGED }; /* own.extra[] */

/* How it ends a wait. */
enum act {
    ACT_NONE,
    ACT_SIGNAL,
    ACT_CANCEL,
    ACT_RESUME,
    ACT_SERVE,
    ACT_RECEIVE,
    ACT_SEND,
    ACT_CALL,
    ACT_PAGE /* supply the page of PARTNER_PAGED that was missed; its pager listens at the endpoint */
};

/* Mapped in both spaces. */
struct shared {
    volatile enum act acts[2]; /* what to do next, and after that */
    struct words received; /* what an answer is made from, in the order of struct probe_registers */
    volatile uint64_t probes;
    volatile unsigned differences;
};

static inline uint64_t partner_word(uint64_t word)
{
    return ~word;
}

void partner_main(uint64_t address);

#endif
