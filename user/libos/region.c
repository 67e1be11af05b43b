/* SPDX-License-Identifier: MIT */
#include "kernel/abi/syscall.h"
#include "user/libos/memory.h"
#include "user/libos/start.h"
#include "user/libos/syscall.h"

#define REGIONS_START 0x0000100000000000UL

void *region_reserve(size_t bytes)
{
    static uint64_t next = REGIONS_START;
    uint64_t span = PAGE_ROUND_UP(bytes) + PAGE_BYTES;

    return (void *)(__atomic_fetch_add(&next, span, __ATOMIC_RELAXED) + PAGE_BYTES);
}

int64_t region_map(struct region *region, cap_t memory, size_t bytes, uint32_t flags)
{
    region->memory = memory;
    region->bytes = PAGE_ROUND_UP(bytes);
    region->address = region_reserve(bytes);
    return sys_map(own.space, memory, (uint64_t)region->address | flags, region->bytes, 0).value;
}

int64_t region_create_on(struct region *region, size_t bytes, cap_t quota)
{
    struct result memory = sys_memory_create(quota, PAGE_ROUND_UP(bytes), 0);

    if (memory.value < 0) {
        return memory.value;
    }
    int64_t status = region_map(region, memory.second, bytes, MAP_READ | MAP_WRITE);
    if (status < 0) {
        sys_cap_delete(memory.second);
    }
    return status;
}

int64_t region_create(struct region *region, size_t bytes)
{
    return region_create_on(region, bytes, own.quota);
}

void region_unmap(struct region *region)
{
    sys_unmap(own.space, (uint64_t)region->address, region->bytes);
}

void region_release(struct region *region)
{
    region_unmap(region);
    sys_cap_delete(region->memory);
    *region = (struct region){0};
}
