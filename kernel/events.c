/* SPDX-License-Identifier: MIT */
/* The outermost level's end: work on what was recorded, choose a thread, leave. */
#include "kernel/events.h"

#include "kernel/arch/cpu.h"
#include "kernel/arch/entry.h"
#include "kernel/arch/mcheck.h"
#include "kernel/broken.h"
#include "kernel/debug/dump.h"
#include "kernel/grace.h"
#include "kernel/inherit.h"
#include "kernel/mail.h"
#include "kernel/obj/irq.h"
#include "kernel/sched.h"
#include "kernel/timer.h"

static void drain_interrupts(struct core *core)
{
    for (unsigned word = 0; word < 4; word++) {
        if (core->irq_pending[word] == 0) {
            continue;
        }
        uint64_t bits = __atomic_exchange_n(&core->irq_pending[word], 0, __ATOMIC_RELAXED);
        while (bits) {
            unsigned bit = (unsigned)__builtin_ctzll(bits);
            bits &= bits - 1;
            irq_event(core, word * 64 + bit);
        }
    }
}

static void drain_nmi(struct core *core)
{
    uint64_t count = __atomic_load_n(&core->nmi_count, __ATOMIC_RELAXED);
    uint64_t external = __atomic_load_n(&core->nmi_external, __ATOMIC_RELAXED);
    uint32_t reasons = __atomic_exchange_n(&core->nmi_pending_reasons, 0, __ATOMIC_RELAXED);

    if (external != core->nmi_external_worked) {
        uint64_t news = external - core->nmi_external_worked;

        core->nmi_external_worked = external;
        irq_nmi_event(core, news);
    }
    if (reasons & NMI_REASON_DUMP) {
        dump_print(core);
    }
    core->nmi_worked = count;
}

/* One round; what arrives meanwhile sets its bit again. */
static __attribute__((noinline)) void drain(struct core *core)
{
    uint8_t pending = __atomic_exchange_n(&core->pending, 0, __ATOMIC_RELAXED);

    core->rounds++;

    if (pending & CORE_PENDING_NMI) {
        drain_nmi(core);
    }
    if (pending & CORE_PENDING_MCHECK) {
        mcheck_event(core);
    }
    if (pending & CORE_PENDING_IRQ) {
        drain_interrupts(core);
    }
    if (pending & CORE_PENDING_MAIL) {
        mail_event(core);
        grace_event(core);
        irq_release_event(core);
    }
    if (pending & CORE_PENDING_TIMER) {
        timer_event(core);
    }
}

/* Something is pending, or the current thread need not go on. Apart, so that the rest needs no stack. */
static __attribute__((noinline)) void *choose(struct core *core)
{
    struct thread *next;

    while (__atomic_load_n(&core->pending, __ATOMIC_RELAXED)) {
        drain(core);
    }
    next = entry_current(core);
    if (!sched_stays(core, next)) {
        next = sched_choose(core);
        if (!next) {
            return idle;
        }
    }
    if (next->flags & THREAD_FLAG_TELLS) {
        broken_tell(next);
    }
    return next->continuation ? run_continuation : exit_iret;
}

void *core_exit(struct core *core)
{
    const struct thread *self = entry_current(core);

    core_set_state(core, CORE_ST_SYSCALL);
    if (__builtin_expect(__atomic_load_n(&core->pending, __ATOMIC_RELAXED) != 0, 0) ||
        !sched_stays(core, self)) {
        return choose(core);
    }
    return __builtin_expect(self->continuation != NULL, 0) ? run_continuation : exit_iret;
}

void continuation_run(struct core *core)
{
    struct thread *self = entry_current(core);
    continuation_fn *next = self->continuation;

    self->continuation = NULL;
    if (self->flags & THREAD_FLAG_URGENT) {
        self->flags &= (uint16_t)~THREAD_FLAG_URGENT;
        thread_inherit(core, self);
    }
    next(core, self);
}
