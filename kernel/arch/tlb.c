/* SPDX-License-Identifier: MIT */
/* What the CPU remembers of page tables: the only file that acts on it. */
#include <stddef.h>

#include "kernel/arch/cpu.h"
#include "kernel/arch/paging.h"
#include "kernel/obj/space.h"

/* More pages than this are forgotten at once by loading CR3. */
#define INVLPG_MAX 32

void tlb_invalidate(const struct space *space, uint64_t address, uint64_t pages)
{
    uint64_t cr3 = read_cr3();

    if (space != NULL && space->cr3 != cr3) {
        return; /* no PCID: loading CR3 forgot all of it */
    }
    if (space != NULL && pages > INVLPG_MAX) {
        write_cr3(cr3);
        return;
    }
    for (uint64_t i = 0; i < pages; i++) {
        cpu_invlpg(address + i * PAGE_SIZE);
    }
}

void page_root_leave(uint64_t root)
{
    if (read_cr3() == root) {
        write_cr3(kernel_table.root);
    }
}
