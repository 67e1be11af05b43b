/* SPDX-License-Identifier: MIT */
#include "kernel/arch/lapic.h"

#include <stddef.h>

#include "kernel/arch/cpu.h"
#include "kernel/arch/irq_flag.h"
#include "kernel/arch/vectors.h"

#define APIC_BASE_ENABLE       (1u << 11)
#define VERSION_LAST_LVT_SHIFT 16

/* Reads of the command register before it is written regardless: a stuck bit must not hang a panic. */
#define PENDING_POLLS 100000

/* Thermal and counter entries exist only where the version register counts that many. */
static void mask_optional_lvt(void)
{
    uint32_t last = lapic_read(LAPIC_VERSION) >> VERSION_LAST_LVT_SHIFT & 0xff;

    if (last >= 4) {
        lapic_write(LAPIC_LVT_COUNTERS, LAPIC_LVT_MASKED);
    }
    if (last >= 5) {
        lapic_write(LAPIC_LVT_THERMAL, LAPIC_LVT_MASKED);
    }
}

static void init_pins(const struct acpi_core *core)
{
    uint32_t nmi = LAPIC_LVT_NMI;
    bool on_lint0 = core != NULL && core->nmi_lint == 0;

    if (core != NULL && core->nmi_active_low) {
        nmi |= LAPIC_LVT_ACTIVE_LOW;
    }
    /* The other pin would bring the legacy controller's interrupts. */
    lapic_write(LAPIC_LVT_LINT0, on_lint0 ? nmi : LAPIC_LVT_MASKED);
    lapic_write(LAPIC_LVT_LINT1, on_lint0 ? LAPIC_LVT_MASKED : nmi);
}

void lapic_init(const struct acpi_core *core)
{
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE);
    lapic_write(LAPIC_SPURIOUS, LAPIC_SPURIOUS_ENABLE | VECTOR_SPURIOUS);
    lapic_write(LAPIC_TASK_PRIORITY, 0);
    lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
    lapic_write(LAPIC_TIMER_DIVIDE, LAPIC_DIVIDE_BY_1);
    lapic_timer_arm(0);
    mask_optional_lvt();
    (void)lapic_take_errors();
    lapic_write(LAPIC_LVT_ERROR, VECTOR_LAPIC_ERROR);
    init_pins(core);
}

uint8_t lapic_id(void)
{
    return (uint8_t)(lapic_read(LAPIC_ID) >> 24);
}

const struct acpi_core *lapic_find_core(const struct acpi_info *acpi, uint8_t id)
{
    for (uint32_t i = 0; i < acpi->core_count; i++) {
        if (acpi->cores[i].apic_id == id) {
            return &acpi->cores[i];
        }
    }
    return NULL;
}

/* The register takes the next command once the last one has left. */
static void wait_sent(void)
{
    for (uint32_t polls = 0; polls < PENDING_POLLS; polls++) {
        if (!(lapic_read(LAPIC_ICR_LOW) & LAPIC_ICR_PENDING)) {
            return;
        }
        __builtin_ia32_pause();
    }
}

/* With IF=0: an interrupt after the wait, or between the halves, could send another in between. */
static void send(uint8_t to, uint32_t command)
{
    uint64_t flags = irq_save();

    wait_sent();
    lapic_write(LAPIC_ICR_HIGH, (uint32_t)to << 24);
    lapic_write(LAPIC_ICR_LOW, command | LAPIC_ICR_ASSERT);
    irq_restore(flags);
}

void lapic_send(uint8_t to, uint8_t vector)
{
    send(to, LAPIC_ICR_FIXED | vector);
}

void lapic_send_nmi(uint8_t to)
{
    send(to, LAPIC_ICR_NMI);
}

void lapic_send_nmi_inside(uint8_t to)
{
    uint32_t high = lapic_read(LAPIC_ICR_HIGH);

    lapic_send_nmi(to);
    wait_sent();
    lapic_write(LAPIC_ICR_HIGH, high);
}

void lapic_send_init(uint8_t to)
{
    send(to, LAPIC_ICR_INIT);
}

void lapic_send_startup(uint8_t to, uint8_t page)
{
    send(to, LAPIC_ICR_STARTUP | page);
}

void lapic_timer_arm(uint32_t ticks)
{
    lapic_write(LAPIC_TIMER_INITIAL, ticks);
}

uint32_t lapic_take_errors(void)
{
    lapic_write(LAPIC_ERROR, 0); /* latches what has come up since the last write */
    return lapic_read(LAPIC_ERROR);
}
