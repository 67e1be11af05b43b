/* SPDX-License-Identifier: MIT */
/*
 * The TCB. RSP0 of the running thread's core points at the end of `frame` (E2), so the CPU and
 * the stubs save the user's registers right here. It never holds a stack.
 */
#ifndef ONESTACK_OBJ_THREAD_H
#define ONESTACK_OBJ_THREAD_H

#include "kernel/arch/frame.h"
#include "kernel/obj/object.h"

struct core;
struct fpu_state;
struct memory;
struct notification;
struct space;
struct thread;

enum thread_state {
    THREAD_INACTIVE,  /* created, not started; or stopped for good until resumed */
    THREAD_READY,     /* runs, or stands in its core's run queue */
    THREAD_SENDING,   /* in an endpoint's queue of senders (send or call) */
    THREAD_RECEIVING, /* in an endpoint's queue of receivers */
    THREAD_REPLY,     /* called; waits for the reply */
    THREAD_WAITING,   /* in a notification's queue */
    THREAD_SLEEPING,
    THREAD_COPYING,  /* in a long copy that another thread, `server`, drives */
    THREAD_FAULTED,  /* its fault message is out; waits for the handler's verdict */
    THREAD_FAULTING, /* with its fault message in an endpoint's queue of senders */
    /* From here on: no core may run it again, and the one that did has something to do (sched.c). */
    THREAD_MOVING, /* on its way to another core (mail.c) */
    THREAD_DEAD
};

/* thread.flags */
#define THREAD_FLAG_ENDING     0x01  /* shall end at its next clean point */
#define THREAD_FLAG_SUSPENDED  0x02  /* does not run whatever its state */
#define THREAD_FLAG_QUEUED     0x04  /* stands in its core's run queue */
#define THREAD_FLAG_TIMER      0x08  /* stands in its core's timer queue */
#define THREAD_FLAG_IN_HANDLER 0x10  /* its signal handler runs: a second fault goes further up */
#define THREAD_FLAG_CALL       0x20  /* sends as a call: it wants a reply */
#define THREAD_FLAG_DRIVES     0x40  /* drives a long copy; words[0] is the other thread */
#define THREAD_FLAG_REPLIES    0x80  /* replies, and after that receives from the endpoint ARG0 */
#define THREAD_FLAG_AWAY       0x100 /* goes to its own core before it next leaves to user mode */
#define THREAD_FLAG_URGENT     0x200 /* came for an operation on this core, at the highest priority */
/* What a thread that receives has to look at first. The fact may have gone meanwhile (endpoint.c). */
#define THREAD_FLAG_BOUND 0x400  /* a notification is bound to it */
#define THREAD_FLAG_SAVES 0x800  /* has saved callers */
#define THREAD_FLAG_TELLS 0x1000 /* of a machine check, before it leaves to user mode (broken.c) */
#define THREAD_FLAG_FPU   0x2000 /* has FPU state, which is loaded when it is current */
/* None of these keeps one that waits from going on. */
#define THREAD_FLAGS_WAITS (THREAD_FLAG_BOUND | THREAD_FLAG_SAVES | THREAD_FLAG_FPU)

/* Threads that wait for something; wait_queue.h has the rules. */
struct wait_queue {
    struct thread *head;
};

/*
 * What a blocked thread goes on with, on an empty stack with IF=1 and CORE_ST_CONTIN. It either
 * returns (the thread then leaves to user mode with what its frame says) or blocks again.
 */
typedef void continuation_fn(struct core *core, struct thread *self);

struct thread {
    struct object object;

    /* read and written by every IPC */
    uint8_t state;    /* enum thread_state; but for a claimed one, changed on its own core only */
    uint8_t priority; /* effective: base or inherited; 255 is highest */
    uint16_t flags;   /* changed on its own core only */
    uint8_t base_priority;
    uint8_t ceiling;   /* the highest base priority that it may give to anyone */
    uint8_t core_wish; /* affinity: a core, or CORE_ANY */
    /*
     * Set, under the lock of what the thread waits in, by a thread of another core that has taken it out
     * to finish its wait. Until the mail about that has come, nobody else may end the wait.
     */
    uint8_t claimed;
    struct thread *next, *prev; /* run queue, or what it waits in; else itself (wait_queue.h) */
    struct space *space;
    uint64_t cr3;            /* its space's, copied: the switch compares two TCBs */
    struct thread *caller;   /* who waits for our reply, or no_thread */
    struct thread *server;   /* in REPLY, FAULTED: whose `caller` or saved caller we are, or NULL */
    struct object *waits_on; /* endpoint, notification or saved reply, while in its queue */
    uint64_t info;           /* message descriptor of a queued send (kernel/abi/message.h) */
    uint64_t badge;          /* badge of a queued send */
    uint64_t fs_base, gs_base; /* while the thread is not loaded; user mode may change both */

    struct cap *caps; /* its space's, copied: for the fast ways' look-up */

    /* Next to the save area, from its first byte downwards: what an NMI on RSP0 would eat (E10). */
    uint64_t canary[2];
    struct frame frame;
    /* RSP0 points here. */

    struct core *core;                      /* whose queues it lives in (E4) */
    continuation_fn *continuation;          /* what to go on with instead of leaving to user mode */
    uint64_t words[4];                      /* the continuation's own */
    uint64_t deadline;                      /* TSC, while THREAD_FLAG_TIMER */
    struct thread *timer_next, *timer_prev; /* in that slot */
    uint64_t cpu_time;               /* TSC ticks it has run, until it was last switched in */
    struct fpu_state *fpu;           /* NULL: never used it */
    uint64_t handler;                /* user address of its signal handler, 0 = none */
    uint64_t handler_stack;          /* the handler's stack pointer, 0 = the interrupted one */
    struct notification *bound;      /* receive also sees this one's bits */
    struct wait_queue saved_callers; /* their replies are in capabilities; for inheritance */
    struct thread *space_next;       /* space's list */
    struct thread *space_prev;
    struct thread
        *mail_next;      /* another core's message, linked here so that a queue is never full */
    uint32_t mail;       /* what the message asks for, one bit each (mail.h) */
    uint16_t timer_slot; /* where in its core's wheel, while THREAD_FLAG_TIMER */
    uint16_t target;     /* MOVING: the core */
    struct thread *group_next; /* wait_queue.h */
    struct object *reap;       /* objects that it has yet to destroy (object.h) */
    struct object *reap_next;  /* when it is to be destroyed itself */
    struct memory
        *fault_memory;       /* FAULTING, FAULTED: it misses a page of this, held by a reference; */
    union {                  /* one whose page is missed is not ready, and one that runs has 0 */
        uint64_t fault_page; /* its offset, bit 0: to write. NULL: an exception, in words[0..2] */
        uint64_t slice_left; /* TSC ticks of the slice that it was preempted in, 0 = a new one */
    };
};

#define CORE_ANY 0xff

/*
 * Stands where a thread may be or not, in place of NULL: at the head of a wait queue, and as `caller`. It
 * is no core's and has no flags, so who asks whether one is of his own core has asked both. All zeros,
 * never written (a debug build looks).
 */
extern struct thread no_thread;

/* Inactive, in no space yet; with all the kernel memory that the entry model wants. NULL = none. */
struct thread *thread_new(struct quota *quota, struct core *core, uint8_t priority,
                          uint8_t ceiling);
/* Into the space's list, before anyone else sees it; false: the space is ending. */
bool thread_enter(struct thread *thread, struct space *space);
/* Out of it again: nobody has a capability for the thread. The space does not end by that. */
void thread_give_up(struct thread *thread);
/* Where it begins; `rip` has been checked (E9). */
void thread_set_entry(struct thread *thread, uint64_t rip, uint64_t rsp, uint64_t argument);
/* That core has it from now on; mail is to bring it there, if it has begun. */
void thread_live_on(struct thread *thread, struct core *core);
/* It is ready from now on. */
void thread_begin(struct core *core, struct thread *thread);

/*
 * The thread ends, whatever it does, or goes on ending: out of queues and out of its space; who waits
 * for it is told. False: call again, after a preemption point if wanted. When `thread` is self, it
 * remains as a thread without a space that does what is on its list (object.h) and then stops.
 */
bool thread_quit(struct core *core, struct thread *self, struct thread *thread);
/* self has THREAD_FLAG_ENDING and nothing on its list: it stops for good. */
void thread_finish(struct core *core, struct thread *self);
/*
 * What the blocked thread waits for will not come; it is out of all queues. It is woken with `error`;
 * one whose fault remains unanswered makes its access again if it missed a page, or else ends.
 */
void thread_wait_failed(struct core *core, struct thread *thread, int64_t error);
/* The running thread ends, and does not see user mode again. It may be a continuation. */
void thread_end_itself(struct core *core, struct thread *self);
/* The blocked thread ends, on its own core and at its own priority. It is out of all queues. */
void thread_end_when_run(struct core *core, struct thread *thread);

/* object_alloc's size: the TCB, and what the entry model wants before it. */
#define THREAD_MEMORY (sizeof(struct thread) + ENTRY_THREAD_EXTRA)

#define THREAD_CANARY 0x6f6e65737461636bULL /* "onestack" */

_Static_assert(offsetof(struct thread, frame) + sizeof(struct frame) == 320, "RSP0 follows");
_Static_assert(320 % 16 == 0, "the CPU aligns RSP down before it pushes (E2)");
_Static_assert(offsetof(struct thread, canary) + 16 == offsetof(struct thread, frame), "E10");
_Static_assert(sizeof(struct thread) == 512, "thread.bytes target; slab size");

static inline struct frame *thread_save_end(struct thread *thread)
{
    return &thread->frame + 1;
}

#endif
