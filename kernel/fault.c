/* SPDX-License-Identifier: MIT */
#include "kernel/fault.h"

#include "kernel/abi/fault.h"
#include "kernel/abi/message.h"
#include "kernel/arch/cpu.h"
#include "kernel/arch/entry.h"
#include "kernel/ipc.h"
#include "kernel/lib/string.h"
#include "kernel/mail.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/endpoint.h"
#include "kernel/obj/memory.h"
#include "kernel/obj/registers.h"
#include "kernel/obj/space.h"
#include "kernel/rendezvous.h"
#include "kernel/sched.h"
#include "kernel/syscall.h"

/* The System V ABI lets a function use so much below its stack pointer. */
#define RED_ZONE        128
#define STACK_ALIGNMENT 16

/* Page-fault error code (Intel SDM vol. 3, 4.7). */
#define PF_WRITE 2
#define PF_USER  4

/* ---- messages ---- */

/* An exception's message, or a machine check's. */
static inline void describe(const struct thread *from, struct frame *words)
{
    words->rbx = from->words[0];
    words->rbp = from->words[1];
    words->r12 = from->words[2];
    words->r13 = from->frame.rip;
    words->r14 = from->frame.rsp;
    words->r15 = from->frame.rflags;
    words->rdx = from->space->fault_badge;
}

int64_t fault_deliver(struct core *core, struct thread *from, struct thread *to)
{
    struct frame *words = &to->frame;
    int64_t info = INFO_FAULT;

    if (from->fault_memory) {
        words->rbx = from->fault_page & ~1ULL;
        words->rbp = from->fault_page & 1;
        words->r12 = words->r13 = words->r14 = words->r15 = 0;
        words->rdx = from->fault_memory->pager_badge;
        info |= (int64_t)FAULT_PAGE << INFO_LABEL_SHIFT;
    } else {
        describe(from, words);
        info |= (int64_t)from->words[3] << INFO_LABEL_SHIFT;
    }
    ipc_take_caller(core, to, from, THREAD_FAULTED);
    return info;
}

/*
 * The flag tells the fast way to reply that this is not for it; a thread in a long copy, which it
 * leaves alone anyway, has its own use of it.
 */
static void mark(struct thread *thread)
{
    if (!(thread->flags & THREAD_FLAG_DRIVES)) {
        thread->flags |= THREAD_FLAG_CALL;
    }
}

void fault_forget(struct thread *thread)
{
    if (!(thread->flags & THREAD_FLAG_DRIVES)) {
        thread->flags &= (uint16_t)~THREAD_FLAG_CALL;
    }
    if (thread->fault_memory) {
        object_unref(&thread->fault_memory->object);
        thread->fault_memory = NULL;
        thread->slice_left = 0; /* where fault_page was */
    }
}

bool fault_send(struct core *core, struct thread *self, struct endpoint *endpoint)
{
    struct thread *receiver = NULL;

    lock_acquire(&endpoint->object.lock);
    bool alive = !endpoint->object.dying;

    if (alive && !wait_queue_empty(&endpoint->receivers)) {
        receiver = wait_queue_pop(&endpoint->receivers);
        thread_claim(core, receiver);
    } else if (alive) {
        self->state = THREAD_FAULTING;
        self->server = NULL; /* as in endpoint.c */
        self->waits_on = &endpoint->object;
        wait_queue_insert(&endpoint->senders, self);
    }
    lock_release(&endpoint->object.lock);
    if (alive) {
        mark(self);
    }
    if (receiver) {
        thread_wake(core, receiver, fault_deliver(core, self, receiver));
    }
    return alive;
}

void fault_verdict(struct core *core, struct thread *thread, uint64_t info)
{
    if (thread->core == core) {
        fault_forget(thread);
    }
    if ((info & INFO_LABEL_MASK) >> INFO_LABEL_SHIFT == FAULT_END) {
        thread_end_when_run(core, thread);
    } else if (thread->core == core) {
        thread_wake(core, thread, (int64_t)thread->frame.rax);
    } else {
        mail_post(thread, MAIL_WAKE); /* as it is: its registers may just be set there */
    }
}

/* ---- missed pages ---- */

/*
 * As fault_to_pager. `by_frame`: the kernel wants the frame and not the address, so a page that is
 * mapped but has no frame in the direct map, a device's, is none.
 */
static bool miss(struct core *core, struct thread *self, struct space *space, uint64_t address,
                 uint64_t error, continuation_fn *retry, bool by_frame)
{
    struct memory *memory;
    uint64_t offset;

    switch (space_fault(space, address, error, &memory, &offset)) {
    case SPACE_FAULT_DEVICE:
        if (by_frame) {
            return false;
        }
        /* fall through */
    case SPACE_FAULT_RETRY:
        self->continuation = retry;
        return true;
    case SPACE_FAULT_PAGER:
        break;
    default:
        return false;
    }
    struct endpoint *pager = __atomic_load_n(&memory->pager, __ATOMIC_ACQUIRE);

    if (!pager) { /* it has just ended, its mappings before it: ask again */
        object_unref(&memory->object);
        self->continuation = retry;
        return true;
    }
    self->fault_memory = memory;
    self->fault_page = (offset & ~(uint64_t)(PAGE_SIZE - 1)) | (error & PF_WRITE ? 1 : 0);
    if (!fault_send(core, self, pager)) {
        fault_forget(self);
        return false;
    }
    self->continuation = retry;
    return true;
}

bool fault_to_pager(struct core *core, struct thread *self, struct space *space, uint64_t address,
                    uint64_t error, continuation_fn *retry)
{
    return miss(core, self, space, address, error, retry, true);
}

/* ---- exceptions ---- */

enum outcome { DONE, BLOCKED_ON_PAGER, IMPOSSIBLE };

/* A part of one page to self's memory. By its frame: a fault here would look like a system call's. */
static bool write_piece(struct thread *self, uint64_t address, const void *from, uint64_t bytes)
{
    struct space *space = self->space;

    if (address < USER_BASE || address >= USER_END) {
        return false;
    }
    lock_acquire(&space->object.lock);
    uint64_t physical = space_user_frame(space, address, true);

    if (physical) {
        memcpy(phys_to_virt(physical), from, bytes);
    }
    lock_release(&space->object.lock);
    return physical != 0;
}

static enum outcome write_user(struct core *core, struct thread *self, uint64_t address,
                               const void *from, uint64_t bytes)
{
    while (bytes) {
        uint64_t part = PAGE_SIZE - address % PAGE_SIZE;

        if (part > bytes) {
            part = bytes;
        }
        /* After the page has come, the faulting instruction runs again, and we are here again. */
        if (!write_piece(self, address, from, part)) {
            return address < USER_END && fault_to_pager(core, self, self->space, address,
                                                        PF_USER | PF_WRITE, NULL)
                       ? BLOCKED_ON_PAGER
                       : IMPOSSIBLE;
        }
        from = (const char *)from + part;
        address += part;
        bytes -= part;
    }
    return DONE;
}

/* Send self into its handler, with all that it was on the handler's stack. */
static enum outcome upcall(struct core *core, struct thread *self, unsigned vector, uint64_t error,
                           uint64_t address)
{
    struct fault_info info = {.vector = vector, .error = error, .address = address};
    uint64_t stack = self->handler_stack ? self->handler_stack : self->frame.rsp - RED_ZONE;
    enum outcome outcome;

    if (self->flags & THREAD_FLAG_IN_HANDLER) {
        return IMPOSSIBLE;
    }
    registers_get(self, self, &info.registers);
    stack = (stack - sizeof(info)) & ~(uint64_t)(STACK_ALIGNMENT - 1);
    outcome = write_user(core, self, stack, &info, sizeof(info));
    if (outcome == DONE) {
        self->flags |= THREAD_FLAG_IN_HANDLER;
        self->frame.rip = self->handler;
        self->frame.rsp = stack;
        self->frame.rflags = RFLAGS_FIXED | RFLAGS_IF;
    }
    return outcome;
}

/*
 * As fault_send() and fault_deliver(), for a handler that waits on this core: goes on in it at once, for it
 * inherits self's priority. Returns if there is none.
 */
static __attribute__((noinline)) void fast_fault(struct core *core, struct thread *self,
                                                 struct endpoint *endpoint)
{
    struct thread *handler = take_receiver(core, endpoint);

    if (UNLIKELY(!handler)) {
        return;
    }
    self->flags |= THREAD_FLAG_CALL; /* mark() */
    handler->frame.rax = INFO_FAULT | FAULT_EXCEPTION;
    describe(self, &handler->frame);
    meet(self, handler, THREAD_FAULTED);
    switch_now(core, self, handler);
    exit_other(core);
}

static bool to_endpoint(struct core *core, struct thread *self, unsigned vector, uint64_t error,
                        uint64_t address)
{
    struct endpoint *endpoint = __atomic_load_n(&self->space->fault_endpoint, __ATOMIC_ACQUIRE);

    if (!endpoint) {
        return false;
    }
    self->words[0] = vector;
    self->words[1] = error;
    self->words[2] = address;
    fast_fault(core, self, endpoint);
    self->words[3] = FAULT_EXCEPTION;
    return fault_send(core, self, endpoint);
}

void fault_user(struct core *core, struct thread *self, unsigned vector, uint64_t error,
                uint64_t address)
{
    if (vector == VECTOR_PF && miss(core, self, self->space, address, error, NULL, false)) {
        return;
    }
    if (self->handler && upcall(core, self, vector, error, address) != IMPOSSIBLE) {
        return;
    }
    if (!to_endpoint(core, self, vector, error, address)) {
        thread_end_itself(core, self);
    }
}
