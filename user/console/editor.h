/* SPDX-License-Identifier: MIT */
/*
 * The line editor: bytes in, lines out. Backspace and DEL rub out, ^U the line, ^W a word, ^C gives
 * the line up; escape sequences are swallowed. It knows nothing of the device or of who reads.
 */
#ifndef ONESTACK_CONSOLE_EDITOR_H
#define ONESTACK_CONSOLE_EDITOR_H

#include <stdbool.h>
#include <stddef.h>

#include "user/libos/console.h"

#define EDITOR_QUEUE 8192 /* bytes of lines that nobody has read yet */

struct editor {
    void (*echo)(const char *text, size_t size); /* where what is typed is shown */
    bool silent;                                 /* do not */
    bool after_return;                           /* a newline now belongs to the return before it */
    unsigned char escape; /* how far into an escape sequence, 0 = not in one */
    size_t length;
    char line[CONSOLE_LINE];

    size_t lines;           /* in the queue */
    size_t read_at, queued; /* the queue is a ring; each line ends with '\n' */
    char queue[EDITOR_QUEUE];
};

void editor_input(struct editor *editor, char c);
/* Take a line out, without its end; what is beyond `size` of it is lost. Only if lines > 0. */
size_t editor_take(struct editor *editor, char *to, size_t size);

#endif
