/* SPDX-License-Identifier: MIT */
/* The checksum of firmware tables: all their bytes add up to zero. */
#ifndef ONESTACK_LIB_CHECKSUM_H
#define ONESTACK_LIB_CHECKSUM_H

#include <stdbool.h>
#include <stdint.h>

static inline bool sums_to_zero(const void *bytes, uint64_t size)
{
    uint8_t sum = 0;

    for (uint64_t i = 0; i < size; i++) {
        sum = (uint8_t)(sum + ((const uint8_t *)bytes)[i]);
    }
    return sum == 0;
}

#endif
