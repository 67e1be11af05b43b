/* SPDX-License-Identifier: MIT */
/*
 * Starting the application processors: Intel SDM vol. 3, 8.4 (INIT, startup IPI, startup IPI).
 * Their way from real mode to C is in boot/ap.S.
 *
 * In order, on the boot core: smp_number_cores(); make the areas of cores 1 and up (layout.h) in
 * the kernel's page tables, with each core's address in the top word of its stacks; smp_start();
 * then, if all have answered, the trampoline page, .boot.* and the boot page tables may be given back.
 */
#ifndef ONESTACK_ARCH_SMP_H
#define ONESTACK_ARCH_SMP_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/arch/acpi.h"

/*
 * Give each enabled processor a number: 0 the core that calls this, then the MADT's order, so that a
 * number names the same processor at every boot. Returns how many there are; 1 without a MADT.
 */
unsigned smp_number_cores(const struct acpi_info *acpi);

/* What the MADT says of a numbered core; NULL for the boot core of a machine without one. */
const struct acpi_core *smp_acpi_core(unsigned core);

/*
 * Start the cores below `count`, which have their areas, in the page at physical address `trampoline`,
 * and wait until each is on its own stack with `cr3` loaded. No other processor is started. One that
 * does not answer in SMP_ANSWER_NS is named on the console and left out: if it comes later it halts.
 * Returns the number present; if that is less than `count`, nothing on a late one's way there (the
 * trampoline, .boot.*, the boot page tables) may ever be given back.
 */
unsigned smp_start(unsigned count, uint64_t trampoline, uint64_t cr3);

#define SMP_ANSWER_NS 1000000000ul

/* Bit n: core n takes interrupts and mail. */
uint64_t smp_online(void);
void smp_set_online(unsigned core);
/* Wait until all that have answered are. */
void smp_wait_online(void);
unsigned smp_online_count(void);

/* Is that core running? Core 0 always is; its number stays unused if not. */
bool smp_core_present(unsigned core);

/*
 * Where a started core goes on, in kernel/arch/core.c: on its kernel stack, IF=0, with the kernel's
 * page tables and boot's descriptor table, no IDT yet, so no NMI may be sent to it (N8).
 */
_Noreturn void core_start(unsigned id);

#endif
