/* SPDX-License-Identifier: MIT */
/* Interrupt lines as objects: an interrupt becomes bits of a notification. */
#ifndef ONESTACK_OBJ_IRQ_H
#define ONESTACK_OBJ_IRQ_H

#include "kernel/arch/core.h"

/* The external NMI is a line too: bound like any other, it delivers a count. */
#define IRQ_LINE_NMI 256

/* Outermost level, IF=1: `vector` was recorded on this core. One that nobody bound is counted. */
void irq_event(struct core *core, unsigned vector);
/* Outermost level: `count` external NMIs arrived since the last call (N7). */
void irq_nmi_event(struct core *core, uint64_t count);
/* From kintr_handler, IF=0: a level-triggered line stays masked until its driver acknowledges. */
void irq_mask_if_level(unsigned vector);

#endif
