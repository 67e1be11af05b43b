/* SPDX-License-Identifier: MIT */
#include "kernel/debug/ksyms.h"

#include <stddef.h>

#define PAIR  0x80u /* in a name's byte: stands for two */
#define MORE  0x80u /* in a distance's byte: another one follows */
#define NESTS 16    /* how deep pairs stand in pairs: tools/scons/ksyms.py sees to it */

/*
 * Made by tools/scons/ksyms.py from a first link of the kernel. One entry a function, by address: its
 * distance from the one before, seven bits a byte, the lowest first; its name, ended by 0. A PAIR in a
 * name stands for the two bytes in ksyms_pairs, which may be PAIRs: half the size of plain names.
 */
extern const uint8_t ksyms[], ksyms_end[];
extern const uint8_t ksyms_pairs[][2];
/* From kernel.ld. */
extern const char __text_start[], __text_end[];

static void spell(const uint8_t *name, struct ksym *found)
{
    size_t length = 0;

    for (; *name; name++) {
        uint8_t rest[NESTS] = {*name}; /* what this byte has still to say, the next on top */
        unsigned depth = 1;

        while (depth > 0) {
            uint8_t byte = rest[--depth];

            if (byte & PAIR) {
                rest[depth++] = ksyms_pairs[byte - PAIR][1];
                rest[depth++] = ksyms_pairs[byte - PAIR][0];
            } else if (length < sizeof(found->name) - 1) {
                found->name[length++] = (char)byte;
            }
        }
    }
    found->name[length] = '\0';
}

static const uint8_t *read_distance(const uint8_t *at, uint64_t *distance)
{
    unsigned shift = 0;

    *distance = 0;
    do {
        *distance |= (uint64_t)(*at & ~MORE) << shift;
        shift += 7;
    } while (*at++ & MORE);
    return at;
}

bool ksym_lookup(uint64_t address, struct ksym *found)
{
    uint64_t left = address - (uint64_t)__text_start;
    const uint8_t *name = NULL;
    const uint8_t *at = ksyms;

    *found = (struct ksym){.name = "?"};
    if (address < (uint64_t)__text_start || address >= (uint64_t)__text_end) {
        return false;
    }
    while (at < ksyms_end) { /* ends with name = the last function that starts at or before it */
        uint64_t distance;

        at = read_distance(at, &distance);
        if (distance > left) {
            break;
        }
        left -= distance;
        name = at;
        while (*at++) {
        }
    }
    if (!name) {
        return false;
    }
    spell(name, found);
    found->offset = left;
    return true;
}
