/* SPDX-License-Identifier: MIT */
/*
 * Capability windows: a range of kernel addresses for each space's table. Their topmost tables
 * are made at boot, so that every address space has them; all below belongs to the one space, and
 * is paid for by its account.
 */
#ifndef ONESTACK_OBJ_WINDOW_H
#define ONESTACK_OBJ_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

struct space;

/* As many windows as that much memory can fill. */
void window_init(uint64_t memory_bytes);
/*
 * The other way of space_grow_caps() (space.h): give one page back; false when the last one and the
 * window have gone. The space's capabilities are gone by then, and nobody looks for any.
 */
bool window_shrink(struct space *space);

#endif
