/* SPDX-License-Identifier: MIT */
/* Options on the kernel's command line: words of the form name=value. */
#ifndef ONESTACK_OPTIONS_H
#define ONESTACK_OPTIONS_H

#include <stdint.h>

/* The decimal value of `name`, or `otherwise` if it is not there or not a number. */
uint64_t option_number(const char *cmdline, const char *name, uint64_t otherwise);

#endif
