/* SPDX-License-Identifier: MIT */
/*
 * call and reply_receive by threads that gave a struct message, with up to FAST_BYTES_MAX bytes beyond
 * the six words: read while the sender's space is loaded, written after the switch, by the addresses that
 * the users gave. Whatever goes wrong with those is the general way's to find out again, so here a
 * fault is a plain branch (arch/user_words.h). IF=1 all along, but for entry and exit: with the copies
 * these are more than 100 instructions (E5).
 */
#include "kernel/abi/syscall.h"
#include "kernel/arch/user_words.h"
#include "kernel/fastpath.h"
#include "kernel/ipc.h"
#include "kernel/rendezvous.h"

/* Whole words, so that one test of the descriptor's low half finds everything else. */
#define FAST_BYTES_MAX (CORE_WORDS * sizeof(uint64_t))

_Static_assert((FAST_BYTES_MAX & (FAST_BYTES_MAX + 8)) == 0 && FAST_BYTES_MAX % 8 == 0, "a mask");

static inline bool is_small(uint64_t info, uint64_t timeout)
{
    return ((uint32_t)info & ~(uint32_t)FAST_BYTES_MAX) == INFO_EXTRA && timeout == TIMEOUT_NONE;
}

/*
 * What the general way would find in the frame; here, too, it is asked again rather than kept: every
 * register that a value is kept in is one of the message's, saved and restored.
 */
static inline void keep_arguments(struct thread *self, uint64_t a0, uint64_t a1, uint64_t a2)
{
    self->frame.rsi = a0;
    self->frame.rdx = a1;
    self->frame.r8 = a2;
}

static inline uint64_t kept_info(const struct thread *self)
{
    return READ_AGAIN(self->frame.rdx);
}

static inline bool read_words(struct core *core, uint64_t info, uint64_t message)
{
    uint64_t bytes = info & FAST_BYTES_MAX;

    return user_address(message) && (bytes == 0 || user_words_from(core, message, bytes));
}

/* `to` is current by now. */
static inline bool write_words(struct core *core, const struct thread *self,
                               const struct thread *to)
{
    uint64_t bytes = kept_info(self) & FAST_BYTES_MAX, message;

    if (bytes == 0) {
        return true;
    }
    message = to->frame.r8; /* looked at when `to` came to wait (endpoint.c, and here) */
    return to->frame.rdx & INFO_EXTRA && user_words_to(core, message, bytes);
}

static inline struct fast_result decline(struct core *core, struct thread *self, uint64_t number)
{
    cpu_cli();
    self->frame.rax = number;
    self->frame.r9 = TIMEOUT_NONE;
    core_set_pending(core, CORE_PENDING_SLOW);
    return (struct fast_result){0, 0};
}

/* What the receiver sees of the descriptor. */
static inline struct fast_result received(const struct thread *self, uint64_t badge)
{
    return (struct fast_result){(int64_t)(SHORT_INFO(kept_info(self)) & ~(uint64_t)INFO_EXTRA),
                                badge};
}

/* The server is out of the queue, so there is no way back: the general way goes on from here. */
static __attribute__((noinline)) struct fast_result
fast_finish(struct core *core, struct thread *self, struct thread *server)
{
    switch_now(core, server, self);
    cpu_cli();
    self->frame.r9 = TIMEOUT_NONE;
    self->info = self->frame.rdx;
    self->flags |= THREAD_FLAG_CALL;
    ipc_transfer_later(core, self, server);
    return (struct fast_result){SYS_call, self->info}; /* to where they came from */
}

FAST(call_bytes)
{
    struct thread *self = fast_self(save_end), *server;
    struct cap *cap;

    if (UNLIKELY(!is_small(a1, a3))) {
        return fast_decline(core, self, SYS_call, a0, a1, a2, a3);
    }
    keep_arguments(self, a0, a1, a2);
    core_set_state(core, CORE_ST_IPC); /* until the exit, whichever */
    cpu_sti();
    if (UNLIKELY(!read_words(core, a1, a2))) {
        return decline(core, self, SYS_call);
    }
    cap = cap_find_own(self, READ_AGAIN(self->frame.rsi), RIGHT_ENDPOINT_CALL);
    if (UNLIKELY(!cap)) {
        return decline(core, self, SYS_call);
    }
    self->badge = cap->badge;
    server = take_receiver(core, (struct endpoint *)cap->object);
    if (UNLIKELY(!server)) {
        return decline(core, self, SYS_call);
    }
    switch_now(core, self, server);
    if (UNLIKELY(!write_words(core, self, server))) {
        return fast_finish(core, self, server);
    }
    meet(self, server, THREAD_REPLY);
    cpu_cli();
    return received(self, self->badge);
}

FAST(reply_bytes)
{
    struct thread *self = fast_self(save_end), *caller = self->caller;
    struct endpoint *endpoint;

    if (UNLIKELY(!is_small(a1, a3))) {
        return fast_decline(core, self, SYS_reply_receive, a0, a1, a2, a3);
    }
    keep_arguments(self, a0, a1, a2);
    core_set_state(core, CORE_ST_IPC); /* until the exit, whichever */
    cpu_sti();
    if (UNLIKELY(!may_receive(self) || !ready_here(core, caller) ||
                 caller->priority < core->ready_top || !read_words(core, a1, a2))) {
        return decline(core, self, SYS_reply_receive);
    }
    /* The words first, while there is a way back; then self stands where others see it. */
    switch_now(core, self, caller);
    endpoint = LIKELY(write_words(core, self, caller))
                   ? empty_endpoint(self, READ_AGAIN(self->frame.rsi))
                   : NULL;
    if (UNLIKELY(!endpoint)) {
        switch_now(core, caller, self);
        return decline(core, self, SYS_reply_receive);
    }
    stand_first(endpoint, self);
    lock_release(&endpoint->object.lock);
    caller->state = THREAD_READY;
    cpu_cli();
    return received(self, 0);
}
