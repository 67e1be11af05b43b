/* SPDX-License-Identifier: MIT */
#include "kernel/debug/ksyms.h"

#include <stddef.h>

struct ksym {
    uint32_t start; /* from __text_start */
    uint32_t name;  /* from ksyms_names */
};

/* Made by tools/scons/ksyms.py from a first link of the kernel; sorted by start. */
extern const struct ksym ksyms[];
extern const uint32_t ksyms_count;
extern const char ksyms_names[];
/* From kernel.ld. */
extern const char __text_start[], __text_end[];

const char *ksym_lookup(uint64_t address, uint64_t *offset)
{
    uint64_t text = (uint64_t)__text_start;
    uint32_t low = 0;
    uint32_t high = ksyms_count;

    *offset = 0;
    if (address < text || address >= (uint64_t)__text_end) {
        return NULL;
    }
    while (low < high) { /* ends with low = the number of functions that start at or before it */
        uint32_t middle = low + (high - low) / 2;

        if (ksyms[middle].start <= address - text) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) {
        return NULL;
    }
    *offset = address - text - ksyms[low - 1].start;
    return ksyms_names + ksyms[low - 1].name;
}
