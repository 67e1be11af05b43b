/* SPDX-License-Identifier: MIT */
/* Bringing a core up: its area, its descriptor tables and the registers that stay as they are. */
#include "kernel/arch/cpu.h"
#include "kernel/arch/entry.h"
#include "kernel/debug/trace.h"
#include "kernel/mm/init.h"
#include "kernel/sched.h"

struct core *core_create(unsigned id)
{
    struct core *core = core_at(id);

    if (!core_area_map(id)) {
        return NULL;
    }
    for (unsigned stack = 0; stack < CORE_STACKS; stack++) {
        *(struct core **)((uint64_t)core + CORE_STACK_TOP(stack) - 8) = core;
    }
    core->self = core;
    core->tss.rsp0 = (uint64_t)core + CORE_STACK_TOP(STACK_KERNEL) - 16;
    core->id = (uint16_t)id;
    core->nest = 1;
    core->state = CORE_ST_SYSCALL;
    core->dummy.core = core;
    core->dummy.state = THREAD_INACTIVE;
    for (unsigned i = 0; i < sizeof(core->dummy.canary) / sizeof(core->dummy.canary[0]); i++) {
        core->dummy.canary[i] = THREAD_CANARY;
    }
    core->timer_armed = ~0ULL;
    sched_init(core);
    trace_core_init(core);
    return core;
}

/* SYSCALL and SYSRET (Intel SDM vol. 3, 5.8.8): SYSRET takes CS = base + 16 and SS = base + 8. */
static void syscall_init(const struct core *core)
{
    uint64_t user_base = USER_CS32;

    _Static_assert(USER_DS == USER_CS32 + 8 && USER_CS == USER_CS32 + 16, "SYSRET's order");
    _Static_assert(KERNEL_DS == KERNEL_CS + 8, "SYSCALL's order");
    wrmsr(MSR_STAR, user_base << 48 | (uint64_t)KERNEL_CS << 32);
    wrmsr(MSR_LSTAR, (uint64_t)syscall_entry + core->id * SYSCALL_STUB_SIZE);
    wrmsr(MSR_SFMASK, RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_AC | RFLAGS_NT);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
}

/* All that E11 requires has been checked by the boot code; UMIP is taken where it is. */
static void control_init(void)
{
    uint32_t leaf7[4];
    uint64_t cr4 = read_cr4();

    cpu_cpuid(7, 0, leaf7);
    cr4 |= CR4_DE | CR4_PGE | CR4_MCE | CR4_FSGSBASE | CR4_SMEP | CR4_SMAP;
    if (leaf7[2] & CPUID7_ECX_UMIP) {
        cr4 |= CR4_UMIP;
    }
    write_cr0((read_cr0() | CR0_MP | CR0_NE | CR0_WP | CR0_TS) & ~(uint64_t)CR0_EM);
    write_cr4(cr4);
}

void core_init(struct core *core)
{
    entry_set_current(core, &core->dummy);
    control_init();
    segments_load(core);
    syscall_init(core);
    wrfsbase(0);
    wrgsbase(0);
    core->online = 1;
}
