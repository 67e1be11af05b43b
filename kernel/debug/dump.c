/* SPDX-License-Identifier: MIT */
#include "kernel/debug/dump.h"

#include "kernel/arch/clock.h"
#include "kernel/arch/lapic.h"
#include "kernel/arch/smp.h"
#include "kernel/debug/print.h"
#include "kernel/debug/report.h"
#include "kernel/events.h"
#include "kernel/lib/cache_line.h"
#include "kernel/obj/range.h"
#include "kernel/syscall.h"

#define BETWEEN_NS 1000000000ULL

enum phase { DISARMED, ARMED, CLAIMED, ASKED, PRINTING };
static uint32_t phase SHARED; /* ARMED to ASKED in NMI context; CLAIMED until `number` is set */
static uint32_t number;
static uint64_t earliest; /* TSC: not before that */
static bool stay_armed;

static bool step(enum phase from, enum phase to)
{
    uint32_t expected = from;

    return __atomic_compare_exchange_n(&phase, &expected, to, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

/* Armed if that is wanted, unless one is being told. Who wants otherwise meanwhile may have looked too early. */
static void settle(void)
{
    bool wanted;

    do {
        wanted = __atomic_load_n(&stay_armed, __ATOMIC_RELAXED);
        step(wanted ? DISARMED : ARMED, wanted ? ARMED : DISARMED);
    } while (__atomic_load_n(&stay_armed, __ATOMIC_RELAXED) != wanted);
}

uint32_t dump_begin(const struct core *core)
{
    uint64_t others = smp_online() & ~(1ULL << core->id);

    if (__atomic_load_n(&phase, __ATOMIC_RELAXED) != ARMED || clock_now() < earliest ||
        !step(ARMED, CLAIMED)) {
        return 0;
    }
    number = snapshot_request();
    step(CLAIMED, ASKED);
    for (; others; others &= others - 1) {
        struct core *other = core_at((unsigned)__builtin_ctzll(others));

        __atomic_fetch_or(&other->shared.nmi_reasons, NMI_REASON_DUMP, __ATOMIC_ACQ_REL);
        lapic_send_nmi_inside((uint8_t)other->shared.lapic_id);
    }
    return NMI_REASON_DUMP;
}

void dump_print(struct core *core)
{
    uint64_t cores = smp_online();

    if (!step(ASKED, PRINTING)) {
        return;
    }
    __atomic_store_n(&core->reports, true, __ATOMIC_RELAXED);
    kprintf("nmi: where each core was, told by core %u\n", core->id);
    for (; cores; cores &= cores - 1) {
        const struct core *other = core_at((unsigned)__builtin_ctzll(cores));

        if (snapshot_wait(other, number)) {
            print_snapshot(other);
        } else {
            kprintf("  core %u does not answer an NMI\n", other->id);
        }
    }
    kprintf("nmi: end\n");
    __atomic_store_n(&core->reports, false, __ATOMIC_RELAXED);
    earliest = clock_now() + clock_from_ns(BETWEEN_NS);
    step(PRINTING, DISARMED);
    settle();
}

int64_t sys_nmi_dump(struct core *core, struct thread *self)
{
    const struct cap *cap = cap_find(self->space, ARG0(self), RIGHT_IOPORTS_ACCESS);

    (void)core;
    if (!cap) {
        return cap_error(self->space, ARG0(self), OBJ_IOPORTS);
    }
    if (!range_holds(cap_range(cap), 0, IOPORT_COUNT)) {
        return E_RIGHTS;
    }
    __atomic_store_n(&stay_armed, ARG1(self) != 0, __ATOMIC_RELAXED);
    settle();
    return E_OK;
}
