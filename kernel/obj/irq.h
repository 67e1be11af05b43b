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

struct line;

#define IRQ_LINE_NMI 256 /* the external NMI */
#define IRQ_LINES    257

/* Once, after ioapic_init(). */
void irq_init(const struct acpi_info *acpi);
/* Outermost level, IF=1: a device's vector was recorded. */
void irq_event(struct core *core, unsigned vector);
/* The same for `count` external NMIs. */
void irq_nmi_event(struct core *core, uint64_t count);

/*
 * In the handler, IF=0, no lock: the vector's line, NULL if it is nobody's. One that is level
 * triggered is masked, so that it does not come again until its driver acknowledges.
 */
struct line *irq_accept(unsigned vector);
/* Outermost level: as irq_event(), for a line that was accepted and not recorded. */
void irq_line_event(struct core *core, struct line *line);
/* Outermost level: unroute on this core what others have released. */
void irq_release_event(struct core *core);

/* For cap.c: the capability goes, no lock held; it lives in another slot now. */
void irq_cap_gone(struct core *core, struct cap *cap);
void irq_cap_moved(struct cap *to, struct cap *from);

#endif
