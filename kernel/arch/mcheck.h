/* SPDX-License-Identifier: MIT */
/*
 * Machine checks (Intel SDM vol. 3, chapter 15). The handler copies the banks, on its own stack at
 * any instruction, and panics if the machine cannot go on; the outermost level does the rest.
 */
#ifndef ONESTACK_ARCH_MCHECK_H
#define ONESTACK_ARCH_MCHECK_H

#include "kernel/arch/core.h"

#define MCHECK_LOG 16 /* records kept until they are worked on; those beyond are `lost` */

#define MCHECK_STATUS_VALID       (1ULL << 63)
#define MCHECK_STATUS_OVERFLOW    (1ULL << 62) /* another error's record is lost */
#define MCHECK_STATUS_UNCORRECTED (1ULL << 61)
#define MCHECK_STATUS_MISC        (1ULL << 59) /* the bank's further register is valid */
#define MCHECK_STATUS_ADDRESS     (1ULL << 58) /* the bank's address register is valid */
#define MCHECK_STATUS_CORRUPT     (1ULL << 57) /* processor context corrupt: cannot go on */
#define MCHECK_STATUS_ACTION      (1ULL << 55) /* what was interrupted has to do with it */
#define MCHECK_GLOBAL_RESTARTABLE (1ULL << 0)  /* RIPV: the interrupted program can go on */

struct mcheck_record {
    uint64_t rip;
    uint64_t global; /* MCG_STATUS */
    uint64_t status, address, misc;
    uint32_t bank;
    uint32_t user; /* struck in user mode */
};

struct mcheck_log {
    uint64_t count; /* banks recorded */
    uint64_t worked;
    uint64_t lost; /* banks not recorded, as there was no room */
    struct mcheck_record records[MCHECK_LOG];
};

/* On each core: clear the banks, enable all errors. The log is the core's own. */
void mcheck_init(struct core *core);
/*
 * From the #MC entry: copies what the banks say and clears them. Another #MC stops the machine until
 * MCG_STATUS is cleared too, which waits until this one's frame is off the #MC's stack. It does not
 * return if an error is fatal: the processor's context is corrupt, an error was lost, or ring 0 was
 * struck and cannot go on or has used what is broken.
 */
void mcheck_record(struct core *core, const struct frame *regs);
/* Clear MCG_STATUS: the next one may come. */
void mcheck_open(void);
/* Outermost level, IF=1: report what was recorded, to the processes concerned, too (broken.h). */
void mcheck_event(struct core *core);
/* Must the thread that was struck not go on? */
static inline bool mcheck_required(const struct mcheck_record *record)
{
    return record->status & MCHECK_STATUS_ACTION || !(record->global & MCHECK_GLOBAL_RESTARTABLE);
}
/* The newest record of a core, also when it has been worked on; NULL = there is none. */
const struct mcheck_record *mcheck_last(const struct core *core);

#endif
