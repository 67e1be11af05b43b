/* SPDX-License-Identifier: MIT */
/*
 * The console: serves the protocol of libos/console.h on COM1. One thread; it never waits for the
 * device or for a client. Output goes through a ring that the transmitter's interrupt empties, a
 * reader without a line is kept as a reply capability until one is typed.
 */
#include "kernel/lib/string.h"
#include "user/console/editor.h"
#include "user/console/serial.h"
#include "user/libos/ipc.h"
#include "user/libos/start.h"

#define OUTPUT_RING 16384
#define WAITERS     16

/* Somebody whose answer is due later. */
struct waiter {
    cap_t reply;
    enum console_label what;
    size_t size; /* of the reader's buffer */
};

static struct {
    size_t at, used;
    char ring[OUTPUT_RING];
} output;

static struct editor editor;
static struct waiter waiters[WAITERS];
static size_t waiter_count;
static char received[CONSOLE_LONG_WRITE];
static char line[CONSOLE_LINE];

static void pump(void)
{
    while (output.used > 0) {
        size_t run = output.at + output.used > OUTPUT_RING ? OUTPUT_RING - output.at : output.used;
        size_t done = serial_write(&output.ring[output.at], run);

        output.at = (output.at + done) % OUTPUT_RING;
        output.used -= done;
        if (done < run) {
            break;
        }
    }
}

static void put(char c)
{
    /* A full ring means that the host does not read; polling then slows everybody, which is right.
     */
    while (output.used == OUTPUT_RING) {
        pump();
    }
    output.ring[(output.at + output.used++) % OUTPUT_RING] = c;
}

static void write(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\n') {
            put('\r');
        }
        put(text[i]);
    }
}

/* So long, and no longer, everybody waits for one reader whose buffer is with his pager. */
#define CLIENT_PATIENCE_NS 10000000

/* An answer: word 0, and for a line its bytes. */
static int64_t answer(cap_t reply, uint64_t value, const char *bytes, size_t size)
{
    struct words words = {.word = {value}};
    struct message message = {.send_buffer = (uint64_t)bytes};

    return ipc_reply(reply, size, &words, &message, CLIENT_PATIENCE_NS).value;
}

static bool due(const struct waiter *waiter)
{
    return waiter->what == CONSOLE_DRAIN ? output.used == 0 : editor.lines > 0;
}

static int64_t serve_waiter(cap_t reply, const struct waiter *waiter)
{
    size_t length = 0;

    if (waiter->what == CONSOLE_READ_LINE) {
        length = editor_take(&editor, line,
                             waiter->size < sizeof(line) ? waiter->size : sizeof(line));
    }
    return answer(reply, length, line, length);
}

static void serve_waiters(void)
{
    size_t kept = 0;

    for (size_t i = 0; i < waiter_count; i++) {
        if (due(&waiters[i])) {
            serve_waiter(waiters[i].reply, &waiters[i]);
            sys_cap_delete(waiters[i].reply);
        } else {
            waiters[kept++] = waiters[i];
        }
    }
    waiter_count = kept;
}

/* Answer the last caller now, or keep it. */
static void serve_or_keep(struct waiter waiter)
{
    struct result saved = {E_BUSY, 0};

    if (due(&waiter)) {
        serve_waiter(0, &waiter);
        return;
    }
    if (waiter_count < WAITERS) {
        saved = sys_reply_save(own.quota);
    }
    if (saved.value < 0) {
        answer(0, (uint64_t)saved.value, NULL, 0);
        return;
    }
    waiter.reply = saved.second;
    waiters[waiter_count++] = waiter;
}

static void handle(uint64_t info, const struct words *words)
{
    size_t count = words->word[0];

    switch (info_label(info)) {
    case CONSOLE_WRITE:
        if (info_bytes(info) > 0) {
            write(received, info_bytes(info));
        } else {
            write((const char *)&words->word[1],
                  count < CONSOLE_SHORT_WRITE ? count : CONSOLE_SHORT_WRITE);
        }
        pump();
        answer(0, 0, NULL, 0);
        break;
    case CONSOLE_READ_LINE:
    case CONSOLE_DRAIN:
        serve_or_keep((struct waiter){.what = info_label(info), .size = count});
        break;
    case CONSOLE_POLL:
        answer(0, editor.lines, NULL, 0);
        break;
    case CONSOLE_ECHO:
        editor.silent = count == 0;
        answer(0, 0, NULL, 0);
        break;
    default:
        answer(0, (uint64_t)E_INVAL, NULL, 0);
    }
}

/* Acknowledge first: what comes in after the last look then raises a new interrupt. */
static void handle_interrupt(void)
{
    int c;

    serial_acknowledge();
    while ((c = serial_read()) >= 0) {
        editor_input(&editor, (char)c);
    }
    pump();
}

int main(int argc, char **argv)
{
    struct message message = {.receive_buffer = (uint64_t)received,
                              .receive_size = sizeof(received)};
    struct result notification = sys_notification_create(own.quota);
    bool waits_for_room = false;

    (void)argc;
    (void)argv;
    editor.echo = write;
    if (notification.value < 0 || sys_thread_bind(own.thread, notification.second).value < 0 ||
        serial_start(notification.second) < 0) {
        return 1;
    }
    for (;;) {
        struct words words = {.word = {0}};
        struct result result = ipc_receive(own.grants[GRANT_SERVE], 0, &words, &message,
                                           TIMEOUT_NONE);

        if (result.value >= 0 && (result.value & (int64_t)INFO_NOTIFIED)) {
            handle_interrupt();
        } else if (result.value >= 0) {
            handle((uint64_t)result.value, &words);
        }
        serve_waiters();
        if (waits_for_room != (output.used > 0)) {
            waits_for_room = output.used > 0;
            serial_want_room(waits_for_room);
        }
    }
}
