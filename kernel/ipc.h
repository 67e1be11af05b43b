/* SPDX-License-Identifier: MIT */
/*
 * Moving a message from one thread to another. Six words go from frame to frame. Bytes are copied
 * once, through the direct map, a page's part at a time with a preemption point after each; while
 * that lasts one of the two, the driver, is current, and the other one is THREAD_COPYING.
 *
 * Both sides' pages are looked up in their page tables: a missing one is its pager's, or the IPC
 * ends with E_IPCFAULT for both.
 */
#ifndef ONESTACK_IPC_H
#define ONESTACK_IPC_H

#include "kernel/abi/message.h"
#include "kernel/arch/core.h"
#include "kernel/syscall.h"

/* Of a call with a message, for its waiting and, if it drives a long copy, for that. */
static inline uint64_t ipc_timeout(const struct thread *self)
{
    return ARG1(self) & INFO_EXTRA ? ARG3(self) : TIMEOUT_NONE;
}

/* The other thread of the long copy that `driver` drives; NULL: it drives none, or the other one has left. */
static inline struct thread *ipc_partner(const struct thread *driver)
{
    return driver->flags & THREAD_FLAG_DRIVES ? (struct thread *)driver->words[0] : NULL;
}

/*
 * From `driver` (current) on: `from` and `to` are the driver and a blocked thread that has been
 * taken out of its queue. from->info and from->badge are set. When the message has arrived, ipc.c
 * does what follows (the receiver goes on; a caller waits for its reply; a replying server
 * receives). Returns what the driver's system call returns, BLOCKED included.
 */
int64_t ipc_transfer(struct core *core, struct thread *driver, struct thread *from,
                     struct thread *to);

/*
 * The same, of a message with bytes, for a fast way that has come so far and no further: what is pending makes
 * the exit take the long way, and `from`, the driver, goes on with it there.
 */
void ipc_transfer_later(struct core *core, struct thread *from, struct thread *to);

/*
 * `thread` leaves a long copy, as driver or as the other one: the partner's call ends with `error`, also
 * if it waits for a page.
 */
void ipc_abandon(struct core *core, struct thread *thread, int64_t error);

/*
 * On the thread's own core: is it in a long copy that a thread of this core drives? While it is looked at
 * another core may take it out of its queue and begin one; but what is said here does not change.
 */
bool ipc_copies_here(const struct core *core, const struct thread *thread);
/*
 * A claimed thread that thread_leave_wait() did not get out: if it is in a long copy with another core's
 * thread, have that one let it go (E_CANCELED, or E_TIMEOUT for CLAIM_LATE). False: it is not, and its
 * wait ends in a moment.
 */
bool ipc_ask_to_leave(struct thread *thread, uint8_t wish);
/* On the driver's core: the partner of `driver`, if it wishes to leave, does. */
void ipc_let_go(struct core *core, struct thread *driver);

/* The server, who has no caller, has a new one, in REPLY or FAULTED. */
void ipc_take_caller(struct core *core, struct thread *server, struct thread *caller,
                     enum thread_state state);
/* After the reply of a reply_receive, if it has come to its end with `result`: the receive. */
int64_t ipc_second_half(struct core *core, struct thread *self, int64_t result);

#endif
