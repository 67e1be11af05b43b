/* SPDX-License-Identifier: MIT */
/*
 * Capability windows: a range of kernel addresses for each space's table. The tables above them
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
 * A new space gets its window, and the window its topmost table, so that the first capability does not
 * wait for three frames to be cleared in one go (E6). False: no memory.
 */
bool window_open(struct space *space);
/* The other way, when there is no page in it any more. */
void window_close(struct space *space);
/*
 * The other way of space_grow_caps() (space.h): give one page back; false: there was none. The
 * space's capabilities are gone by then, and nobody looks for any.
 */
bool window_shrink(struct space *space);

#endif
