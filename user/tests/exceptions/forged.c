/* SPDX-License-Identifier: MIT */
#include "user/tests/exceptions/forged.h"

#include <stddef.h>

#include "user/libos/print.h"
#include "user/libos/probe.h"
#include "user/libos/signal.h"

#define FLAG_INTERRUPT 0x200UL
#define FLAG_IOPL      0x3000UL
#define FLAG_RESUME    0x10000UL
#define FLAG_VIRTUAL   0x1a0000UL /* VM, VIF, VIP */
/* What user mode cannot set by itself. */
#define FLAGS_PRIVILEGED (FLAG_IOPL | FLAG_RESUME | FLAG_VIRTUAL)

struct forgery {
    const char *name;
    void (*change)(struct thread_registers *registers);
};

static uint8_t handler_stack[8192] __attribute__((aligned(16)));
static const struct forgery *current;
static unsigned refused; /* handler_return came back with an error, or the thread faulted again */
static unsigned deliveries;

static void all_flags(struct thread_registers *registers)
{
    registers->rflags |= FLAGS_PRIVILEGED;
}

static void no_interrupts(struct thread_registers *registers)
{
    registers->rflags = 0;
}

static void kernel_rip(struct thread_registers *registers)
{
    registers->rip = 0xffffffff81000000UL;
}

static void far_rip(struct thread_registers *registers)
{
    registers->rip = 0x0000800000000000UL;
}

static void last_rip(struct thread_registers *registers)
{
    registers->rip = 0x00007fffffffffffUL;
}

static void kernel_fs(struct thread_registers *registers)
{
    registers->fs_base = 0xffffffff81000000UL;
}

static void far_fs(struct thread_registers *registers)
{
    registers->fs_base = 0x0000800000000000UL;
}

static void far_gs(struct thread_registers *registers)
{
    registers->gs_base = 0x1234800000000000UL;
}

/* The least number: what the kernel has as a sign that a call blocks. */
static void least_rax(struct thread_registers *registers)
{
    registers->rax = 1UL << 63;
}

/* First delivery: the ud2; forge. Second: the forged return itself faulted, which is as good as an error. */
static void handler(struct fault_info *fault)
{
    struct thread_registers forged = fault->registers;

    if (deliveries++ == 0) {
        forged.rip = (uint64_t)probe_after;
        current->change(&forged);
        refused = sys_handler_return((uint64_t)&forged).value < 0;
    } else {
        refused = 1;
    }
    fault->registers.rip = (uint64_t)probe_after;
    fault->registers.rflags = 0x202;
}

static unsigned forbidden_flags(uint64_t flags)
{
    return (flags & FLAGS_PRIVILEGED) != 0 || !(flags & FLAG_INTERRUPT);
}

unsigned forged_returns(unsigned *tried)
{
    static const struct {
        struct forgery forgery;
        unsigned must_be_refused;
    } list[] = {
        {{"all flags", all_flags}, 0},           {{"no interrupts", no_interrupts}, 0},
        {{"rip in the kernel", kernel_rip}, 1},  {{"rip beyond user space", far_rip}, 1},
        {{"rip in the last page", last_rip}, 1}, {{"fs base in the kernel", kernel_fs}, 0},
        {{"fs base non-canonical", far_fs}, 1},  {{"gs base non-canonical", far_gs}, 1},
        {{"the least rax", least_rax}, 0},
    };
    unsigned wrong = 0;

    signal_set(handler, handler_stack + sizeof(handler_stack));
    for (size_t i = 0; i < sizeof(list) / sizeof(*list); i++, ++*tried) {
        current = &list[i].forgery;
        deliveries = refused = 0;
        probe_fill(i);
        probe_run(probe_ud2);
        if (forbidden_flags(probe.out.rflags) || refused < list[i].must_be_refused) {
            printf("exceptions: returned with %s: rflags 0x%lx, refused %u\n", current->name,
                   probe.out.rflags, refused);
            wrong++;
        }
    }
    signal_clear();
    return wrong;
}
