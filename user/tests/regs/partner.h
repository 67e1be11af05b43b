/* SPDX-License-Identifier: MIT */
/*
 * The others: the partner, a twin in another space and of lower priority, which runs while regs
 * waits and ends the wait; and the pager, above regs, which supplies the pages that regs misses.
 */
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
    ACT_SEND_LONG,
    ACT_CALL
};

/* What supplied pages are full of behind shared->page: no canonical address. */
#define PARTNER_FILL 0x0000800000000000UL
#define LONG_BYTES   8 /* beyond the six words, wherever a message is long */

/* Mapped in both spaces. */
struct shared {
    volatile enum act act; /* what to do next */
    struct words received; /* what an answer is made from, in the order of struct probe_registers */
    uint64_t page[16];     /* what a supplied page begins with */
    volatile uint64_t pages;
    volatile uint64_t probes;
    volatile unsigned differences;
};

static inline uint64_t partner_word(uint64_t word)
{
    return ~word;
}

void partner_main(uint64_t address);
void pager_main(uint64_t address);

#endif
