/* SPDX-License-Identifier: MIT */
#include "user/libos/format.h"

#include <stdbool.h>
#include <stdint.h>

#include "kernel/lib/string.h"

struct spec {
    bool left;
    bool zero;
    bool is_long;
    size_t width;
    size_t precision; /* SIZE_MAX: none */
};

static void put(struct sink *sink, char c)
{
    if (sink->used == sink->size && sink->flush != NULL) {
        sink->flush(sink);
    }
    if (sink->used < sink->size) {
        sink->buffer[sink->used++] = c;
    }
    sink->total++;
}

static void pad(struct sink *sink, char c, size_t count)
{
    while (count-- > 0) {
        put(sink, c);
    }
}

static void put_field(struct sink *sink, const struct spec *spec, const char *text, size_t length)
{
    size_t fill = spec->width > length ? spec->width - length : 0;

    pad(sink, ' ', spec->left ? 0 : fill);
    for (size_t i = 0; i < length; i++) {
        put(sink, text[i]);
    }
    pad(sink, ' ', spec->left ? fill : 0);
}

static void put_string(struct sink *sink, const struct spec *spec, const char *text)
{
    size_t length = 0;

    text = text == NULL ? "(null)" : text;
    while (length < spec->precision && text[length] != '\0') {
        length++;
    }
    put_field(sink, spec, text, length);
}

static void put_number(struct sink *sink, const struct spec *spec, uint64_t value, unsigned base,
                       const char *prefix)
{
    char digits[20]; /* of the largest 64-bit number in decimal */
    char *at = digits + sizeof(digits);
    size_t prefix_length = strlen(prefix);

    do {
        *--at = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    size_t count = (size_t)(digits + sizeof(digits) - at);
    size_t length = count + prefix_length;
    size_t fill = spec->width > length ? spec->width - length : 0;
    bool zeros = spec->zero && !spec->left;

    pad(sink, ' ', spec->left || zeros ? 0 : fill);
    for (size_t i = 0; i < prefix_length; i++) {
        put(sink, prefix[i]);
    }
    pad(sink, '0', zeros ? fill : 0);
    for (size_t i = 0; i < count; i++) {
        put(sink, at[i]);
    }
    pad(sink, ' ', spec->left ? fill : 0);
}

static size_t parse_number(const char **at, va_list *arguments)
{
    size_t number = 0;

    if (**at == '*') {
        ++*at;
        int given = va_arg(*arguments, int);
        return given > 0 ? (size_t)given : 0;
    }
    for (; **at >= '0' && **at <= '9' && number < 10000; ++*at) {
        number = number * 10 + (size_t)(**at - '0');
    }
    return number;
}

static const char *parse_spec(const char *at, struct spec *spec, va_list *arguments)
{
    *spec = (struct spec){.precision = SIZE_MAX};
    for (; *at == '-' || *at == '0'; at++) {
        spec->left |= *at == '-';
        spec->zero |= *at == '0';
    }
    spec->width = parse_number(&at, arguments);
    if (*at == '.') {
        at++;
        spec->precision = parse_number(&at, arguments);
    }
    for (; *at == 'l' || *at == 'z' || *at == 'h'; at++) {
        spec->is_long |= *at != 'h';
    }
    return at;
}

/* The va_list goes by pointer: what one conversion takes is gone for the next. */
static bool convert(struct sink *sink, char conversion, const struct spec *spec, va_list *arguments)
{
    int64_t number;
    char character;

    switch (conversion) {
    case 'c':
        character = (char)va_arg(*arguments, int);
        put_field(sink, spec, &character, 1);
        return true;
    case 's':
        put_string(sink, spec, va_arg(*arguments, const char *));
        return true;
    case 'd':
    case 'i':
        number = spec->is_long ? va_arg(*arguments, int64_t) : va_arg(*arguments, int32_t);
        put_number(sink, spec, number < 0 ? -(uint64_t)number : (uint64_t)number, 10,
                   number < 0 ? "-" : "");
        return true;
    case 'u':
    case 'x':
        put_number(sink, spec,
                   spec->is_long ? va_arg(*arguments, uint64_t) : va_arg(*arguments, uint32_t),
                   conversion == 'x' ? 16 : 10, "");
        return true;
    case 'p':
        put_number(sink, &(struct spec){.zero = true, .width = 18},
                   (uint64_t)va_arg(*arguments, const void *), 16, "0x");
        return true;
    case '%':
        put(sink, '%');
        return true;
    default:
        return false;
    }
}

void format_to(struct sink *sink, const char *format, va_list arguments)
{
    va_list rest;

    va_copy(rest, arguments);
    while (*format != '\0') {
        struct spec spec;

        if (*format != '%') {
            put(sink, *format++);
            continue;
        }
        const char *end = parse_spec(format + 1, &spec, &rest);
        if (*end != '\0' && convert(sink, *end, &spec, &rest)) {
            format = end + 1;
        } else {
            put(sink, *format++);
        }
    }
    va_end(rest);
}

int vsnprintf(char *to, size_t size, const char *format, va_list arguments)
{
    struct sink sink = {.buffer = to, .size = size > 0 ? size - 1 : 0};

    format_to(&sink, format, arguments);
    if (size > 0) {
        to[sink.used] = '\0';
    }
    return (int)sink.total;
}

int snprintf(char *to, size_t size, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(to, size, format, arguments);
    va_end(arguments);
    return length;
}
