/* SPDX-License-Identifier: MIT */
/* Names of the kernel's functions, linked into the kernel for the panic's backtrace. */
#ifndef ONESTACK_DEBUG_KSYMS_H
#define ONESTACK_DEBUG_KSYMS_H

#include <stdbool.h>
#include <stdint.h>

struct ksym {
    char name[48];   /* "?" if nothing is known; a longer name is cut off */
    uint64_t offset; /* how far behind the function's first byte */
};

/*
 * The function that `address` lies in; false outside the kernel's text.
 * Reads only constant data: safe in any context, NMI included.
 */
bool ksym_lookup(uint64_t address, struct ksym *found);

#endif
