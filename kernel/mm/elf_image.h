/* SPDX-License-Identifier: MIT */
/*
 * The first user program as an ELF file: what may be believed of it. A static ELF64 executable for
 * x86-64 (System V ABI), each load segment on pages of its own, none writable and executable.
 */
#ifndef ONESTACK_MM_ELF_IMAGE_H
#define ONESTACK_MM_ELF_IMAGE_H

#include <stdint.h>

#define ELF_SEGMENTS_MAX 8

struct elf_segment {
    uint64_t address, bytes;     /* in memory: whole pages */
    uint64_t skip;               /* from `address` to the first byte that comes from the file */
    uint64_t offset, file_bytes; /* in the file */
    uint8_t flags;               /* MAP_READ, and one of MAP_WRITE and MAP_EXECUTE or none */
};

struct elf_image {
    uint64_t entry;
    unsigned count;
    struct elf_segment segments[ELF_SEGMENTS_MAX];
};

/* NULL, or what is wrong. Segments must end at or below `end`. */
const char *elf_read(struct elf_image *image, const void *file, uint64_t size, uint64_t end);

#endif
