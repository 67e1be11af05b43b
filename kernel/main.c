/* SPDX-License-Identifier: MIT */
/* The order in which the kernel comes up. */
#include "boot/bootinfo.h"
#include "kernel/arch/acpi.h"
#include "kernel/arch/clock.h"
#include "kernel/arch/entry.h"
#include "kernel/arch/fpu.h"
#include "kernel/arch/ioapic.h"
#include "kernel/arch/lapic.h"
#include "kernel/arch/mcheck.h"
#include "kernel/arch/paging.h"
#include "kernel/arch/pic.h"
#include "kernel/arch/smp.h"
#include "kernel/debug/lock_check.h"
#include "kernel/debug/panic.h"
#include "kernel/debug/print.h"
#include "kernel/debug/trace.h"
#include "kernel/debug/watchdog.h"
#include "kernel/mm/boot_image.h"
#include "kernel/mm/init.h"
#include "kernel/obj/irq.h"
#include "kernel/options.h"
#include "kernel/sched.h"

static struct acpi_info acpi;
static const struct bootinfo *boot;
static unsigned smp_number;

static void ioapics_map(void)
{
    for (uint32_t i = 0; i < acpi.ioapic_count; i++) {
        if (!device_map(IOAPIC_PAGE(i), acpi.ioapics[i].address)) {
            boot_refuse("", "no memory for the IOAPIC's mapping");
        }
    }
}

/* Every core, on its own stack, IF=0. When it returns NMIs come in (N8). */
static void core_up(struct core *core)
{
    core_init(core);
    fpu_init();
    mcheck_init(core);
    lapic_init(smp_acpi_core(core->id));
    core->shared.lapic_id = lapic_id();
    smp_set_online(core->id);
}

_Noreturn void core_start(unsigned id)
{
    core_up(core_at(id));
    watchdog_event(core_at(id));
    cpu_sti();
    ret_to_user();
}

/*
 * IF=0. Cores without memory for their area are left out, and all after them. False if one that was
 * started has not answered.
 */
static bool start_others(unsigned numbered)
{
    unsigned count = 1;

    while (count < numbered && core_create(count)) {
        count++;
    }
    if (count < numbered) {
        kprintf("onestack: no memory for core %u and those after it\n", count);
    }
    bool all = smp_start(count, boot->trampoline, kernel_table.root) == count;

    smp_wait_online();
    return all;
}

/* On core 0's own stack, IF=0: what needs a core to run on, then the first user program. */
static void start(struct core *core)
{
    const char *problem;
    bool all_answered;

    pic_disable();
    core_up(core);
    lock_check_start();
    if (!clock_init()) {
        boot_refuse("", "no clock to measure the TSC against");
    }
    sched_set_timeslice(option_number(boot->cmdline, "timeslice", TIMESLICE_DEFAULT_NS / 1000) *
                        1000);
    watchdog_set(option_number(boot->cmdline, "watchdog", 0));
    all_answered = start_others(smp_number);
    watchdog_event(core);
    ioapic_init(&acpi);
    irq_init(&acpi);
    problem = boot_image_start(core, boot, &acpi.power);
    if (problem) {
        boot_refuse("boot module: ", problem);
    }
    if (all_answered) {
        mm_reclaim_boot();
    }
    lock_check_boot_over();
    cpu_sti();
    ret_to_user();
}

_Noreturn void kernel_main(const struct bootinfo *info)
{
    struct core *core;

    boot = info;
    acpi_parse(&acpi, info);
    if (!trace_init(option_number(info->cmdline, "trace", 0) != 0)) {
        boot_refuse("", "trace=1: this entry model has no place for the hooks");
    }
    mm_init(info);
    ioapics_map();
    idt_init();
    smp_number = smp_number_cores(&acpi);
    core = core_create(0);
    if (!core) {
        boot_refuse("", "no memory for the first core");
    }
    core_run(core, start);
}
