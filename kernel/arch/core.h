/* SPDX-License-Identifier: MIT */
/*
 * One logical CPU. Each has one struct core at the start of its own area (layout.h), which also
 * holds its stacks; nothing in it is written by another core except where a field says so.
 */
#ifndef ONESTACK_ARCH_CORE_H
#define ONESTACK_ARCH_CORE_H

#include "kernel/arch/layout.h"
#include "kernel/arch/segments.h"
#include "kernel/arch/state.h"
#include "kernel/lib/cache_line.h"
#include "kernel/obj/thread.h"

#define PRIORITY_COUNT 256
#define CORE_WORDS     15

struct run_queue {
    struct thread *head, *tail;
};

/* Deadlines of this core's threads (timer.c). */
#define WHEEL_LEVELS 7
#define WHEEL_SLOTS  64
struct timer_wheel {
    uint64_t tick; /* all before it have fired */
    uint64_t occupied[WHEEL_LEVELS];
    struct thread *slots[WHEEL_LEVELS][WHEEL_SLOTS];
    struct thread *due; /* of the slot whose tick has come, those that have not had their turn */
};

/* Debug builds: the locks that a core holds, in the order of taking, and the longest hold of each rank. */
#define LOCKS_MOST 4
struct lock_record {
    struct {
        const struct lock *lock;
        uint64_t since; /* TSC */
        uint64_t from;  /* the code that took it */
    } held[LOCKS_MOST];
    uint64_t count;
    uint64_t taken; /* how many there ever were */
    struct {
        uint64_t ticks;    /* of the TSC; 0: none was ever held */
        uint64_t from, to; /* the code that took it, and that gave it up */
    } longest[RANK_COUNT];
};

/*
 * Where a core was when an NMI asked it. Written by its handler, printed by another core. The calls are
 * return addresses on its kernel stack, the newest first.
 */
#define SNAPSHOT_CALLS 16
struct snapshot {
    uint32_t number; /* of the request that it answers, written last; 0: none yet */
    uint8_t nest, state, pending, call_count;
    struct thread *thread; /* current, or the core's dummy */
    uint64_t cr3;
    struct frame registers;
    uint64_t calls[SNAPSHOT_CALLS];
};

struct garbage {
    struct object *objects; /* linked through object.caps: they have none any more */
    struct cap *slots;      /* linked through cap.next: in no tree any more */
};

struct core {
    struct core *self; /* so that a stray pointer is recognised in a dump */
    uint8_t spare;
    uint8_t nest; /* core_nest: kernel entries that are open; 0 in user mode */
    union {
        struct {
            uint8_t state; /* byte stores only */
            uint8_t pending;
        };
        uint16_t core_state;
    };
    uint16_t id;
    uint16_t online;
    struct frame
        *current_end; /* kept by entry models whose RSP0 is not the current save area's end */
    struct frame *entry_frame; /* of those, by one that leaves a frame where it came in; or NULL */

    /* events that were recorded and not yet worked on (E6) */
    uint64_t irq_pending[4];      /* one bit a vector */
    uint32_t nmi_pending_reasons; /* moved out of nmi_reasons by the handler; see trap.c */
    uint64_t irq_count;           /* interrupts recorded, */
    uint64_t irq_nested;          /* and those among them that struck the kernel */
    uint64_t breakpoints;         /* int3 in ring 0: the harness plants them */
    uint64_t nmi_count;           /* taken by the handler */
    uint64_t nmi_worked;          /* worked on at the outermost level */
    uint64_t nmi_external;        /* of those taken, without a reason */
    uint64_t nmi_external_worked;
    uint64_t mail_count;       /* messages read (mail.c) */
    uint64_t flush_count;      /* shootdowns done for other cores (arch/tlb.c) */
    uint64_t rounds;           /* of work on what was pending, at the outermost level's end */
    struct mcheck_log *mcheck; /* banks as they were (mcheck.c) */

    /* what waits until no core can be looking at it any more (grace.c) */
    struct garbage garbage; /* since the last batch */
    struct garbage batch;
    uint64_t grace_held;  /* how many have ever waited, */
    uint64_t grace_freed; /* and how many of them do no more; others read both */

    /* the watchdog, of a neighbour (debug/watchdog.c) */
    uint64_t watch_due;    /* TSC of the next look */
    uint64_t watch_rounds; /* what its `rounds` were when it was asked to do one */
    bool watch_asked, watch_told;
    bool reports; /* it writes what cores have been doing: that takes long, and is progress */

    struct snapshot snapshot; /* where an NMI with a reason found this core (debug/report.c) */

#if CONFIG_DEBUG
    struct lock_record locks; /* debug/lock_check.c */
#endif

    /* scheduler (sched.c) */
    struct thread *top; /* above all that stand in queues, and in none itself; or NULL */
    uint64_t ready[PRIORITY_COUNT / 64]; /* bit p: queue p is not empty */
    int32_t ready_top;    /* the highest priority that is ready, `top` included; -1 = none */
    int32_t queue_top;    /* the highest in the queues */
    uint64_t switched_in; /* TSC when the current thread was switched in */
    uint64_t slice_end;   /* TSC when the current thread's slice is over */
    uint64_t timer_armed; /* TSC that the one-shot timer is set to, ~0 = off */
    uint64_t arrived;     /* threads that have come from other cores */

    uint64_t words[CORE_WORDS]; /* of a message on its way (arch/user_words.h) */

    /* What other cores write: on lines of its own, so that they do not take away those above. */
    struct {
        struct thread *mail;  /* lock-free stack of threads with a message; others push (mail.c) */
        uint32_t nmi_reasons; /* set by the sender, before it sends (N7) */
        uint32_t lapic_id;    /* others read it to send */
        uint64_t shootdown_from; /* bit n: core n asks (arch/tlb.c) */
        uint64_t grace_round;    /* bit n: core n's batch is here (grace.c) */
    } shared CACHE_ALIGNED;
    struct {
        struct space *space; /* this core's request; NULL: of kernel addresses */
        uint64_t address, pages;
        uint64_t waiting; /* bit n: core n has not done it yet; each clears its own */
    } shootdown CACHE_ALIGNED;

    struct tss tss CACHE_ALIGNED;
    uint64_t gdt[GDT_ENTRIES] __attribute__((aligned(16)));

    /* RSP0 points at its save area in idle and after the running thread has ended (E2). */
    struct thread dummy CACHE_ALIGNED;
    struct run_queue queues[PRIORITY_COUNT];
    struct timer_wheel wheel;
} CACHE_ALIGNED;

_Static_assert(sizeof(((struct core *)0)->shared) <= CACHE_LINE, "one line goes to who sends");
_Static_assert(offsetof(struct core, shared) % CACHE_LINE == 0 &&
                   offsetof(struct core, shootdown) % CACHE_LINE == 0 &&
                   offsetof(struct core, tss) % CACHE_LINE == 0,
               "nothing of this core's own lies on a line that others write");
_Static_assert(sizeof(struct core) <= CORE_STRUCT_SIZE, "layout.h reserves this much");
_Static_assert((offsetof(struct core, tss) + offsetof(struct tss, rsp0)) % 8 == 0,
               "RSP0 is stored by one instruction while an NMI may read it");
_Static_assert(offsetof(struct core, core_state) % 2 == 0, "exit tests the word once");
_Static_assert(offsetof(struct core, nest) + 1 == offsetof(struct core, state),
               "the outermost entry and the exit write both by one store");

static inline struct core *core_at(unsigned id)
{
    return (struct core *)(CORE_AREA_BASE + (uint64_t)id * CORE_AREA_SIZE);
}

/* From the stack pointer alone (E4): every stack has the core in its top word. */
static inline struct core *core_here(void)
{
    uint64_t top;

    __asm__("mov %%rsp, %0" : "=r"(top));
    return *(struct core **)((top | (STACK_SIZE - 1)) - 7);
}

static inline void core_set_state(struct core *core, uint8_t state)
{
    __atomic_store_n(&core->state, state, __ATOMIC_RELAXED);
}

/* One `or` on memory: an NMI between its halves cannot be lost. Other cores never write it. */
static inline void core_set_pending(struct core *core, uint8_t bits)
{
    __asm__ volatile("orb %1, %0" : "+m"(core->pending) : "qi"(bits));
}

static inline void core_clear_pending(struct core *core, uint8_t bits)
{
    __asm__ volatile("andb %1, %0" : "+m"(core->pending) : "qi"((uint8_t)~bits));
}

/* Map and fill core `id`'s area; NULL if there is no memory for it (mm). */
struct core *core_create(unsigned id);
/*
 * On the core itself, once, before interrupts: current thread = the dummy, descriptor tables, MSRs,
 * control registers. LINT1 stays masked until after this (N8); the LAPIC is the caller's next step.
 */
void core_init(struct core *core);

#endif
