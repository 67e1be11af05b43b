/* SPDX-License-Identifier: MIT */
/* Reading an ELF64 executable: everything that could be wrong with one is refused with a reason. */
#ifndef ONESTACK_LIBOS_ELF_H
#define ONESTACK_LIBOS_ELF_H

#include <stddef.h>
#include <stdint.h>

#define ELF_SEGMENTS_MAX 8

struct elf_segment {
    uint64_t address;                 /* page aligned down */
    uint64_t bytes;                   /* whole pages */
    uint32_t flags;                   /* MAP_READ, MAP_WRITE or MAP_EXECUTE */
    const uint8_t *data;              /* what to copy, */
    uint64_t data_offset, data_bytes; /* to where in the segment; the rest is zero */
};

struct elf_image {
    uint64_t entry;
    uint32_t count;
    struct elf_segment segments[ELF_SEGMENTS_MAX]; /* ascending, no page in two of them */
};

/* NULL and a filled image, or why not. The image points into the file. */
const char *elf_parse(struct elf_image *image, const void *file, size_t size);

#endif
