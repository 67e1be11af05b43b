/* SPDX-License-Identifier: MIT */
#include "user/console/editor.h"

#include "kernel/lib/string.h"

#define CONTROL(letter) ((letter)&0x1f)
#define BELL            '\a'
#define ESCAPE          0x1b
#define RUBOUT          0x7f

static void show(struct editor *editor, const char *text, size_t size)
{
    if (!editor->silent) {
        editor->echo(text, size);
    }
}

static void rub_out(struct editor *editor)
{
    editor->length--;
    show(editor, "\b \b", 3);
}

static void rub_out_word(struct editor *editor)
{
    while (editor->length > 0 && editor->line[editor->length - 1] == ' ') {
        rub_out(editor);
    }
    while (editor->length > 0 && editor->line[editor->length - 1] != ' ') {
        rub_out(editor);
    }
}

static void queue_byte(struct editor *editor, char c)
{
    editor->queue[(editor->read_at + editor->queued++) % EDITOR_QUEUE] = c;
}

/* A line that finds no room is dropped whole, with a bell: half a command would be worse. */
static void finish_line(struct editor *editor)
{
    if (editor->queued + editor->length + 1 > EDITOR_QUEUE) {
        show(editor, &(char){BELL}, 1);
        editor->length = 0;
        return;
    }
    show(editor, "\n", 1);
    for (size_t i = 0; i < editor->length; i++) {
        queue_byte(editor, editor->line[i]);
    }
    queue_byte(editor, '\n');
    editor->lines++;
    editor->length = 0;
}

static void give_up_line(struct editor *editor)
{
    show(editor, "^C\n", 3);
    editor->length = 0;
    finish_line(editor); /* an empty line, so that a prompt comes again */
}

static void insert(struct editor *editor, char c)
{
    if (editor->length == CONSOLE_LINE) {
        show(editor, &(char){BELL}, 1);
        return;
    }
    editor->line[editor->length++] = c;
    show(editor, &c, 1);
}

/* ESC, then '[' or 'O', then anything up to a letter or '~': arrows and the like. */
static bool in_escape(struct editor *editor, char c)
{
    if (c == ESCAPE) {
        editor->escape = 1;
    } else if (editor->escape == 1) {
        editor->escape = c == '[' || c == 'O' ? 2 : 0;
    } else if (editor->escape == 2) {
        editor->escape = c >= '@' && c <= '~' ? 0 : 2;
    } else {
        return false;
    }
    return true;
}

void editor_input(struct editor *editor, char c)
{
    bool second_half = c == '\n' && editor->after_return;

    editor->after_return = c == '\r';
    if (second_half || in_escape(editor, c)) {
        return;
    }
    switch (c) {
    case '\r':
    case '\n':
        finish_line(editor);
        break;
    case '\b':
    case RUBOUT:
        if (editor->length > 0) {
            rub_out(editor);
        }
        break;
    case CONTROL('U'):
        while (editor->length > 0) {
            rub_out(editor);
        }
        break;
    case CONTROL('W'):
        rub_out_word(editor);
        break;
    case CONTROL('C'):
        give_up_line(editor);
        break;
    default:
        if (c >= ' ' || c == '\t') {
            insert(editor, c == '\t' ? ' ' : c);
        }
    }
}

size_t editor_take(struct editor *editor, char *to, size_t size)
{
    size_t length = 0;
    char c;

    do {
        c = editor->queue[editor->read_at];
        editor->read_at = (editor->read_at + 1) % EDITOR_QUEUE;
        editor->queued--;
        if (c != '\n' && length < size) {
            to[length++] = c;
        }
    } while (c != '\n');
    editor->lines--;
    return length;
}
