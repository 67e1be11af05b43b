/* SPDX-License-Identifier: MIT */
#ifndef ONESTACK_LIBOS_NUMBER_H
#define ONESTACK_LIBOS_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/* All of `text` as a number: decimal, 0x and hexadecimal, or either with a '-'. False: it is none. */
bool parse_number(const char *text, uint64_t *number);

#endif
