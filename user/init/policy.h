/* SPDX-License-Identifier: MIT */
/* Which program gets what. Nothing else in the system decides it. */
#ifndef ONESTACK_INIT_POLICY_H
#define ONESTACK_INIT_POLICY_H

#include <stdint.h>

#include "user/libos/start.h"

#define GRANT_BIT(grant) (1u << (grant))
#define MOST_OF_IT       0 /* as quota: seven eighths of what init has left */

struct policy {
    const char *name;
    uint8_t priority, ceiling;
    uint64_t quota;  /* bytes of kernel memory, that of its pages included */
    uint32_t grants; /* GRANT_BIT()s */
    uint16_t port;   /* the range for GRANT_IOPORTS */
    uint32_t ports;
    uint16_t line, lines; /* the range for GRANT_IRQS */
};

/* Never NULL: programs that are not named get the common row. */
const struct policy *policy_of(const char *name);

#endif
