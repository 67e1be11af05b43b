/* SPDX-License-Identifier: MIT */
/* Figures about the kernel itself, for anyone to read. */
#include "kernel/arch/clock.h"
#include "kernel/arch/mcheck.h"
#include "kernel/arch/smp.h"
#include "kernel/mm/kmem.h"
#include "kernel/syscall.h"

/* Of one core; the others go on counting meanwhile. */
static int64_t core_figure(uint64_t kind, uint64_t index, uint64_t *value)
{
    const struct core *core;

    if (index >= MAX_CORES || !(smp_online() >> index & 1)) {
        return E_INVAL;
    }
    core = core_at((unsigned)index);
    switch (kind) {
    case KINFO_NMI_COUNT:
        *value = core->nmi_count;
        return E_OK;
    case KINFO_NMI_WORKED:
        *value = core->nmi_worked;
        return E_OK;
    case KINFO_IRQ_COUNT:
        *value = core->irq_count;
        return E_OK;
    case KINFO_IRQ_NESTED:
        *value = core->irq_nested;
        return E_OK;
    case KINFO_CORE_STATE:
        *value = (uint64_t)core->nest << 32 | core->core_state;
        return E_OK;
    case KINFO_MCHECK_COUNT:
        *value = core->mcheck ? core->mcheck->count : 0;
        return E_OK;
    case KINFO_MCHECK_STATUS:
        *value = mcheck_last(core) ? mcheck_last(core)->status : 0;
        return E_OK;
    case KINFO_MCHECK_ADDRESS:
        *value = mcheck_last(core) ? mcheck_last(core)->address : 0;
        return E_OK;
    case KINFO_MAIL_COUNT:
        *value = core->mail_count;
        return E_OK;
    case KINFO_ARRIVED:
        *value = core->arrived;
        return E_OK;
    case KINFO_FLUSH_COUNT:
        *value = core->flush_count;
        return E_OK;
    case KINFO_IDLE_NS:
        *value = clock_to_ns(core->dummy.cpu_time);
        return E_OK;
    default:
        return E_INVAL;
    }
}

int64_t sys_kernel_info(struct core *core, struct thread *self)
{
    uint64_t *value = &self->frame.rdx;
    uint64_t kind = ARG0(self), index = ARG1(self);

    switch (kind) {
    case KINFO_CORES:
        *value = smp_online_count();
        return E_OK;
    case KINFO_FREE_BYTES:
        *value = mm_free_bytes();
        return E_OK;
    case KINFO_TSC_HZ:
        *value = machine_clock.tsc_hz;
        return E_OK;
    case KINFO_CORE_HERE:
        *value = core->id;
        return E_OK;
    default:
        return core_figure(kind, index, value);
    }
}
