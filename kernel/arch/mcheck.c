/* SPDX-License-Identifier: MIT */
#include "kernel/arch/mcheck.h"

#include "kernel/arch/cpu.h"
#include "kernel/arch/debug_exit.h"
#include "kernel/arch/segments.h"
#include "kernel/broken.h"
#include "kernel/debug/panic.h"
#include "kernel/debug/print.h"
#include "kernel/lib/cache_line.h"
#include "kernel/lib/lock.h"

static struct mcheck_log logs[MAX_CORES];

static unsigned bank_count(void)
{
    return (unsigned)rdmsr(MSR_MCG_CAP) & 0xff;
}

void mcheck_init(struct core *core)
{
    core->mcheck = &logs[core->id];
    for (unsigned bank = 0; bank < bank_count(); bank++) {
        wrmsr(MSR_MC_STATUS(bank), 0);
        wrmsr(MSR_MC_CTL(bank), ~0ULL);
    }
}

/* False: nothing there. */
static bool read_bank(unsigned bank, const struct frame *regs, struct mcheck_record *record)
{
    uint64_t status = rdmsr(MSR_MC_STATUS(bank));

    if (!(status & MCHECK_STATUS_VALID)) {
        return false;
    }
    *record = (struct mcheck_record){
        .rip = regs->rip,
        .global = rdmsr(MSR_MCG_STATUS),
        .status = status,
        .address = status & MCHECK_STATUS_ADDRESS ? rdmsr(MSR_MC_ADDR(bank)) : 0,
        .misc = status & MCHECK_STATUS_MISC ? rdmsr(MSR_MC_MISC(bank)) : 0,
        .bank = bank,
        .user = (regs->cs & 3) != 0,
    };
    return true;
}

static void print_record(const struct core *core, const struct mcheck_record *r)
{
    kprintf("onestack: machine check, core %u bank %u status %lx address %lx misc %lx rip %lx\n",
            core->id, r->bank, r->status, r->address, r->misc, r->rip);
}

/*
 * On the #MC's stack, or where a thread in user mode was struck: there is nothing to go back to. All
 * cores may be here at once, as some machine checks are broadcast; one speaks.
 */
static _Noreturn void panic_machine_check(struct core *core, const struct frame *regs)
{
    static uint32_t spoken_for SHARED;
    const struct mcheck_log *log = core->mcheck;
    struct mcheck_record record;

    if (__atomic_exchange_n(&spoken_for, 1, __ATOMIC_RELAXED)) {
        halt_forever();
    }
    for (uint64_t n = log->worked; n < log->count; n++) {
        print_record(core, &log->records[n % MCHECK_LOG]);
    }
    for (unsigned bank = 0; bank < bank_count(); bank++) {
        if (read_bank(bank, regs, &record)) {
            print_record(core, &record);
        }
    }
    panic("fatal machine check, global status %lx rip %p", rdmsr(MSR_MCG_STATUS),
          (void *)regs->rip);
}

static bool fatal(const struct mcheck_record *r)
{
    if (!(r->status & MCHECK_STATUS_UNCORRECTED)) {
        return false;
    }
    return r->status & (MCHECK_STATUS_CORRUPT | MCHECK_STATUS_OVERFLOW) ||
           (!r->user && mcheck_required(r));
}

void mcheck_record(struct core *core, const struct frame *regs)
{
    struct mcheck_log *log = core->mcheck;
    struct mcheck_record record;
    bool any = false;

    for (unsigned bank = 0; bank < bank_count(); bank++) {
        if (!read_bank(bank, regs, &record)) {
            continue;
        }
        any = true;
        if (fatal(&record)) {
            panic_machine_check(core, regs);
        }
        if (log->count - log->worked < MCHECK_LOG) {
            log->records[log->count % MCHECK_LOG] = record;
            log->count++;
        } else {
            log->lost++;
        }
        wrmsr(MSR_MC_STATUS(bank), 0);
    }
    if (!any && !(rdmsr(MSR_MCG_STATUS) & MCHECK_GLOBAL_RESTARTABLE)) {
        panic_machine_check(core, regs); /* nobody says what it was */
    }
    core_set_pending(core, CORE_PENDING_MCHECK);
}

void mcheck_open(void)
{
    wrmsr(MSR_MCG_STATUS, 0);
}

const struct mcheck_record *mcheck_last(const struct core *core)
{
    const struct mcheck_log *log = core->mcheck;

    return log && log->count ? &log->records[(log->count - 1) % MCHECK_LOG] : NULL;
}

void mcheck_event(struct core *core)
{
    /* One machine check may have struck all cores. */
    static struct lock line SHARED = {.rank = RANK_LINE};
    struct mcheck_log *log = core->mcheck;

    for (; log->worked < log->count; log->worked++) {
        const struct mcheck_record *record = &log->records[log->worked % MCHECK_LOG];

        lock_acquire(&line);
        print_record(core, record);
        lock_release(&line);
        broken_report(core, record);
    }
}
