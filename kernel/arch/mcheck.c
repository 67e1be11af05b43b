/* SPDX-License-Identifier: MIT */
#include "kernel/arch/mcheck.h"

#include "kernel/arch/cpu.h"
#include "kernel/arch/segments.h"
#include "kernel/debug/panic.h"
#include "kernel/debug/print.h"

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

void mcheck_record(struct core *core, const struct frame *regs)
{
    struct mcheck_log *log = core->mcheck;
    uint64_t global = rdmsr(MSR_MCG_STATUS);

    for (unsigned bank = 0; bank < bank_count(); bank++) {
        uint64_t status = rdmsr(MSR_MC_STATUS(bank));

        if (!(status & MCHECK_STATUS_VALID)) {
            continue;
        }
        log->records[log->count % MCHECK_LOG] = (struct mcheck_record){
            .rip = regs->rip,
            .global = global,
            .status = status,
            .address = status & MCHECK_STATUS_ADDRESS ? rdmsr(MSR_MC_ADDR(bank)) : 0,
            .misc = rdmsr(MSR_MC_MISC(bank)),
            .bank = bank,
            .user = (regs->cs & 3) != 0,
        };
        log->count++;
        wrmsr(MSR_MC_STATUS(bank), 0);
    }
    core_set_pending(core, CORE_PENDING_MCHECK);
}

void mcheck_open(void)
{
    wrmsr(MSR_MCG_STATUS, 0);
}

static bool fatal(const struct mcheck_record *record)
{
    return record->status & MCHECK_STATUS_CORRUPT || !(record->global & MCHECK_GLOBAL_RESTARTABLE);
}

void mcheck_event(struct core *core)
{
    struct mcheck_log *log = core->mcheck;

    for (; log->worked < log->count; log->worked++) {
        const struct mcheck_record *r = &log->records[log->worked % MCHECK_LOG];

        kprintf(
            "onestack: machine check, core %u bank %u status %lx address %lx misc %lx rip %lx\n",
            core->id, r->bank, r->status, r->address, r->misc, r->rip);
        if (fatal(r)) {
            panic("fatal machine check, bank %u status %lx", r->bank, r->status);
        }
    }
}
