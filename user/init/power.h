/* SPDX-License-Identifier: MIT */
/* Off and reset, and the button that asks for off: ACPI 6.5, 4.8.3 (PM1 registers), 7.4.2 (S5). */
#ifndef ONESTACK_INIT_POWER_H
#define ONESTACK_INIT_POWER_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/abi/cap.h"
#include "user/libos/init.h"

#define POWER_BIT (1UL << 63) /* of the notification: look at the button */

/* Have the button raise POWER_BIT, where there is one. 0, or an error. */
int64_t power_start(cap_t notification);
/* After POWER_BIT: was it the button? */
bool power_button(void);
/* Returns only if nothing that this machine has did it. */
void power(enum power what);

#endif
