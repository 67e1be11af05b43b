/* SPDX-License-Identifier: MIT */
/* The four functions that the compiler may call on its own, and the few string functions in use. */
#ifndef ONESTACK_LIB_STRING_H
#define ONESTACK_LIB_STRING_H

#include <stdbool.h>
#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *left, const void *right, size_t size);

size_t strlen(const char *s);
int strcmp(const char *left, const char *right);
int strncmp(const char *left, const char *right, size_t size);

/* Copies at most size - 1 bytes and always terminates. Returns false when it had to cut. */
bool string_copy(char *to, size_t size, const char *from);

#endif
