/* SPDX-License-Identifier: MIT */
#include "kernel/mm/elf_image.h"

#include <stdbool.h>
#include <stddef.h>

#include "kernel/abi/syscall.h"
#include "kernel/arch/layout.h"
#include "kernel/lib/string.h"

struct elf_header {
    uint8_t magic[4], class, data, ident_version, abi, pad[8];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};

struct elf_program_header {
    uint32_t type, flags;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
};

_Static_assert(sizeof(struct elf_header) == 64, "System V ABI, figure 4-3");
_Static_assert(sizeof(struct elf_program_header) == 56, "System V ABI, figure 5-1");

#define CLASS_64       2
#define DATA_LITTLE    1
#define TYPE_EXEC      2
#define MACHINE_X86_64 62
#define PT_LOAD        1
#define PT_DYNAMIC     2
#define PT_INTERP      3
#define PF_X           1u
#define PF_W           2u
#define PF_R           4u

static uint64_t page_down(uint64_t address)
{
    return address & ~(uint64_t)(PAGE_SIZE - 1);
}

static const char *check_header(const struct elf_header *header, uint64_t size)
{
    if (memcmp(header->magic, "\177ELF", 4) != 0) {
        return "not an ELF file";
    }
    if (header->class != CLASS_64 || header->data != DATA_LITTLE) {
        return "not a 64-bit little-endian ELF file";
    }
    if (header->machine != MACHINE_X86_64) {
        return "not for x86-64";
    }
    if (header->type != TYPE_EXEC) {
        return "not a static executable";
    }
    if (header->phentsize != sizeof(struct elf_program_header) || header->phnum == 0) {
        return "no program headers, or of a wrong size";
    }
    if (header->phoff > size ||
        header->phnum * sizeof(struct elf_program_header) > size - header->phoff) {
        return "program headers beyond the end of the file";
    }
    return NULL;
}

static const char *check_segment(const struct elf_program_header *header, uint64_t size,
                                 uint64_t end)
{
    if (header->offset > size || header->filesz > size - header->offset) {
        return "a segment beyond the end of the file";
    }
    if (header->filesz > header->memsz) {
        return "a segment larger in the file than in memory";
    }
    if (header->vaddr < USER_BASE || header->vaddr > end || header->memsz > end - header->vaddr) {
        return "a segment outside user memory";
    }
    if (!(header->flags & PF_R)) {
        return "a segment that cannot be read";
    }
    if (header->flags & PF_W && header->flags & PF_X) {
        return "a segment both writable and executable";
    }
    return NULL;
}

static const char *add_segment(struct elf_image *image, const struct elf_program_header *header)
{
    uint64_t first = page_down(header->vaddr);
    uint64_t last = page_down(header->vaddr + header->memsz - 1);

    if (image->count == ELF_SEGMENTS_MAX) {
        return "too many segments";
    }
    for (unsigned i = 0; i < image->count; i++) {
        const struct elf_segment *other = &image->segments[i];

        if (first < other->address + other->bytes && other->address <= last) {
            return "two segments on one page";
        }
    }
    image->segments[image->count++] = (struct elf_segment){
        .address = first,
        .bytes = last - first + PAGE_SIZE,
        .skip = header->vaddr - first,
        .offset = header->offset,
        .file_bytes = header->filesz,
        .flags = (uint8_t)(MAP_READ | (header->flags & PF_W ? MAP_WRITE : 0) |
                           (header->flags & PF_X ? MAP_EXECUTE : 0)),
    };
    return NULL;
}

static bool entry_inside(const struct elf_image *image)
{
    for (unsigned i = 0; i < image->count; i++) {
        const struct elf_segment *segment = &image->segments[i];
        uint64_t start = segment->address + segment->skip;

        /* In what comes from the file: elsewhere there is no instruction. */
        if (segment->flags & MAP_EXECUTE && image->entry >= start &&
            image->entry - start < segment->file_bytes) {
            return true;
        }
    }
    return false;
}

const char *elf_read(struct elf_image *image, const void *file, uint64_t size, uint64_t end)
{
    const uint8_t *bytes = file;
    struct elf_header header;
    const char *reason;

    if (size < sizeof(header)) {
        return "too short for an ELF file";
    }
    memcpy(&header, bytes, sizeof(header));
    reason = check_header(&header, size);
    image->entry = header.entry;
    image->count = 0;
    for (unsigned i = 0; reason == NULL && i < header.phnum; i++) {
        struct elf_program_header segment;

        memcpy(&segment, bytes + header.phoff + i * sizeof(segment), sizeof(segment));
        if (segment.type == PT_DYNAMIC || segment.type == PT_INTERP) {
            return "not a static executable";
        }
        if (segment.type != PT_LOAD || segment.memsz == 0) {
            continue;
        }
        reason = check_segment(&segment, size, end);
        if (reason == NULL) {
            reason = add_segment(image, &segment);
        }
    }
    if (reason == NULL && !entry_inside(image)) {
        reason = "the entry point is in no executable segment";
    }
    return reason;
}
