/* SPDX-License-Identifier: MIT */
#include "kernel/arch/smp.h"

#include <stddef.h>

#include "kernel/arch/clock.h"
#include "kernel/arch/debug_exit.h"
#include "kernel/arch/lapic.h"
#include "kernel/debug/print.h"
#include "kernel/lib/cache_line.h"
#include "kernel/lib/string.h"
#include "kernel/mm/kmem.h"

/* Most processors need one startup IPI; the second goes out if somebody is late by this much. */
#define FIRST_WAIT_NS 10000000ul

#define NOBODY 0xff

_Static_assert(MAX_CORES <= NOBODY, "core numbers fit the byte beside NOBODY");

/* Each core's answer is decided once: by its arrival or by the end of the wait. */
enum answer { ABSENT, EXPECTED, PRESENT, LEFT_OUT };

extern const uint8_t ap_trampoline[], ap_trampoline_end[];

/* Read by ap.S: the core number of an APIC id, and the page tables to load. */
extern uint8_t smp_core_of_apic[256];
extern uint64_t smp_cr3;
_Noreturn void smp_arrived(unsigned core);

uint8_t smp_core_of_apic[256];
uint64_t smp_cr3;

static const struct acpi_core *acpi_cores[MAX_CORES];
static uint8_t answers[MAX_CORES];
static unsigned core_count;

unsigned smp_number_cores(const struct acpi_info *acpi)
{
    uint8_t self = lapic_id();

    memset(smp_core_of_apic, NOBODY, sizeof(smp_core_of_apic));
    smp_core_of_apic[self] = 0;
    acpi_cores[0] = lapic_find_core(acpi, self);
    answers[0] = PRESENT;
    core_count = 1;
    for (uint32_t i = 0; i < acpi->core_count && core_count < MAX_CORES; i++) {
        const struct acpi_core *core = &acpi->cores[i];

        /* A broken table may list one twice. */
        if (smp_core_of_apic[core->apic_id] != NOBODY) {
            continue;
        }
        smp_core_of_apic[core->apic_id] = (uint8_t)core_count;
        acpi_cores[core_count++] = core;
    }
    if (acpi->cores_left_out != 0) {
        kprintf("onestack: %u cores left out: more than %u, or APIC ids above 254\n",
                acpi->cores_left_out, MAX_CORES);
    }
    return core_count;
}

const struct acpi_core *smp_acpi_core(unsigned core)
{
    return acpi_cores[core];
}

static uint64_t online SHARED;

uint64_t smp_online(void)
{
    return __atomic_load_n(&online, __ATOMIC_ACQUIRE);
}

unsigned smp_online_count(void)
{
    unsigned count = 0;

    for (uint64_t cores = smp_online(); cores; cores &= cores - 1) {
        count++;
    }
    return count;
}

void smp_set_online(unsigned core)
{
    __atomic_fetch_or(&online, 1ULL << core, __ATOMIC_ACQ_REL);
}

bool smp_core_present(unsigned core)
{
    return __atomic_load_n(&answers[core], __ATOMIC_ACQUIRE) == PRESENT;
}

/* False if the other side was faster. */
static bool decide(unsigned core, enum answer answer)
{
    uint8_t expected = EXPECTED;

    return __atomic_compare_exchange_n(&answers[core], &expected, answer, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

/* From ap.S, on the core's own stack. */
_Noreturn void smp_arrived(unsigned core)
{
    if (!decide(core, PRESENT)) {
        halt_forever();
    }
    core_start(core);
}

static unsigned count_present(void)
{
    unsigned present = 0;

    for (unsigned core = 0; core < core_count; core++) {
        present += smp_core_present(core);
    }
    return present;
}

static unsigned wait_present(unsigned count, uint64_t ns)
{
    uint64_t start = clock_now();
    uint64_t limit = clock_from_ns(ns);
    unsigned present;

    while ((present = count_present()) < count && clock_now() - start < limit) {
        __builtin_ia32_pause();
    }
    return present;
}

void smp_wait_online(void)
{
    uint64_t start = clock_now(), limit = clock_from_ns(SMP_ANSWER_NS);

    while (smp_online_count() < count_present() && clock_now() - start < limit) {
        __builtin_ia32_pause();
    }
}

/*
 * No INIT for it: a startup IPI that it has not taken yet would survive that (ADR 200). It may come at
 * any time, to halt in smp_arrived(); so the pages on its way there are not given back.
 */
static void leave_out_late(unsigned count)
{
    for (unsigned core = 1; core < count; core++) {
        if (decide(core, LEFT_OUT)) {
            kprintf("onestack: core %u (APIC id %u) did not answer in %lu ms: left out\n", core,
                    acpi_cores[core]->apic_id, SMP_ANSWER_NS / 1000000);
        }
    }
}

static void send_startups(unsigned count, uint8_t page)
{
    for (unsigned core = 1; core < count; core++) {
        if (!smp_core_present(core)) {
            lapic_send_startup(acpi_cores[core]->apic_id, page);
        }
    }
}

unsigned smp_start(unsigned count, uint64_t trampoline, uint64_t cr3)
{
    uint8_t page = (uint8_t)(trampoline / PAGE_SIZE);

    if (count == 1) {
        return 1;
    }
    if (trampoline == 0) {
        kprintf("onestack: no memory below 1 MiB: only one core\n");
        return 1;
    }
    memcpy(phys_to_virt(trampoline), ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
    smp_cr3 = cr3;
    for (unsigned core = 1; core < count; core++) {
        answers[core] = EXPECTED;
        lapic_send_init(acpi_cores[core]->apic_id);
    }
    send_startups(count, page);
    if (wait_present(count, FIRST_WAIT_NS) < count) {
        send_startups(count, page);
        wait_present(count, SMP_ANSWER_NS);
    }
    leave_out_late(count);
    return count_present();
}
