/* SPDX-License-Identifier: MIT */
/* Capabilities for a part of what their object stands for (cap.h): interrupt lines, I/O ports. */
#ifndef ONESTACK_OBJ_RANGE_H
#define ONESTACK_OBJ_RANGE_H

#include "kernel/obj/cap.h"

struct range {
    uint32_t first, count;
};

#define IOPORT_COUNT 65536

/* There is one object each, and the first capabilities for them are the first program's. */
extern struct object irq_object, ioports_object;

static inline struct range cap_range(const struct cap *cap)
{
    uint32_t count = (uint32_t)(cap->badge >> 32);

    return (struct range){(uint32_t)cap->badge, count ? count : IOPORT_COUNT};
}

static inline bool range_holds(struct range range, uint64_t first, uint64_t count)
{
    return first >= range.first && count <= range.count &&
           first - range.first <= range.count - count;
}

#endif
