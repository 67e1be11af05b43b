/* SPDX-License-Identifier: MIT */
#include "user/init/policy.h"

#include <stddef.h>

#include "kernel/arch/uart.h"
#include "kernel/lib/string.h"

#define MIB       (1024UL * 1024)
#define ALL_LINES 0, 257 /* 256 is the external NMI */
#define ALL_PORTS 0, 0xffff
#define HARDWARE  (GRANT_BIT(GRANT_IRQS) | GRANT_BIT(GRANT_IOPORTS) | GRANT_BIT(GRANT_DEVICE_MEMORY))

static const struct policy policies[] = {
    {"console", 200, 200, 2 * MIB, GRANT_BIT(GRANT_IRQS) | GRANT_BIT(GRANT_IOPORTS), COM1_PORT, 8,
     COM1_IRQ, 1},
    {"shell", 120, 120, 2 * MIB, 0, 0, 0, 0, 0},
    /* Programs that measure and break things need the machine. */
    {"agent", 100, 180, MOST_OF_IT, HARDWARE, ALL_PORTS, ALL_LINES},
    {"bench", 100, 180, MOST_OF_IT, HARDWARE, ALL_PORTS, ALL_LINES},
    {"busy", 100, 180, 16 * MIB, HARDWARE, ALL_PORTS, ALL_LINES},
    {"leak", 100, 180, 32 * MIB, HARDWARE, ALL_PORTS, ALL_LINES},
    {"sweep", 100, 180, 32 * MIB, HARDWARE, ALL_PORTS, ALL_LINES},
    {"stuck", 150, 180, 16 * MIB, GRANT_BIT(GRANT_IOPORTS), 0, 0x10000, 0, 0},
};

static const struct policy common = {NULL, 100, 180, 32 * MIB, 0, 0, 0, 0, 0};

const struct policy *policy_of(const char *name)
{
    for (size_t i = 0; i < sizeof(policies) / sizeof(*policies); i++) {
        if (strcmp(policies[i].name, name) == 0) {
            return &policies[i];
        }
    }
    return &common;
}
