/* SPDX-License-Identifier: MIT */
#include "kernel/mm/boot_image.h"

#include "kernel/abi/bootpage.h"
#include "kernel/abi/error.h"
#include "kernel/abi/syscall.h"
#include "kernel/arch/clock.h"
#include "kernel/arch/smp.h"
#include "kernel/lib/string.h"
#include "kernel/mm/elf_image.h"
#include "kernel/mm/init.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/irq.h"
#include "kernel/obj/memory.h"
#include "kernel/obj/quota.h"
#include "kernel/obj/range.h"

#define NO_MEMORY "not enough memory for the first program"

static uint64_t page_up(uint64_t address)
{
    return (address + PAGE_SIZE - 1) & ~(uint64_t)(PAGE_SIZE - 1);
}

/* A first capability of the root space; 0 = no memory. */
static cap_t give_part(struct space *space, struct object *object, uint32_t rights, uint64_t badge)
{
    cap_t handle;

    return cap_insert(space, object, rights, badge, NULL, 0, &handle) == E_OK ? handle : 0;
}

static cap_t give(struct space *space, struct object *object, uint32_t rights)
{
    return give_part(space, object, rights, 0);
}

static uint32_t memory_rights(uint8_t flags)
{
    return RIGHT_GRANT | RIGHT_REVOKE | RIGHT_MEMORY_READ |
           (flags & MAP_WRITE ? RIGHT_MEMORY_WRITE : 0) |
           (flags & MAP_EXECUTE ? RIGHT_MEMORY_EXECUTE : 0);
}

/* Zeroed memory of the first program's, mapped; NULL = no memory. */
static struct memory *place(struct space *space, uint64_t address, uint64_t bytes, uint8_t flags)
{
    struct memory *memory = memory_new(&root_quota, MEMORY_ANONYMOUS, bytes);

    while (memory != NULL && memory->filled < bytes) {
        if (!memory_fill_some(memory)) {
            return NULL;
        }
    }
    cap_t handle = memory ? give(space, &memory->object, memory_rights(flags)) : 0;
    struct cap *cap = cap_lookup(space, handle);

    if (cap == NULL || space_map(space, cap, address, bytes, 0, flags) != E_OK) {
        return NULL;
    }
    return memory;
}

static void fill(const struct memory *memory, uint64_t at, const uint8_t *from, uint64_t bytes)
{
    while (bytes > 0) {
        uint64_t skip = at % PAGE_SIZE;
        uint64_t part = PAGE_SIZE - skip < bytes ? PAGE_SIZE - skip : bytes;

        memcpy((uint8_t *)phys_to_virt(memory_page(memory, at - skip)) + skip, from, part);
        at += part;
        from += part;
        bytes -= part;
    }
}

static const char *load(struct space *space, const struct boot_module *module, uint64_t *entry)
{
    const uint8_t *file = phys_to_virt(module->base);
    struct elf_image image;
    const char *reason = elf_read(&image, file, module->size, BOOT_STACK_TOP - BOOT_STACK_SIZE);

    *entry = image.entry;
    for (unsigned i = 0; reason == NULL && i < image.count; i++) {
        const struct elf_segment *segment = &image.segments[i];
        const struct memory *memory = place(space, segment->address, segment->bytes,
                                            segment->flags);

        if (memory == NULL) {
            return NO_MEMORY;
        }
        fill(memory, segment->skip, file + segment->offset, segment->file_bytes);
    }
    return reason;
}

/* Physical memory that was never the allocator's; 0 = no memory for the object. */
static cap_t give_physical(struct space *space, enum memory_kind kind, uint64_t base,
                           uint64_t bytes, uint8_t flags)
{
    struct memory *memory = memory_new(&root_quota, kind, bytes);

    if (memory == NULL) {
        return 0;
    }
    memory->base = base;
    return give(space, &memory->object, memory_rights(flags));
}

/* The capabilities that everything else in the system is derived from. */
static bool give_roots(struct boot_page *page, struct space *space, struct thread *thread,
                       const struct bootinfo *info)
{
    page->space = give(space, &space->object, cap_type_rights(OBJ_SPACE));
    page->thread = give(space, &thread->object, cap_type_rights(OBJ_THREAD));
    page->quota = give(space, &root_quota.object, cap_type_rights(OBJ_QUOTA));
    page->irqs = give_part(space, &irq_object, cap_type_rights(OBJ_IRQ), (uint64_t)IRQ_LINES << 32);
    page->ioports = give(space, &ioports_object, cap_type_rights(OBJ_IOPORTS));
    page->device_memory = give_physical(space, MEMORY_DEVICE, 0, physical_limit(),
                                        MAP_READ | MAP_WRITE);
    bool all = page->space && page->thread && page->quota && page->irqs && page->ioports &&
               page->device_memory;

    for (uint32_t i = 1; all && i < info->module_count; i++) {
        const struct boot_module *module = &info->modules[i];

        page->modules[i - 1] = give_physical(space, MEMORY_MODULE, module->base,
                                             page_up(module->size), MAP_READ | MAP_EXECUTE);
        page->module_size[i - 1] = module->size;
        page->module_count = i;
        all = page->modules[i - 1] != 0;
    }
    return all;
}

/* Once loaded its memory is as good as any. */
static void reclaim(const struct boot_module *module)
{
    mm_add(module->base, page_up(module->size));
}

static const char *check_modules(const struct bootinfo *info)
{
    for (uint32_t i = 0; i < info->module_count; i++) {
        if (info->modules[i].base % PAGE_SIZE != 0) {
            return "does not begin on a page of its own";
        }
    }
    return NULL;
}

const char *boot_image_start(struct core *core, const struct bootinfo *info,
                             const struct boot_power *power)
{
    struct space *space = space_new(&root_quota, &root_quota);
    struct thread *thread = thread_new(&root_quota, core, BOOT_PRIORITY, 255);
    const struct memory *memory;
    struct boot_page *page;
    uint64_t entry;

    if (space == NULL || thread == NULL || !thread_enter(thread, space)) {
        return NO_MEMORY;
    }
    const char *reason = check_modules(info);

    if (reason == NULL) {
        reason = load(space, &info->modules[0], &entry);
    }
    if (reason != NULL) {
        return reason;
    }
    memory = place(space, BOOT_PAGE, PAGE_SIZE, MAP_READ);
    if (memory == NULL || place(space, BOOT_STACK_TOP - BOOT_STACK_SIZE, BOOT_STACK_SIZE,
                                MAP_READ | MAP_WRITE) == NULL) {
        return NO_MEMORY;
    }
    page = phys_to_virt(memory_page(memory, 0));
    page->tsc_hz = machine_clock.tsc_hz;
    page->cores = smp_online_count();
    page->power = *power;
    string_copy(page->cmdline, sizeof(page->cmdline), info->cmdline);
    if (!give_roots(page, space, thread, info)) {
        return NO_MEMORY;
    }
    thread_set_entry(thread, entry, BOOT_STACK_TOP, BOOT_PAGE);
    thread_begin(core, thread);
    reclaim(&info->modules[0]);
    return NULL;
}
