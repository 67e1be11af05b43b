/* SPDX-License-Identifier: MIT */
/* What happens at the outermost level: the only way from kernel/arch up into the kernel. */
#ifndef ONESTACK_EVENTS_H
#define ONESTACK_EVENTS_H

#include "kernel/arch/core.h"

/* Why an NMI was sent; its sender sets the bit in the target's nmi_reasons first (N7). */
#define NMI_REASON_STOP     1u /* a panic elsewhere: stop for good, at once */
#define NMI_REASON_DUMP     2u /* leave a report of where this core is */
#define NMI_REASON_WATCHDOG 4u /* a neighbour saw no progress */

#endif
