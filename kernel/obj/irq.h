/* SPDX-License-Identifier: MIT */
/*
 * Interrupt lines as capabilities. There is one IRQ object; a capability's badge says which lines
 * it names (cap.h). A line is bound by a capability that names it alone, and released, masked, when
 * that capability goes, so also when its driver ends. Lines 0 to 15 are the ISA interrupts,
 * wherever ACPI says that they arrive; those above are global system interrupts.
 */
#ifndef ONESTACK_OBJ_IRQ_H
#define ONESTACK_OBJ_IRQ_H

#include "kernel/arch/acpi.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/notification.h"

#define IRQ_LINE_NMI 256 /* the external NMI */
#define IRQ_LINES    257

/* Once, after ioapic_init(). */
void irq_init(const struct acpi_info *acpi);
/* Outermost level, IF=1: a device's vector was recorded. */
void irq_event(struct core *core, unsigned vector);
/* The same for `count` external NMIs. */
void irq_nmi_event(struct core *core, uint64_t count);

/* In the handler, IF=0, no lock: for irq_event() later. */
void irq_record(struct core *core, unsigned vector);
/*
 * The same vectors when they have struck user mode, whose frame is complete, IF=0: acknowledged, IF on
 * unless the entry model keeps it 0, and worked on at once. DOES NOT RETURN if a higher thread waits.
 */
void irq_user(struct core *core, unsigned vector);
/* Outermost level: unroute on this core what others have released. */
void irq_release_event(struct core *core);

/* For cap.c: the capability goes, no lock held; it lives in another slot now. */
void irq_cap_gone(struct core *core, struct cap *cap);
void irq_cap_moved(struct cap *to, struct cap *from);

#endif
