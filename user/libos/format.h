/* SPDX-License-Identifier: MIT */
/*
 * Text from a format and values: %c %s %d %i %u %x %p %%, each with an optional '-' (left-justify)
 * or '0' (zero pad), a width or '*', a precision for %s, and the length h, l, ll or z. Anything
 * else is taken over as it stands.
 */
#ifndef ONESTACK_LIBOS_FORMAT_H
#define ONESTACK_LIBOS_FORMAT_H

#include <stdarg.h>
#include <stddef.h>

/* Where text goes: a buffer that `flush` empties when it is full; without one the rest is cut. */
struct sink {
    char *buffer;
    size_t size;
    size_t used;  /* bytes in the buffer */
    size_t total; /* bytes that were made, those that were cut included */
    void (*flush)(struct sink *sink);
};

void format_to(struct sink *sink, const char *format, va_list arguments);

/* As in C: at most size - 1 bytes and a NUL; returns the length that the text would have. */
__attribute__((format(printf, 3, 4))) int snprintf(char *to, size_t size, const char *format, ...);
__attribute__((format(printf, 3, 0))) int vsnprintf(char *to, size_t size, const char *format,
                                                    va_list arguments);

#endif
