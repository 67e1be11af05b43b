/* SPDX-License-Identifier: MIT */
/*
 * kprintf: the console of boot and panic, straight to COM1, no lock, no buffer, no allocation.
 *
 * Conversions: %c %s %d %i %u %x %p %%, each with an optional '-' (left-justify) or '0' (zero pad),
 * a width, and the length l, ll or z. %p prints all 16 digits after 0x. Anything else is
 * printed as it stands. One line per call keeps lines whole on one core; cores
 * that print at the same time are the panic code's business.
 */
#ifndef ONESTACK_DEBUG_PRINT_H
#define ONESTACK_DEBUG_PRINT_H

#include <stdarg.h>

__attribute__((format(printf, 1, 2))) void kprintf(const char *format, ...);
__attribute__((format(printf, 1, 0))) void kvprintf(const char *format, va_list arguments);

#endif
