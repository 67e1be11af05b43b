/* SPDX-License-Identifier: MIT */
/*
 * Calls that carry a message's six words in registers. `words` is read as the message that goes out
 * and written with the one that came in; each returns the received message's info (never negative)
 * or an error, and the sender's badge where there is one.
 */
#ifndef ONESTACK_LIBOS_IPC_H
#define ONESTACK_LIBOS_IPC_H

#include <stddef.h>

#include "kernel/abi/message.h"
#include "user/libos/syscall.h"

_Static_assert(INFO_EXTRA == 1ULL << 28, "INFO_EXTRA_BIT of ipc.S");

struct words {
    uint64_t word[MESSAGE_WORDS];
};

#define INFO_LABEL(label) ((uint64_t)(label) << INFO_LABEL_SHIFT)
#define INFO_CAPS(count)  ((uint64_t)(count) << INFO_CAPS_SHIFT)

static inline uint32_t info_label(uint64_t info)
{
    return (uint32_t)((info & INFO_LABEL_MASK) >> INFO_LABEL_SHIFT);
}

static inline uint32_t info_bytes(uint64_t info)
{
    return (uint32_t)(info & INFO_BYTES_MASK);
}

static inline uint32_t info_caps(uint64_t info)
{
    return (uint32_t)((info & INFO_CAPS_MASK) >> INFO_CAPS_SHIFT);
}

/* ipc.S; `message` may be NULL in all of them. */
struct result ipc_call(cap_t endpoint, uint64_t info, struct words *words, struct message *message,
                       uint64_t timeout);
struct result ipc_reply_receive(cap_t endpoint, uint64_t info, struct words *words,
                                struct message *message, uint64_t timeout);
struct result ipc_send(cap_t endpoint, uint64_t info, struct words *words, struct message *message,
                       uint64_t timeout);
/* `info` is not looked at. */
struct result ipc_receive(cap_t endpoint, uint64_t info, struct words *words,
                          struct message *message, uint64_t timeout);
/* To the reply capability, or the last caller if it is 0. `timeout` is for the caller's missing pages. */
struct result ipc_reply(cap_t reply, uint64_t info, struct words *words, struct message *message,
                        uint64_t timeout);

#endif
