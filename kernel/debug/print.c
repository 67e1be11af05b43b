/* SPDX-License-Identifier: MIT */
#include "kernel/debug/print.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/arch/uart.h"
#include "kernel/lib/string.h"

struct spec {
    bool left;
    bool zero;
    bool is_long;
    uint32_t width;
};

static void put(char c)
{
    if (c == '\n') {
        uart_putc('\r');
    }
    uart_putc(c);
}

static void pad(char c, uint32_t count)
{
    while (count-- > 0) {
        put(c);
    }
}

static void put_field(const struct spec *spec, const char *text, size_t length)
{
    uint32_t fill = spec->width > length ? spec->width - (uint32_t)length : 0;

    pad(' ', spec->left ? 0 : fill);
    for (size_t i = 0; i < length; i++) {
        put(text[i]);
    }
    pad(' ', spec->left ? fill : 0);
}

static void put_number(const struct spec *spec, uint64_t value, uint32_t base, const char *prefix)
{
    char text[32];
    char *end = text + sizeof(text);
    char *at = end;
    size_t prefix_length = strlen(prefix);

    do {
        *--at = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    /* Zeros go between sign and digits: no wider than the buffer, which no sane width exceeds. */
    while (spec->zero && !spec->left && (size_t)(end - at) + prefix_length < spec->width &&
           at > text + prefix_length) {
        *--at = '0';
    }
    at -= prefix_length;
    memcpy(at, prefix, prefix_length);
    put_field(spec, at, (size_t)(end - at));
}

static const char *parse_spec(const char *at, struct spec *spec)
{
    *spec = (struct spec){0};
    for (; *at == '-' || *at == '0'; at++) {
        spec->left |= *at == '-';
        spec->zero |= *at == '0';
    }
    for (; *at >= '0' && *at <= '9' && spec->width < 1000; at++) {
        spec->width = spec->width * 10 + (uint32_t)(*at - '0');
    }
    for (; *at == 'l' || *at == 'z'; at++) {
        spec->is_long = true;
    }
    return at;
}

static void put_signed(const struct spec *spec, int64_t value)
{
    bool negative = value < 0;

    put_number(spec, negative ? -(uint64_t)value : (uint64_t)value, 10, negative ? "-" : "");
}

/* The va_list goes by pointer: what one conversion takes is gone for the next. */
static bool convert(char conversion, const struct spec *spec, va_list *arguments)
{
    const char *text;
    char character;

    switch (conversion) {
    case 'c':
        character = (char)va_arg(*arguments, int);
        put_field(spec, &character, 1);
        return true;
    case 's':
        text = va_arg(*arguments, const char *);
        text = text == NULL ? "(null)" : text;
        put_field(spec, text, strlen(text));
        return true;
    case 'd':
    case 'i':
        put_signed(spec, spec->is_long ? va_arg(*arguments, int64_t) : va_arg(*arguments, int32_t));
        return true;
    case 'u':
    case 'x':
        put_number(spec,
                   spec->is_long ? va_arg(*arguments, uint64_t) : va_arg(*arguments, uint32_t),
                   conversion == 'x' ? 16 : 10, "");
        return true;
    case 'p':
        put_number(&(struct spec){.zero = true, .width = 18},
                   (uint64_t)va_arg(*arguments, const void *), 16, "0x");
        return true;
    case '%':
        put('%');
        return true;
    default:
        return false;
    }
}

void kvprintf(const char *format, va_list arguments)
{
    va_list rest;

    va_copy(rest, arguments);
    while (*format != '\0') {
        struct spec spec;

        if (*format != '%') {
            put(*format++);
            continue;
        }
        const char *end = parse_spec(format + 1, &spec);
        if (*end != '\0' && convert(*end, &spec, &rest)) {
            format = end + 1;
        } else {
            put(*format++);
        }
    }
    va_end(rest);
}

void kprintf(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    kvprintf(format, arguments);
    va_end(arguments);
}
