/* SPDX-License-Identifier: MIT */
#include "user/libos/console.h"

#include "kernel/lib/string.h"
#include "user/libos/ipc.h"
#include "user/libos/start.h"

static int64_t request(enum console_label label, uint64_t argument, struct words *words)
{
    words->word[0] = argument;
    return ipc_call(own.console, INFO_LABEL(label), words, NULL, TIMEOUT_NONE).value;
}

static int64_t write_short(const char *text, size_t size)
{
    struct words words = {.word = {size}};

    memcpy(&words.word[1], text, size);
    return request(CONSOLE_WRITE, size, &words);
}

static int64_t write_long(const char *text, size_t size)
{
    struct words words = {.word = {0}};
    struct message message = {.send_buffer = (uint64_t)text};

    return ipc_call(own.console, INFO_LABEL(CONSOLE_WRITE) | size, &words, &message, TIMEOUT_NONE)
        .value;
}

int64_t console_write(const char *text, size_t size)
{
    int64_t status = 0;

    while (size > 0 && own.console != 0 && status >= 0) {
        size_t piece = size > CONSOLE_LONG_WRITE ? CONSOLE_LONG_WRITE : size;

        status = piece <= CONSOLE_SHORT_WRITE ? write_short(text, piece) : write_long(text, piece);
        text += piece;
        size -= piece;
    }
    return status;
}

int64_t console_read_line(char *line, size_t size)
{
    struct words words = {.word = {size - 1}};
    struct message message = {.receive_buffer = (uint64_t)line, .receive_size = size - 1};
    struct result result = ipc_call(own.console, INFO_LABEL(CONSOLE_READ_LINE), &words, &message,
                                    TIMEOUT_NONE);

    if (result.value < 0) {
        return result.value;
    }
    line[words.word[0]] = '\0';
    return (int64_t)words.word[0];
}

int64_t console_poll(void)
{
    struct words words = {.word = {0}};
    int64_t status = request(CONSOLE_POLL, 0, &words);

    return status < 0 ? status : (int64_t)words.word[0];
}

int64_t console_echo(int on)
{
    struct words words = {.word = {0}};

    return request(CONSOLE_ECHO, on != 0, &words);
}

int64_t console_drain(void)
{
    struct words words = {.word = {0}};

    return request(CONSOLE_DRAIN, 0, &words);
}
