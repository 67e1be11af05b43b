/* SPDX-License-Identifier: MIT */
/* Names of the kernel's functions, linked into the kernel for the panic's backtrace. */
#ifndef ONESTACK_DEBUG_KSYMS_H
#define ONESTACK_DEBUG_KSYMS_H

#include <stdint.h>

/*
 * The function that `address` lies in, and in *offset how far; NULL and 0 outside the kernel's text.
 * Reads only constant data: safe in any context, NMI included.
 */
const char *ksym_lookup(uint64_t address, uint64_t *offset);

#endif
