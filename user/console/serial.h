/* SPDX-License-Identifier: MIT */
/* COM1 as a user driver has it: registers by a capability of eight I/O ports, IRQ 4 by
 * notification. */
#ifndef ONESTACK_CONSOLE_SERIAL_H
#define ONESTACK_CONSOLE_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bind the interrupt to `notification` as bit 0 and turn the device on. 0 or an error. */
int64_t serial_start(uint64_t notification);
/* The next received byte, or -1. */
int serial_read(void);
/* Give the transmitter what it takes now, without waiting; how many bytes those were. */
size_t serial_write(const char *bytes, size_t count);
/* Whether an interrupt shall come when the transmitter takes more. */
void serial_want_room(bool wanted);
/* The device's own bits were seen; let the next interrupt come. */
void serial_acknowledge(void);

#endif
