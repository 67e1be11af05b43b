/* SPDX-License-Identifier: MIT */
#include "kernel/obj/mapping.h"

#include "kernel/mm/init.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/quota.h"
#include "kernel/syscall.h"

static struct mapping *of_node(struct tree_node *node)
{
    return (struct mapping *)node; /* its first member */
}

static uint64_t mapping_end(const struct mapping *mapping)
{
    return mapping->node.key + mapping->bytes;
}

bool user_range(uint64_t address, uint64_t bytes)
{
    return ((address | bytes) & (PAGE_SIZE - 1)) == 0 && bytes != 0 && address >= USER_BASE &&
           address < USER_END && bytes <= USER_END - address;
}

bool map_flags_valid(uint64_t flags)
{
    return (flags & MAP_READ) && (flags & (MAP_WRITE | MAP_EXECUTE)) != (MAP_WRITE | MAP_EXECUTE);
}

struct mapping *mapping_from(const struct space *space, uint64_t address)
{
    struct tree_node *node = tree_floor(&space->mappings, address);

    if (node == NULL) { /* all are above: the smallest key */
        node = space->mappings.root;
        while (node != NULL && node->child[0] != NULL) {
            node = node->child[0];
        }
    } else if (mapping_end(of_node(node)) <= address) {
        node = tree_next(node);
    }
    return node == NULL ? NULL : of_node(node);
}

uint64_t mapping_rights(const struct mapping *mapping)
{
    return PTE_PRESENT | PTE_USER | (mapping->flags & MAP_WRITE ? PTE_WRITE : 0) |
           (mapping->flags & MAP_EXECUTE ? 0 : PTE_NX) |
           (mapping->flags & MAP_UNCACHED ? PTE_UNCACHED : 0) |
           (mapping->memory->kind == MEMORY_DEVICE ? PTE_DEVICE : 0);
}

/* --- the list of a capability; the memory object's lock is held --- */

static void cap_list_push(struct mapping **head, struct mapping *mapping)
{
    mapping->cap_next = *head;
    mapping->cap_link = head;
    if (*head != NULL) {
        (*head)->cap_link = &mapping->cap_next;
    }
    *head = mapping;
}

static void cap_list_remove(struct mapping *mapping)
{
    *mapping->cap_link = mapping->cap_next;
    if (mapping->cap_next != NULL) {
        mapping->cap_next->cap_link = mapping->cap_link;
    }
}

/* --- the list of a memory object, likewise --- */

static void memory_list_insert(struct mapping **link, struct mapping *mapping)
{
    mapping->memory_next = *link;
    mapping->memory_link = link;
    if (*link != NULL) {
        (*link)->memory_link = &mapping->memory_next;
    }
    *link = mapping;
}

static void memory_list_remove(struct mapping *mapping)
{
    struct memory *memory = mapping->memory;

    *mapping->memory_link = mapping->memory_next;
    if (mapping->memory_next != NULL) {
        mapping->memory_next->memory_link = mapping->memory_link;
    }
    if (memory->walking && memory->cursor == mapping) {
        memory->cursor = mapping->memory_next;
    }
}

void memory_cap_moved(struct cap *to, struct cap *from)
{
    to->mappings = from->mappings;
    from->mappings = NULL;
    if (to->mappings != NULL) {
        to->mappings->cap_link = &to->mappings;
    }
}

/* --- add --- */

static uint8_t rights_of(const struct cap *cap)
{
    return (cap->rights & RIGHT_MEMORY_READ ? MAP_READ : 0) |
           (cap->rights & RIGHT_MEMORY_WRITE ? MAP_WRITE : 0) |
           (cap->rights & RIGHT_MEMORY_EXECUTE ? MAP_EXECUTE : 0);
}

/* Whether what is asked for is the capability's to give; on success *first is its start. */
static int64_t check_request(const struct cap *cap, const struct map_request *request,
                             uint64_t *first)
{
    const struct memory *memory = (const struct memory *)cap->object;
    uint64_t bytes;

    if (request->flags & MAP_RIGHTS & ~rights_of(cap)) {
        return cap_refusal(cap);
    }
    memory_cap_range(cap, first, &bytes);
    if (request->offset % PAGE_SIZE != 0 || request->offset > bytes ||
        request->bytes > bytes - request->offset) {
        return E_INVAL;
    }
    if (memory->kind == MEMORY_ANONYMOUS && memory->filled < memory->bytes) {
        return E_BUSY;
    }
    if (memory->kind == MEMORY_DEVICE &&
        !device_memory_allowed(memory->base + *first + request->offset, request->bytes)) {
        return E_INVAL;
    }
    return E_OK;
}

/* Under the space's lock. */
static int64_t enter(struct space *space, struct cap *cap, cap_t handle, struct mapping *mapping)
{
    const struct mapping *next = mapping_from(space, mapping->node.key);
    struct memory *memory = mapping->memory;

    if (next != NULL && next->node.key < mapping_end(mapping)) {
        return E_OVERLAP;
    }
    lock_acquire(&memory->object.lock);
    bool there = cap->handle == handle && cap->rights != 0 && !memory->object.dying;

    if (there) {
        cap_list_push(&cap->mappings, mapping);
        memory_list_insert(&memory->mappings, mapping);
    }
    lock_release(&memory->object.lock);
    if (!there) {
        return E_BADCAP; /* taken away meanwhile */
    }
    tree_insert(&space->mappings, &mapping->node);
    return E_OK;
}

/* Likewise, and the space is not dying: one that is may have no account any more. */
static int64_t make(struct space *space, struct cap *cap, const struct map_request *request,
                    uint64_t first)
{
    struct mapping *mapping = kmem_alloc(space->account, sizeof(*mapping));

    if (mapping == NULL) {
        return E_NOMEM;
    }
    mapping->node.key = request->address;
    mapping->bytes = request->bytes;
    mapping->offset = first + request->offset;
    mapping->memory = (struct memory *)cap->object;
    mapping->space = space;
    mapping->flags = request->flags;
    mapping->allowed = rights_of(cap);
    mapping->maker = request->maker;
    int64_t error = enter(space, cap, request->handle, mapping);

    if (error) {
        kmem_free(space->account, mapping, sizeof(*mapping));
    }
    return error;
}

int64_t mapping_add(struct space *space, struct cap *cap, const struct map_request *request)
{
    uint64_t first;
    int64_t error = check_request(cap, request, &first);

    if (error) {
        return error;
    }
    lock_acquire(&space->object.lock);
    error = space->object.dying ? E_DEAD : make(space, cap, request, first);
    lock_release(&space->object.lock);
    return error;
}

/* Entries of one table, from the pages of a run. */
static void fill_entries(uint64_t *entry, const struct memory_run *run, uint64_t pages,
                         uint64_t rights)
{
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t page = run->entries ? run->entries[i] & PTE_ADDRESS : run->page + i * PAGE_SIZE;

        page_write(entry + i, page | rights);
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

bool mapping_fill_some(struct mapping *mapping, uint64_t *address)
{
    struct page_table table = space_table(mapping->space);
    uint64_t rights = mapping_rights(mapping);
    uint64_t at = *address;
    uint64_t left = mapping_end(mapping) - at;
    unsigned found;

    if (mapping->memory->kind == MEMORY_PAGED) {
        *address += left; /* what is there comes at the first touch */
        return true;
    }
    struct memory_run run = memory_run(mapping->memory, mapping->offset + at - mapping->node.key);

    page_find(&table, at, &found);
    /* Unless somebody has touched one of its small pages already: then there is a table. */
    bool large = run.large && mapping->flags & MAP_LARGE && at % LARGE_PAGE_SIZE == 0 &&
                 left >= LARGE_PAGE_SIZE && found > 1;

    /*
     * Of missing tables the uppermost is made, if that is not the last: to clear one takes as long as
     * a step may (MAPPING_STEP), so each is a step.
     */
    if (found > (large ? 3 : 2)) {
        return page_reach(&table, at, found - 1, NULL) != NULL;
    }
    if (large) {
        *address += LARGE_PAGE_SIZE;
        return page_set(&table, at, 2, run.page | rights | PTE_LARGE);
    }
    uint64_t *entry = page_reach(&table, at, 1, NULL);
    uint64_t to_boundary = (LARGE_PAGE_SIZE - at % LARGE_PAGE_SIZE) / PAGE_SIZE;
    uint64_t pages = least(least(run.pages, to_boundary), least(left / PAGE_SIZE, MAPPING_STEP));

    if (entry != NULL) {
        fill_entries(entry, &run, pages, rights);
        *address += pages * PAGE_SIZE;
    }
    return entry != NULL;
}

/* --- take away --- */

/* Its first `bytes` are not mapped any more; with the last it goes. */
static void shorten(struct mapping *mapping, uint64_t bytes)
{
    struct space *space = mapping->space;
    struct lock *lock = &mapping->memory->object.lock;
    bool last = bytes == mapping->bytes;

    lock_acquire(lock);
    mapping->bytes -= bytes;
    mapping->offset += bytes;
    mapping->node.key += bytes;
    if (last) {
        cap_list_remove(mapping);
        memory_list_remove(mapping);
    }
    lock_release(lock);
    if (last) {
        tree_remove(&space->mappings, &mapping->node);
        kmem_free(space->account, mapping, sizeof(*mapping));
    }
}

/* Clear some entries from `start` on, what the CPU knows of them, and tables without any. */
static uint64_t clear_some(struct space *space, uint64_t start, uint64_t end, unsigned budget)
{
    struct page_table table = space_table(space);
    uint64_t frames[TABLE_LEVELS - 1];
    uint64_t reached = page_clear_some(&table, start, end, budget);
    unsigned count = page_detach(&table, start, frames);

    tlb_invalidate(space, start, (reached - start) / PAGE_SIZE);
    while (count > 0) {
        frame_free(space->account, frames[--count], 0);
    }
    return reached;
}

void mapping_forget(struct mapping *mapping, uint64_t offset)
{
    struct page_table table = space_table(mapping->space);
    uint64_t address = mapping->node.key + (offset - mapping->offset);
    unsigned level;

    if (*page_find(&table, address, &level) != 0) {
        clear_some(mapping->space, address, address + PAGE_SIZE, 1);
    }
}

void mapping_cut_some(struct mapping *mapping, uint64_t end)
{
    uint64_t start = mapping->node.key;

    end = end < mapping_end(mapping) ? end : mapping_end(mapping);
    shorten(mapping, clear_some(mapping->space, start, end, MAPPING_STEP) - start);
}

/* The capability's first mapping if it is the space's, whose lock keeps it there. */
static struct mapping *first_in(struct cap *cap, const struct space *space)
{
    lock_acquire(&cap->object->lock);
    struct mapping *mapping = cap->mappings;

    if (mapping != NULL && mapping->space != space) {
        mapping = NULL;
    }
    lock_release(&cap->object->lock);
    return mapping;
}

bool memory_cap_gone(struct core *core, struct cap *cap)
{
    struct memory *memory = (struct memory *)cap->object;

    for (;;) {
        lock_acquire(&memory->object.lock);
        struct space *space = cap->mappings ? cap->mappings->space : NULL;

        if (space != NULL) {
            object_ref(&space->object); /* its mapping keeps it alive only so long */
        }
        lock_release(&memory->object.lock);
        if (space == NULL) {
            return true;
        }
        lock_acquire(&space->object.lock);
        struct mapping *mapping = first_in(cap, space);

        if (mapping != NULL) {
            mapping_cut_some(mapping, USER_END);
        }
        lock_release(&space->object.lock);
        object_unref(&space->object);
        if (preemption_wanted(core)) {
            return false;
        }
    }
}

/* --- split --- */

static struct mapping *crossing(const struct space *space, uint64_t address)
{
    struct mapping *mapping = mapping_from(space, address);

    return mapping != NULL && mapping->node.key < address ? mapping : NULL;
}

static uint64_t *large_crossing(const struct page_table *table, uint64_t address)
{
    unsigned level;
    uint64_t *entry = page_find(table, address, &level);

    return level > 1 && *entry != 0 && address % LARGE_PAGE_SIZE != 0 ? entry : NULL;
}

/* `upper`, fresh memory, becomes the part from `address` on. */
static void split_mapping(struct mapping *mapping, struct mapping *upper, uint64_t address)
{
    uint64_t lower_bytes = address - mapping->node.key;

    *upper = *mapping;
    upper->node.key = address;
    upper->bytes -= lower_bytes;
    upper->offset += lower_bytes;
    lock_acquire(&mapping->memory->object.lock);
    mapping->bytes = lower_bytes;
    cap_list_push(&mapping->cap_next, upper);
    memory_list_insert(&mapping->memory_next, upper); /* a walk that is to see the one sees both */
    lock_release(&mapping->memory->object.lock);
    tree_insert(&mapping->space->mappings, &upper->node);
}

/* All that is needed is taken first, so that nothing is half done when there is not enough. */
struct spares {
    struct quota *account; /* the space's, held by a reference; NULL: nothing is needed */
    unsigned mappings, tables;
    struct mapping *mapping[2];
    uint64_t table[2];
};

static void spares_give(struct spares *spares)
{
    if (spares->account == NULL) {
        return;
    }
    while (spares->mappings > 0) {
        kmem_free(spares->account, spares->mapping[--spares->mappings], sizeof(struct mapping));
    }
    while (spares->tables > 0) {
        frame_free(spares->account, spares->table[--spares->tables], 0);
    }
    object_unref(&spares->account->object);
}

/* For both addresses. Only where a mapping is crossed can a large page be, and while there is one the account is. */
static bool spares_take(struct space *space, uint64_t from, uint64_t to, struct spares *spares)
{
    struct page_table table = space_table(space);
    const uint64_t *low = large_crossing(&table, from), *high = large_crossing(&table, to);
    unsigned mappings = (crossing(space, from) != NULL) + (crossing(space, to) != NULL);
    unsigned tables = (low != NULL) + (high != NULL && high != low);

    if (mappings > 0) {
        spares->account = space->account;
        object_ref(&spares->account->object);
    }
    while (spares->mappings < mappings) {
        struct mapping *mapping = kmem_alloc(spares->account, sizeof(*mapping));

        if (mapping == NULL) {
            return false;
        }
        spares->mapping[spares->mappings++] = mapping;
    }
    while (spares->tables < tables) {
        uint64_t frame = frame_alloc_dirty(spares->account, 0);

        if (frame == 0) {
            return false;
        }
        spares->table[spares->tables++] = frame;
    }
    return true;
}

/* A hold of the lock for each, for a large page takes long. What crosses since the spares were counted stays. */
static void split_at(struct space *space, uint64_t address, struct spares *spares)
{
    struct page_table table = space_table(space);

    lock_acquire(&space->object.lock);
    struct mapping *mapping = crossing(space, address);
    uint64_t *entry = large_crossing(&table, address);

    if (mapping != NULL && spares->mappings > 0 && (entry == NULL || spares->tables > 0)) {
        if (entry != NULL) {
            page_split(entry, spares->table[--spares->tables]);
            tlb_invalidate(space, address & ~(uint64_t)(LARGE_PAGE_SIZE - 1), 1);
        }
        split_mapping(mapping, spares->mapping[--spares->mappings], address);
    }
    lock_release(&space->object.lock);
}

bool mapping_split(struct space *space, uint64_t from, uint64_t to)
{
    struct spares spares = {0};

    lock_acquire(&space->object.lock);
    bool enough = spares_take(space, from, to, &spares);

    lock_release(&space->object.lock);
    if (enough && spares.mappings > 0) {
        split_at(space, from, &spares);
        split_at(space, to, &spares);
    }
    spares_give(&spares);
    return enough;
}
