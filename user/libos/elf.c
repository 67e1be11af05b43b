/* SPDX-License-Identifier: MIT */
/* ELF-64 Object File Format 1.5; System V ABI, AMD64 supplement 1.0, chapter 4. */
#include "user/libos/elf.h"

#include <stdbool.h>

#include "kernel/abi/syscall.h"
#include "kernel/arch/layout.h"
#include "kernel/lib/string.h"

#define ELF_MAGIC           "\177ELF\2\1\1" /* 64-bit, little-endian, version 1 */
#define ELF_TYPE_EXECUTABLE 2
#define ELF_MACHINE_X86_64  62
#define ELF_PT_LOAD         1
#define ELF_PT_DYNAMIC      2
#define ELF_PT_INTERP       3
#define ELF_PF_X            1
#define ELF_PF_W            2
#define ELF_PF_R            4

struct elf_header {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, program_headers, section_headers;
    uint32_t flags;
    uint16_t header_size, program_header_size, program_header_count;
    uint16_t section_header_size, section_header_count, section_names;
};

struct elf_program_header {
    uint32_t type, flags;
    uint64_t offset, address, physical, file_bytes, memory_bytes, align;
};

_Static_assert(sizeof(struct elf_header) == 64, "ELF-64, figure 2");
_Static_assert(sizeof(struct elf_program_header) == 56, "ELF-64, figure 6");

static const char *check_header(const struct elf_header *header, size_t size)
{
    if (size < sizeof(*header)) {
        return "shorter than an ELF header";
    }
    if (memcmp(header->ident, ELF_MAGIC, sizeof(ELF_MAGIC) - 1) != 0) {
        return "not a 64-bit little-endian ELF file";
    }
    if (header->type != ELF_TYPE_EXECUTABLE || header->machine != ELF_MACHINE_X86_64) {
        return "not a static executable for x86-64";
    }
    if (header->program_header_size != sizeof(struct elf_program_header)) {
        return "program headers of another size";
    }
    uint64_t bytes = (uint64_t)header->program_header_count * sizeof(struct elf_program_header);
    if (header->program_headers > size || bytes > size - header->program_headers) {
        return "program headers beyond the end of the file";
    }
    return NULL;
}

/* Lengths are compared by subtraction, for a sum of two hostile numbers may wrap. */
static const char *check_load(const struct elf_program_header *load, size_t size)
{
    if (load->offset > size || load->file_bytes > size - load->offset) {
        return "a segment beyond the end of the file";
    }
    if (load->file_bytes > load->memory_bytes) {
        return "a segment with more bytes in the file than in memory";
    }
    if (load->address < USER_BASE || load->address >= USER_END ||
        load->memory_bytes > USER_END - load->address) {
        return "a segment outside user space";
    }
    if ((load->flags & ELF_PF_W) && (load->flags & ELF_PF_X)) {
        return "a segment both writable and executable";
    }
    if (!(load->flags & ELF_PF_R)) {
        return "a segment that cannot be read";
    }
    return NULL;
}

static const char *add_segment(struct elf_image *image, const struct elf_program_header *load,
                               const uint8_t *file)
{
    uint64_t start = load->address & ~(uint64_t)(PAGE_SIZE - 1);
    uint64_t end = (load->address + load->memory_bytes + PAGE_SIZE - 1) &
                   ~(uint64_t)(PAGE_SIZE - 1);

    if (image->count == ELF_SEGMENTS_MAX) {
        return "too many segments";
    }
    if (image->count > 0) {
        const struct elf_segment *last = &image->segments[image->count - 1];
        if (start < last->address + last->bytes) {
            return "segments that overlap, share a page or do not ascend";
        }
    }
    image->segments[image->count++] = (struct elf_segment){
        .address = start,
        .bytes = end - start,
        .flags = MAP_READ | (load->flags & ELF_PF_W ? MAP_WRITE : 0) |
                 (load->flags & ELF_PF_X ? MAP_EXECUTE : 0),
        .data = file + load->offset,
        .data_offset = load->address - start,
        .data_bytes = load->file_bytes,
    };
    return NULL;
}

static bool entry_inside(const struct elf_image *image)
{
    for (uint32_t i = 0; i < image->count; i++) {
        const struct elf_segment *segment = &image->segments[i];
        if ((segment->flags & MAP_EXECUTE) && image->entry >= segment->address &&
            image->entry - segment->address < segment->bytes) {
            return true;
        }
    }
    return false;
}

const char *elf_parse(struct elf_image *image, const void *file, size_t size)
{
    struct elf_header header;
    const char *reason;

    memset(&header, 0, sizeof(header));
    memcpy(&header, file, size < sizeof(header) ? size : sizeof(header));
    reason = check_header(&header, size);
    *image = (struct elf_image){.entry = header.entry};
    for (uint32_t i = 0; reason == NULL && i < header.program_header_count; i++) {
        struct elf_program_header load;

        memcpy(&load, (const uint8_t *)file + header.program_headers + i * sizeof(load),
               sizeof(load));
        if (load.type == ELF_PT_INTERP || load.type == ELF_PT_DYNAMIC) {
            reason = "dynamically linked";
        } else if (load.type == ELF_PT_LOAD && load.memory_bytes > 0) {
            reason = check_load(&load, size);
            reason = reason ? reason : add_segment(image, &load, file);
        }
    }
    if (reason == NULL && !entry_inside(image)) {
        reason = "an entry point outside executable code";
    }
    return reason;
}
