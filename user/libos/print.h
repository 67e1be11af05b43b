/* SPDX-License-Identifier: MIT */
/* Text to and from the process's console session. A printf of up to 256 bytes arrives in one piece.
 */
#ifndef ONESTACK_LIBOS_PRINT_H
#define ONESTACK_LIBOS_PRINT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

__attribute__((format(printf, 1, 2))) void printf(const char *format, ...);
__attribute__((format(printf, 1, 0))) void vprintf(const char *format, va_list arguments);

/* A name for an error of kernel/abi/error.h, "E_INVAL"; "0" or "?" for what is none. */
const char *error_name(int64_t error);

#endif
