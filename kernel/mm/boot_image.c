/* SPDX-License-Identifier: MIT */
#include "kernel/mm/boot_image.h"

#include "kernel/abi/bootpage.h"
#include "kernel/abi/error.h"
#include "kernel/abi/syscall.h"
#include "kernel/arch/clock.h"
#include "kernel/arch/smp.h"
#include "kernel/lib/string.h"
#include "kernel/mm/init.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/memory.h"
#include "kernel/obj/quota.h"
#include "kernel/obj/range.h"
#include "kernel/obj/space.h"
#include "kernel/obj/thread.h"

typedef const char *reason_t; /* NULL: all is well */

static const char no_memory[] = "no memory for the first program";

/* ---- ELF (System V gABI, chapter 4 and 5; x86-64 psABI 4.1) ---- */

#define ELF_MAGIC         0x464c457f
#define ELF_CLASS64       2
#define ELF_LITTLE_ENDIAN 1
#define ELF_EXECUTABLE    2
#define ELF_X86_64        62
#define ELF_LOAD          1
#define ELF_FLAG_EXECUTE  1
#define ELF_FLAG_WRITE    2
#define ELF_SEGMENTS_MAX  16

struct elf_header {
    uint32_t magic;
    uint8_t class, endian, version, abi;
    uint8_t pad[8];
    uint16_t type, machine;
    uint32_t version2;
    uint64_t entry, segments_offset, sections_offset;
    uint32_t flags;
    uint16_t header_size, segment_size, segment_count;
    uint16_t section_size, section_count, names;
};
_Static_assert(sizeof(struct elf_header) == 64, "Elf64_Ehdr");

struct elf_segment {
    uint32_t type, flags;
    uint64_t offset, address, physical, file_bytes, bytes, align;
};
_Static_assert(sizeof(struct elf_segment) == 56, "Elf64_Phdr");

struct image {
    const uint8_t *file;
    uint64_t size;
    const struct elf_header *header;
    const struct elf_segment *segments;
};

static reason_t check_header(struct image *image)
{
    const struct elf_header *h = (const struct elf_header *)image->file;

    if (image->size < sizeof(*h) || h->magic != ELF_MAGIC) {
        return "not an ELF file";
    }
    if (h->class != ELF_CLASS64 || h->endian != ELF_LITTLE_ENDIAN || h->type != ELF_EXECUTABLE ||
        h->machine != ELF_X86_64) {
        return "not a static x86-64 program";
    }
    if (h->segment_size != sizeof(struct elf_segment) || h->segment_count == 0 ||
        h->segment_count > ELF_SEGMENTS_MAX || h->segments_offset % 8 != 0 ||
        h->segments_offset > image->size ||
        image->size - h->segments_offset < h->segment_count * sizeof(struct elf_segment)) {
        return "its program headers are not in the file";
    }
    image->header = h;
    image->segments = (const struct elf_segment *)(image->file + h->segments_offset);
    return NULL;
}

static uint64_t page_up(uint64_t bytes)
{
    return (bytes + PAGE_SIZE - 1) & ~(uint64_t)(PAGE_SIZE - 1);
}

static bool segments_overlap(const struct elf_segment *a, const struct elf_segment *b)
{
    return a->address < b->address + page_up(b->bytes) &&
           b->address < a->address + page_up(a->bytes);
}

static reason_t check_segment(const struct image *image, const struct elf_segment *s)
{
    if (s->file_bytes > s->bytes || s->offset > image->size ||
        image->size - s->offset < s->file_bytes) {
        return "a segment is not in the file: cut short?";
    }
    if (s->address % PAGE_SIZE != 0 || s->address < USER_BASE || s->address >= BOOT_PAGE ||
        s->bytes == 0 || s->bytes > BOOT_PAGE - BOOT_STACK_SIZE - s->address) {
        return "a segment lies outside user memory or not on a page";
    }
    if (s->flags & ELF_FLAG_WRITE && s->flags & ELF_FLAG_EXECUTE) {
        return "a segment is writable and executable";
    }
    for (const struct elf_segment *other = image->segments; other < s; other++) {
        if (other->type == ELF_LOAD && segments_overlap(other, s)) {
            return "two segments overlap";
        }
    }
    return NULL;
}

static reason_t check_image(struct image *image)
{
    reason_t reason = check_header(image);
    bool entered = false;

    for (unsigned i = 0; !reason && i < image->header->segment_count; i++) {
        const struct elf_segment *s = &image->segments[i];

        if (s->type == ELF_LOAD) {
            reason = check_segment(image, s);
            entered |= s->flags & ELF_FLAG_EXECUTE && image->header->entry >= s->address &&
                       image->header->entry - s->address < s->bytes;
        }
    }
    return reason || entered ? reason : "its entry point is in no executable segment";
}

/* ---- the first space ---- */

/* A capability with all rights for an object that was just made; 0 = no memory. */
static cap_t give(struct space *space, struct object *object, uint32_t rights, uint64_t badge)
{
    cap_t handle;

    return cap_insert(space, object, rights, badge, NULL, 0, &handle) == E_OK ? handle : 0;
}

static void copy_in(const struct memory *memory, const uint8_t *from, uint64_t bytes)
{
    for (uint64_t done = 0; done < bytes; done += PAGE_SIZE) {
        uint64_t part = bytes - done < PAGE_SIZE ? bytes - done : PAGE_SIZE;
        bool large;

        memcpy(phys_to_virt(memory_page(memory, done, &large)), from + done, part);
    }
}

/* New memory at `address`, beginning with `size` bytes from `from`. */
static reason_t place(struct space *space, uint64_t address, uint64_t bytes, uint8_t flags,
                      const void *from, uint64_t size)
{
    struct memory *memory = memory_new(&root_quota, MEMORY_ANONYMOUS, page_up(bytes));
    cap_t handle;

    if (!memory) {
        return no_memory;
    }
    while (memory->filled < memory->bytes) {
        if (!memory_fill_some(memory)) {
            return no_memory;
        }
    }
    copy_in(memory, from, size);
    handle = give(space, &memory->object, cap_type_rights(OBJ_MEMORY), 0);
    if (!handle || space_map(space, cap_lookup(space, handle), address, memory->bytes, 0, flags)) {
        return no_memory;
    }
    return NULL;
}

static reason_t place_segments(struct space *space, const struct image *image)
{
    reason_t reason = NULL;

    for (unsigned i = 0; !reason && i < image->header->segment_count; i++) {
        const struct elf_segment *s = &image->segments[i];
        uint8_t flags = MAP_READ | (s->flags & ELF_FLAG_WRITE ? MAP_WRITE : 0) |
                        (s->flags & ELF_FLAG_EXECUTE ? MAP_EXECUTE : 0);

        if (s->type == ELF_LOAD) {
            reason = place(space, s->address, s->bytes, flags, image->file + s->offset,
                           s->file_bytes);
        }
    }
    return reason;
}

/* The modules beyond the first, as they lie in memory. */
static bool give_modules(struct space *space, const struct bootinfo *info, struct boot_page *page)
{
    for (uint32_t i = 1; i < info->module_count; i++) {
        const struct boot_module *module = &info->modules[i];
        struct memory *memory = memory_new(&root_quota, MEMORY_MODULE, page_up(module->size));

        if (!memory) {
            return false;
        }
        memory->base = module->base;
        page->modules[i - 1] = give(space, &memory->object, cap_type_rights(OBJ_MEMORY), 0);
        page->module_size[i - 1] = module->size;
        page->module_count = i;
    }
    return true;
}

static bool give_all(struct space *space, struct thread *thread, const struct bootinfo *info,
                     struct boot_page *page)
{
    struct memory *devices = memory_new(&root_quota, MEMORY_DEVICE, physical_limit());

    if (!devices || !give_modules(space, info, page)) {
        return false;
    }
    page->space = give(space, &space->object, cap_type_rights(OBJ_SPACE), 0);
    page->thread = give(space, &thread->object, cap_type_rights(OBJ_THREAD), 0);
    page->quota = give(space, &root_quota.object, cap_type_rights(OBJ_QUOTA), 0);
    page->irqs = give(space, &irq_object, cap_type_rights(OBJ_IRQ), (uint64_t)257 << 32);
    page->ioports = give(space, &ioports_object, cap_type_rights(OBJ_IOPORTS), 0);
    page->device_memory = give(space, &devices->object, cap_type_rights(OBJ_MEMORY), 0);
    return page->space && page->thread && page->quota && page->irqs && page->ioports &&
           page->device_memory;
}

static reason_t build(struct core *core, const struct bootinfo *info, const struct image *image)
{
    static struct boot_page page; /* 4 KiB: too much for the stack */
    struct space *space = space_new(&root_quota, &root_quota);
    struct thread *thread = thread_new(&root_quota, core, BOOT_PRIORITY, 255);
    reason_t reason;

    if (!space || !thread || !thread_enter(thread, space) ||
        !give_all(space, thread, info, &page)) {
        return no_memory;
    }
    page.tsc_hz = machine_clock.tsc_hz;
    page.cores = 1;
    string_copy(page.cmdline, sizeof(page.cmdline), info->cmdline);
    reason = place_segments(space, image);
    if (!reason) {
        reason = place(space, BOOT_STACK_TOP - BOOT_STACK_SIZE, BOOT_STACK_SIZE,
                       MAP_READ | MAP_WRITE, NULL, 0);
    }
    if (!reason) {
        reason = place(space, BOOT_PAGE, sizeof(page), MAP_READ, &page, sizeof(page));
    }
    if (!reason) {
        thread_set_entry(thread, image->header->entry, BOOT_STACK_TOP, BOOT_PAGE);
        thread_begin(core, thread);
    }
    return reason;
}

const char *boot_image_start(struct core *core, const struct bootinfo *info)
{
    struct image image = {
        .file = phys_to_virt(info->modules[0].base),
        .size = info->modules[0].size,
    };
    reason_t reason = check_image(&image);

    if (!reason) {
        reason = build(core, info, &image);
    }
    if (!reason) {
        mm_add(info->modules[0].base, page_up(info->modules[0].size));
    }
    return reason;
}
