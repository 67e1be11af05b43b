/* SPDX-License-Identifier: MIT */
#include "kernel/options.h"

#include "kernel/lib/string.h"

/* The text behind `name=` where a word begins so, or NULL. */
static const char *option_find(const char *cmdline, const char *name)
{
    size_t length = strlen(name);

    for (const char *word = cmdline; *word; word++) {
        bool begins = word == cmdline || word[-1] == ' ';

        if (begins && strncmp(word, name, length) == 0 && word[length] == '=') {
            return word + length + 1;
        }
    }
    return NULL;
}

uint64_t option_number(const char *cmdline, const char *name, uint64_t otherwise)
{
    const char *text = option_find(cmdline, name);
    uint64_t value = 0;

    if (!text || *text < '0' || *text > '9') {
        return otherwise;
    }
    for (; *text >= '0' && *text <= '9'; text++) {
        if (value > (UINT64_MAX - 9) / 10) {
            return otherwise;
        }
        value = value * 10 + (uint64_t)(*text - '0');
    }
    return *text == '\0' || *text == ' ' ? value : otherwise;
}
