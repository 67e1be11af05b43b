/* SPDX-License-Identifier: MIT */
/*
 * Machine checks (Intel SDM vol. 3, chapter 15). The handler copies the banks, on its own stack at
 * any instruction; the outermost level reports, and panics if the machine cannot go on.
 */
#ifndef ONESTACK_ARCH_MCHECK_H
#define ONESTACK_ARCH_MCHECK_H

#include "kernel/arch/core.h"

#define MCHECK_LOG 8 /* records kept; later ones only count */

#define MCHECK_STATUS_VALID       (1ULL << 63)
#define MCHECK_STATUS_UNCORRECTED (1ULL << 61)
#define MCHECK_STATUS_ADDRESS     (1ULL << 58) /* the bank's address register is valid */
#define MCHECK_STATUS_CORRUPT     (1ULL << 57) /* processor context corrupt: cannot go on */
#define MCHECK_GLOBAL_RESTARTABLE (1ULL << 0)  /* RIPV: the interrupted program can go on */

struct mcheck_record {
    uint64_t rip;
    uint64_t global; /* MCG_STATUS */
    uint64_t status, address, misc;
    uint32_t bank;
    uint32_t user; /* struck in user mode */
};

struct mcheck_log {
    uint64_t count; /* machine checks taken */
    uint64_t worked;
    struct mcheck_record records[MCHECK_LOG];
};

/* On each core: clear the banks, enable all errors. The log is the core's own. */
void mcheck_init(struct core *core);
/*
 * From the #MC entry: copies what the banks say and clears them. Another #MC stops the machine until
 * MCG_STATUS is cleared too, which waits until this one's frame is off the #MC's stack.
 */
void mcheck_record(struct core *core, const struct frame *regs);
/* Clear MCG_STATUS: the next one may come. */
void mcheck_open(void);
/* Outermost level, IF=1. */
void mcheck_event(struct core *core);

#endif
