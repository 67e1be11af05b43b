/* SPDX-License-Identifier: MIT */
/*
 * Making another process: an account, an address space, memory with the program in it, a stack, a
 * start page, one thread. What it is made of ends with it: the capabilities of its memory are moved
 * into its own table.
 */
#ifndef ONESTACK_LIBOS_PROCESS_H
#define ONESTACK_LIBOS_PROCESS_H

#include "user/libos/elf.h"
#include "user/libos/memory.h"
#include "user/libos/start.h"

#define PROCESS_STACK_BYTES 65536UL

struct process {
    cap_t quota, space, thread; /* the maker's */
    uint64_t entry;
    struct start_page *page; /* the maker's; what it says when process_start comes is copied */
};

/* An empty space and a thread in it; priority | ceiling << 8. All return 0 or an error. */
int64_t process_create(struct process *process, struct start_page *page, uint64_t quota_bytes,
                       uint64_t priority);
/* Lay a program into it. */
int64_t process_load(struct process *process, const struct elf_image *image);
/*
 * Lay this very program into it, its data as they are now; it will run function(argument) and has
 * our console session and name.
 */
int64_t process_load_twin(struct process *process, void (*function)(uint64_t), uint64_t argument);
/* Put a copy of a capability into its table; *there gets the handle. badge 0 = the same. */
int64_t process_give(struct process *process, cap_t cap, uint32_t rights, uint64_t badge,
                     cap_t *there);
/* Map a region of ours at the same address there. */
int64_t process_share(struct process *process, const struct region *region, uint32_t flags);
int64_t process_start(struct process *process);
/* End it, whatever it is doing, and drop what we have of it. */
void process_destroy(struct process *process);

#endif
