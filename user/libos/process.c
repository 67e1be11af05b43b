/* SPDX-License-Identifier: MIT */
#include "user/libos/process.h"

#include "kernel/abi/bootpage.h"
#include "kernel/abi/syscall.h"
#include "kernel/lib/string.h"
#include "user/libos/syscall.h"

/* The boot page's address says "init" to libos_start, so the start page lies beside it. */
#define START_PAGE (BOOT_PAGE + 0x1000)

extern const uint8_t __text_start[], __rodata_start[], __data_start[], __end[]; /* user.ld */

int64_t process_create(struct process *process, struct start_page *page, uint64_t quota_bytes,
                       uint64_t priority)
{
    *page = (struct start_page){0};
    *process = (struct process){.page = page};
    struct result result = sys_quota_split(own.quota, quota_bytes);
    if (result.value >= 0) {
        process->quota = result.second;
        result = sys_space_create(process->quota, 0);
    }
    if (result.value >= 0) {
        process->space = result.second;
        result = sys_thread_create(process->quota, process->space, priority);
    }
    if (result.value < 0) {
        process_destroy(process);
        return result.value;
    }
    process->thread = result.second;
    return 0;
}

/* New memory on the process's account at `address` there, holding `data` from `offset` on. */
static int64_t place(struct process *process, uint64_t address, uint64_t bytes, uint32_t flags,
                     const void *data, uint64_t offset, uint64_t data_bytes)
{
    struct region region;
    int64_t status = region_create_on(&region, bytes, process->quota);

    if (status < 0) {
        return status;
    }
    memcpy((uint8_t *)region.address + offset, data, data_bytes);
    region_unmap(&region);
    status = sys_map(process->space, region.memory, address | flags, bytes, 0).value;
    if (status >= 0) {
        status = sys_cap_move(region.memory, process->space).value;
    }
    if (status < 0) {
        sys_cap_delete(region.memory);
    }
    return status;
}

int64_t process_load(struct process *process, const struct elf_image *image)
{
    int64_t status = 0;

    for (uint32_t i = 0; i < image->count && status >= 0; i++) {
        const struct elf_segment *segment = &image->segments[i];
        status = place(process, segment->address, segment->bytes, segment->flags, segment->data,
                       segment->data_offset, segment->data_bytes);
    }
    process->entry = image->entry;
    return status;
}

static int64_t place_copy(struct process *process, const uint8_t *start, const uint8_t *end,
                          uint32_t flags)
{
    uint64_t used = (uint64_t)(end - start);

    return place(process, (uint64_t)start, PAGE_ROUND_UP(used), flags, start, 0, used);
}

int64_t process_load_twin(struct process *process, void (*function)(uint64_t), uint64_t argument)
{
    int64_t status = place_copy(process, __text_start, __rodata_start, MAP_READ | MAP_EXECUTE);

    if (status >= 0) {
        status = place_copy(process, __rodata_start, __data_start, MAP_READ);
    }
    if (status >= 0) {
        status = place_copy(process, __data_start, __end, MAP_READ | MAP_WRITE);
    }
    process->entry = (uint64_t)__text_start; /* .text.start comes first */
    process->page->function = function;
    process->page->argument = argument;
    string_copy(process->page->arguments, sizeof(process->page->arguments), own.arguments);
    if (status >= 0 && own.console != 0) {
        status = process_give(process, own.console, RIGHT_ALL, 0, &process->page->console);
    }
    return status;
}

int64_t process_give(struct process *process, cap_t cap, uint32_t rights, uint64_t badge,
                     cap_t *there)
{
    struct result result = sys_cap_copy(cap, rights, badge, process->space);

    *there = result.value < 0 ? 0 : result.second;
    return result.value;
}

int64_t process_share(struct process *process, const struct region *region, uint32_t flags)
{
    return sys_map(process->space, region->memory, (uint64_t)region->address | flags, region->bytes,
                   0)
        .value;
}

/* Its own capabilities, the start page and the stack. */
static int64_t finish(struct process *process)
{
    int64_t status = process_give(process, process->space, RIGHT_ALL, 0, &process->page->space);

    if (status >= 0) {
        status = process_give(process, process->thread, RIGHT_ALL, 0, &process->page->thread);
    }
    if (status >= 0) {
        status = process_give(process, process->quota, RIGHT_ALL, 0, &process->page->quota);
    }
    if (status >= 0) {
        status = place(process, START_PAGE, PAGE_BYTES, MAP_READ, process->page, 0,
                       sizeof(*process->page));
    }
    if (status >= 0) {
        status = place(process, BOOT_STACK_TOP - PROCESS_STACK_BYTES, PROCESS_STACK_BYTES,
                       MAP_READ | MAP_WRITE, NULL, 0, 0);
    }
    return status;
}

int64_t process_start(struct process *process)
{
    int64_t status = finish(process);

    if (status >= 0) {
        status =
            sys_thread_start(process->thread, process->entry, BOOT_STACK_TOP, START_PAGE).value;
    }
    return status;
}

void process_destroy(struct process *process)
{
    if (process->space != 0) {
        sys_space_end(process->space);
        sys_cap_delete(process->space);
    }
    if (process->thread != 0) {
        sys_cap_delete(process->thread);
    }
    if (process->quota != 0) {
        sys_cap_delete(process->quota);
    }
    process->space = process->thread = process->quota = 0;
}
