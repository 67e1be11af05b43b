/* SPDX-License-Identifier: MIT */
#include "user/libos/print.h"

#include "kernel/abi/error.h"
#include "user/libos/console.h"
#include "user/libos/format.h"

static void flush(struct sink *sink)
{
    console_write(sink->buffer, sink->used);
    sink->used = 0;
}

void vprintf(const char *format, va_list arguments)
{
    char buffer[256];
    struct sink sink = {.buffer = buffer, .size = sizeof(buffer), .flush = flush};

    format_to(&sink, format, arguments);
    flush(&sink);
}

void printf(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
}

const char *error_name(int64_t error)
{
    static const char *const names[] = {
        [E_OK] = "0",
        [-E_NOSYS] = "E_NOSYS",
        [-E_BADCAP] = "E_BADCAP",
        [-E_RIGHTS] = "E_RIGHTS",
        [-E_INVAL] = "E_INVAL",
        [-E_FAULT] = "E_FAULT",
        [-E_NOMEM] = "E_NOMEM",
        [-E_AGAIN] = "E_AGAIN",
        [-E_TIMEOUT] = "E_TIMEOUT",
        [-E_CANCELED] = "E_CANCELED",
        [-E_DEAD] = "E_DEAD",
        [-E_BUSY] = "E_BUSY",
        [-E_PRIO] = "E_PRIO",
        [-E_OVERLAP] = "E_OVERLAP",
        [-E_NOREPLY] = "E_NOREPLY",
        [-E_IPCFAULT] = "E_IPCFAULT",
    };
    uint64_t index = error > 0 ? 0 : -(uint64_t)error;

    return index < sizeof(names) / sizeof(*names) && names[index] ? names[index] : "?";
}
