/* SPDX-License-Identifier: MIT */
/* What the CPU remembers of page tables: the only file that acts on it. */
#include <stddef.h>

#include "kernel/arch/core.h"
#include "kernel/arch/cpu.h"
#include "kernel/arch/irq_flag.h"
#include "kernel/arch/lapic.h"
#include "kernel/arch/paging.h"
#include "kernel/arch/smp.h"
#include "kernel/arch/vectors.h"
#include "kernel/obj/space.h"

/* More pages than this are forgotten at once by loading CR3: others do it with IF=0. */
#define INVLPG_MAX 4

/* For a request's `pages`: not translations, but the whole page table is going. */
#define LEAVE_ROOT (~0ULL)

/* On this core. No space: kernel addresses, which all spaces have. */
static void forget(const struct space *space, uint64_t address, uint64_t pages)
{
    if (space && read_cr3() != space->cr3) {
        return; /* no PCID: loading CR3 forgot all of it */
    }
    if (pages == LEAVE_ROOT) {
        write_cr3(kernel_table.root);
    } else if (space && pages > INVLPG_MAX) {
        write_cr3(space->cr3);
    } else {
        for (uint64_t i = 0; i < pages; i++) {
            cpu_invlpg(address + i * PAGE_SIZE);
        }
    }
}

/*
 * No thread of the space lives here any more: this core gives up its table, if that is what idle still has
 * loaded, and is not asked again. One that is on its way here counts before it comes, and then sets the bit
 * behind this, on this core: so the bit cannot go while the table may be loaded.
 */
static void leave(struct core *core, struct space *space)
{
    if (!space || __atomic_load_n(&space->living[core->id], __ATOMIC_ACQUIRE)) {
        return;
    }
    forget(space, 0, LEAVE_ROOT);
    __atomic_fetch_and(&space->cores_loaded, ~(1ULL << core->id), __ATOMIC_ACQ_REL);
}

static void ask(const struct core *core, unsigned id)
{
    struct core *other = core_at(id);
    uint64_t flags;

    __atomic_fetch_or(&other->shared.shootdown_from, 1ULL << core->id, __ATOMIC_ACQ_REL);
    flags = irq_save();
    lapic_send((uint8_t)other->shared.lapic_id, VECTOR_SHOOTDOWN);
    irq_restore(flags);
}

/*
 * Have the cores in `others` do it too, and wait until they have. With IF=1: this core serves their
 * requests meanwhile, from its interrupt handler, which takes no lock (E6); so nobody waits in a ring.
 * A space's lock may be held: who waits for a lock has IF=1 too, and answers (lock_check.c).
 */
static void shoot(struct core *core, uint64_t others, struct space *space, uint64_t address,
                  uint64_t pages)
{
    core->shootdown.space = space;
    core->shootdown.address = address;
    core->shootdown.pages = pages;
    __atomic_store_n(&core->shootdown.waiting, others, __ATOMIC_RELEASE);
    while (others) {
        ask(core, (unsigned)__builtin_ctzll(others));
        others &= others - 1;
    }
    while (__atomic_load_n(&core->shootdown.waiting, __ATOMIC_ACQUIRE)) {
        __builtin_ia32_pause();
    }
}

/* One request, and an interrupt of its own for the next: so IF is 0 no longer with many cores (E5). */
void tlb_shootdown_event(struct core *core)
{
    uint64_t from = __atomic_load_n(&core->shared.shootdown_from, __ATOMIC_ACQUIRE);

    if (from == 0) {
        return;
    }
    struct core *other = core_at((unsigned)__builtin_ctzll(from));

    __atomic_fetch_and(&core->shared.shootdown_from, ~(from & -from), __ATOMIC_ACQ_REL);
    core->flush_count++;
    forget(other->shootdown.space, other->shootdown.address, other->shootdown.pages);
    leave(core, other->shootdown.space);
    __atomic_fetch_and(&other->shootdown.waiting, ~(1ULL << core->id), __ATOMIC_ACQ_REL);
    if (from & (from - 1)) {
        lapic_send((uint8_t)core->shared.lapic_id, VECTOR_SHOOTDOWN);
    }
}

void tlb_invalidate(struct space *space, uint64_t address, uint64_t pages)
{
    struct core *core = core_here();
    uint64_t others = smp_online() & ~(1ULL << core->id);

    if (space) {
        /*
         * The page table's new entries are to be seen before this look: who sets its bit behind the look, loads
         * the table behind that, by a locked instruction. Else the look may pass the stores (Intel SDM vol. 3, 8.2.3.4).
         */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        others &= __atomic_load_n(&space->cores_loaded, __ATOMIC_ACQUIRE);
    }
    forget(space, address, pages);
    if (others != 0) {
        shoot(core, others, space, address, pages);
    }
}

void page_root_leave(struct space *space)
{
    tlb_invalidate(space, 0, LEAVE_ROOT);
}
