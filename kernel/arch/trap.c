/* SPDX-License-Identifier: MIT */
/* Where the entry assembly meets C: interrupts record, exceptions are sorted by core_state. */
#include "kernel/arch/cpu.h"
#include "kernel/arch/entry.h"
#include "kernel/arch/fixup.h"
#include "kernel/arch/fpu.h"
#include "kernel/arch/lapic.h"
#include "kernel/arch/mcheck.h"
#include "kernel/arch/paging.h"
#include "kernel/arch/vectors.h"
#include "kernel/debug/dump.h"
#include "kernel/debug/panic.h"
#include "kernel/debug/report.h"
#include "kernel/events.h"
#include "kernel/fault.h"
#include "kernel/obj/irq.h"
#include "kernel/uaccess.h"

extern const struct restart_window __windows_start[], __windows_end[];
extern const struct fixup __cap_fixups_start[], __fixups_start[], __fixups_end[];

void kintr_handler(struct core *core, unsigned inum, unsigned nested)
{
    core->irq_count++;
    core->irq_nested += nested;
    if (inum == VECTOR_SPURIOUS && !lapic_in_service(inum)) {
        return;
    }
    if (inum == VECTOR_TIMER) {
        core_set_pending(core, CORE_PENDING_TIMER);
    } else if (inum == VECTOR_RESCHEDULE) {
        core_set_pending(core, CORE_PENDING_MAIL);
    } else if (inum == VECTOR_SHOOTDOWN) {
        tlb_shootdown_event(core);
    } else {
        irq_record(core, inum);
    }
    lapic_eoi();
}

void kintr_user(struct core *core, unsigned inum)
{
    if (__builtin_expect(inum <= VECTOR_DEVICE_LAST, 1)) {
        core->irq_count++;
        irq_user(core, inum);
        return;
    }
    kintr_handler(core, inum, 0);
    if (ENTRY_IRQ_OPEN) {
        cpu_sti();
    }
}

/*
 * What was struck in an exit's window goes back to the window's beginning, which looks at the
 * pending byte again (N4). Its stack is empty by then, so RSP is known; the thread's registers are
 * still in the TCB, or have not been touched yet.
 */
static void restart_exit(struct core *core, struct frame *regs)
{
    for (const struct restart_window *w = __windows_start; w < __windows_end; w++) {
        if (regs->rip >= w->first && regs->rip <= w->last) {
            regs->rip = w->first;
            regs->rsp = (uint64_t)core + CORE_STACK_TOP(STACK_KERNEL) - 16;
            regs->rflags &= ~(uint64_t)RFLAGS_IF;
            return;
        }
    }
}

/* One instruction: NMIs are open where the one that struck user mode is counted. */
static void count(uint64_t *counter)
{
    __asm__ volatile("incq %0" : "+m"(*counter));
}

/* In NMI context or as an ordinary entry: one more NMI, with what its senders said (N7). */
static void nmi_record(struct core *core, const struct frame *regs, unsigned nest, unsigned state)
{
    uint32_t reasons = __atomic_exchange_n(&core->shared.nmi_reasons, 0, __ATOMIC_RELAXED);

    if (reasons & NMI_REASON_STOP) {
        panic_stop_here(core, regs, nest, state);
    }
    count(&core->nmi_count);
    if (reasons == 0) {
        count(&core->nmi_external);
        reasons = dump_begin(core);
    }
    if (reasons) {
        snapshot_take(core, regs, nest, state);
    }
    __asm__ volatile("orl %1, %0" : "+m"(core->nmi_pending_reasons) : "r"(reasons));
    core_set_pending(core, CORE_PENDING_NMI);
}

/*
 * A #DB in ring 0, which only somebody who debugs the kernel has asked for. An instruction breakpoint
 * comes before its instruction, and the CPU leaves it to the handler to get past it (Intel SDM vol.
 * 3, 17.3.1.1).
 */
static void debug_record(struct core *core, struct frame *regs, uint64_t dr7)
{
    uint64_t hit = read_dr6();

    for (unsigned n = 0; n < 4; n++) {
        if (hit >> n & 1 && (dr7 >> (16 + 4 * n) & 3) == 0) {
            regs->rflags |= RFLAGS_RF;
        }
    }
    write_dr6(0);
    core->breakpoints++;
}

void kist_kernel(struct core *core, struct frame *regs, unsigned vector, uint64_t dr7,
                 unsigned state)
{
    switch (vector) {
    case VECTOR_NMI:
        nmi_record(core, regs, core->nest - 1u, state);
        restart_exit(core, regs);
        break;
    case VECTOR_MC:
        mcheck_record(core, regs); /* mcheck_leave lets the next one in */
        restart_exit(core, regs);
        break;
    case VECTOR_DB:
        debug_record(core, regs, dr7);
        break;
    default:
        panic_double_fault(core, regs);
    }
}

void ktrap_user(struct core *core, unsigned trapno, uint32_t errcode, struct frame *regs,
                uint64_t cr2)
{
    struct thread *self = entry_current(core);

    switch (trapno) {
    case VECTOR_NMI:
        nmi_record(core, regs, 0, CORE_ST_USER);
        break;
    case VECTOR_MC:
        mcheck_record(core, regs);
        mcheck_open();
        break;
    case VECTOR_NM:
        if (!fpu_first_use(self)) {
            fault_user(core, self, trapno, errcode, 0);
        }
        break;
    case VECTOR_DB:
        write_dr6(0);
        fault_user(core, self, trapno, errcode, 0);
        break;
    default:
        fault_user(core, self, trapno, errcode, trapno == VECTOR_PF ? cr2 : 0);
    }
}

/* One of the instructions that may: it goes on elsewhere, with its stack and all registers. */
static bool fixed_up(struct frame *regs, const struct fixup *fixup, const struct fixup *end)
{
    for (; fixup < end; fixup++) {
        if (regs->rip == fixup->at) {
            regs->rip = fixup->to;
            return true;
        }
    }
    return false;
}

static bool words_fixed_up(struct frame *regs)
{
    return fixed_up(regs, __fixups_start, __fixups_end);
}

/* A table of capabilities ends where its window's memory does: a look-up has read where none is. */
static bool cap_fixed_up(struct frame *regs, unsigned trapno, uint32_t errcode, uint64_t cr2)
{
    return trapno == VECTOR_PF && errcode == 0 && cr2 >= CAP_WINDOW_BASE && cr2 < CAP_WINDOW_END &&
           fixed_up(regs, __cap_fixups_start, __fixups_start);
}

void ktrap_kernel(struct core *core, unsigned trapno, uint32_t errcode, struct frame *regs,
                  uint64_t cr2, unsigned state)
{
    if (cap_fixed_up(regs, trapno, errcode, cr2)) { /* first: IF is 0 until it is back */
        return;
    }
    switch (trapno) {
    case VECTOR_NMI: /* nmi=rsp0 */
        kist_kernel(core, regs, trapno, 0, state);
        return;
    case VECTOR_BP:
        core->breakpoints++;
        return;
    case VECTOR_GP: /* an address that is not canonical */
        if (state == CORE_ST_IPC && words_fixed_up(regs)) {
            return;
        }
        break;
    case VECTOR_PF:
        if (state == CORE_ST_IPC && cr2 < USER_END && words_fixed_up(regs)) {
            return;
        }
        /* The outermost level touched a user page: give up its stack (E6). */
        if (state == CORE_ST_PARMCHK && cr2 < USER_END && core->nest == 2 &&
            regs->rflags & RFLAGS_IF) {
            uaccess_fault(core, cr2, errcode);
        }
        break;
    default:
        break;
    }
    panic_trap(core, trapno, errcode, regs, cr2, state);
}
