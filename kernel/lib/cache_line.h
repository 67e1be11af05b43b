/* SPDX-License-Identifier: MIT */
/*
 * A cache line belongs to one core at a time. So what a core writes for itself lies on lines of its
 * own (struct core), and what several write is declared SHARED: alone on its lines, in a section
 * that the linker pads. Whatever is guarded by one lock is one object, together with the lock. Other
 * global variables are written while the machine comes up, and read ever after. The build checks the
 * section and that locked instructions stay in it; tests/smp/test_shared.py what is really written.
 */
#ifndef ONESTACK_LIB_CACHE_LINE_H
#define ONESTACK_LIB_CACHE_LINE_H

#define CACHE_LINE    64
#define CACHE_ALIGNED __attribute__((aligned(CACHE_LINE)))
#define SHARED        __attribute__((section(".shared"))) CACHE_ALIGNED

#endif
