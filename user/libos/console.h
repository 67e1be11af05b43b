/* SPDX-License-Identifier: MIT */
/*
 * The console's protocol (user/console serves it) and its client side. A session is a capability of
 * the console's endpoint with a badge of its own; own.console is this process's.
 *
 *   label              words in                     words out, and bytes
 *   CONSOLE_WRITE      0 count, 1-5 up to 40 bytes; or the bytes as a long message, count 0
 *   CONSOLE_READ_LINE  0 most bytes wanted          0 length; the line without its end
 *   CONSOLE_POLL                                    0 lines that wait to be read
 *   CONSOLE_ECHO       0: 1 or 0                    (input is echoed, or not)
 *   CONSOLE_DRAIN                                   (answered when all output has left)
 */
#ifndef ONESTACK_LIBOS_CONSOLE_H
#define ONESTACK_LIBOS_CONSOLE_H

#include <stddef.h>
#include <stdint.h>

enum console_label {
    CONSOLE_WRITE = 1,
    CONSOLE_READ_LINE,
    CONSOLE_POLL,
    CONSOLE_ECHO,
    CONSOLE_DRAIN
};

#define CONSOLE_SHORT_WRITE 40 /* bytes that fit into a message's words beside the count */
#define CONSOLE_LONG_WRITE  4096
#define CONSOLE_LINE        1024 /* a longer line is cut */

int64_t console_write(const char *text, size_t size);
/* The line's length without its end; at most size - 1 bytes, then a NUL. Waits for one. */
int64_t console_read_line(char *line, size_t size);
int64_t console_poll(void);
int64_t console_echo(int on);
int64_t console_drain(void);

#endif
