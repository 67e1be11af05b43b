/* SPDX-License-Identifier: MIT */
#include "user/libos/number.h"

static unsigned digit_value(char c)
{
    if (c >= '0' && c <= '9') {
        return (unsigned)(c - '0');
    }
    c |= 0x20; /* lower case */
    return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 16;
}

bool parse_number(const char *text, uint64_t *number)
{
    bool negative = *text == '-';
    unsigned base = 10;
    uint64_t value = 0;

    text += negative;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        base = 16;
        text += 2;
    }
    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        unsigned digit = digit_value(*text);

        if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit, &value)) {
            return false;
        }
    }
    *number = negative ? -value : value;
    return true;
}
