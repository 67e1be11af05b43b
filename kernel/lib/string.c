/* SPDX-License-Identifier: MIT */
#include "kernel/lib/string.h"

#include <stdint.h>

/*
 * The block functions are rep string instructions in words, then bytes: short, no SSE, and few
 * instructions, for under -icount each iteration counts as one. The assembly also keeps the compiler from
 * recognising a copy loop and replacing it with a call to the very function it is in.
 */

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    void *out = to;
    size_t words = size / 8;
    size_t bytes = size % 8;

    __asm__ volatile("rep movsq" : "+D"(out), "+S"(from), "+c"(words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(out), "+S"(from), "+c"(bytes) : : "memory");
    return to;
}

void *memmove(void *to, const void *from, size_t size)
{
    /* Unsigned difference: true unless the destination starts inside the source. */
    if ((uint64_t)to - (uint64_t)from >= size) {
        return memcpy(to, from, size);
    }
    uint8_t *out = (uint8_t *)to + size - 1;
    const uint8_t *in = (const uint8_t *)from + size - 1;

    /* Every kernel entry does cld, and iretq brings DF back: an interrupt here is harmless. */
    __asm__ volatile("std\n\t"
                     "rep movsb\n\t"
                     "cld"
                     : "+D"(out), "+S"(in), "+c"(size)
                     :
                     : "memory", "cc");
    return to;
}

void *memset(void *to, int byte, size_t size)
{
    void *out = to;
    size_t words = size / 8;
    size_t bytes = size % 8;
    uint64_t pattern = (uint8_t)byte * 0x0101010101010101ul;

    __asm__ volatile("rep stosq" : "+D"(out), "+c"(words) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(out), "+c"(bytes) : "a"(pattern) : "memory");
    return to;
}

int memcmp(const void *left, const void *right, size_t size)
{
    const uint8_t *l = left;
    const uint8_t *r = right;

    for (size_t i = 0; i < size; i++) {
        if (l[i] != r[i]) {
            return l[i] - r[i];
        }
    }
    return 0;
}

size_t strlen(const char *s)
{
    size_t length = 0;

    while (s[length] != '\0') {
        length++;
        __asm__ volatile("" : "+r"(length)); /* not a strlen idiom to the optimiser: see above */
    }
    return length;
}

int strncmp(const char *left, const char *right, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (left[i] != right[i] || left[i] == '\0') {
            return (uint8_t)left[i] - (uint8_t)right[i];
        }
    }
    return 0;
}

int strcmp(const char *left, const char *right)
{
    return strncmp(left, right, SIZE_MAX);
}

bool string_copy(char *to, size_t size, const char *from)
{
    size_t i = 0;

    for (; i + 1 < size && from[i] != '\0'; i++) {
        to[i] = from[i];
    }
    to[i] = '\0';
    return from[i] == '\0';
}
