/* SPDX-License-Identifier: MIT */
/*
 * Messages. Six words travel in registers: rbx, rbp, r12, r13, r14, r15. What else a message has
 * is said by its descriptor word `info` and, for long messages and capabilities, by a struct
 * message in the caller's memory, named by a system call's third argument (0 = none).
 *
 *   bits  0-16  bytes beyond the six words, 0 .. 65536
 *   bits 20-22  capabilities, 0 .. 4
 *   bit  24     the message is a fault (struct fault_info)
 *   bit  25     bits of the bound notification, no message: word 0 holds them, the others are 0
 *   bit  28     to the kernel only: the arguments a2 (struct message) and a3 (timeout) count.
 *               Without it there is no struct message and the wait has no end: the fast way.
 *   bits 32-62  label, the sender's to choose
 *
 * A received `info` is never negative, so a call returns either it or an error.
 */
#ifndef ONESTACK_ABI_MESSAGE_H
#define ONESTACK_ABI_MESSAGE_H

#include <stdint.h>

#include "kernel/abi/cap.h"

#define MESSAGE_WORDS     6
#define MESSAGE_BYTES_MAX 65536u
#define MESSAGE_CAPS_MAX  4u

#define INFO_BYTES_MASK  0x1ffffULL
#define INFO_CAPS_SHIFT  20
#define INFO_CAPS_MASK   0x700000ULL
#define INFO_FAULT       (1ULL << 24)
#define INFO_NOTIFIED    (1ULL << 25)
#define INFO_EXTRA       (1ULL << 28)
#define INFO_LABEL_SHIFT 32
#define INFO_LABEL_MASK  0x7fffffff00000000ULL
/* What a sender may set and a receiver gets; what makes a message more than six words. */
#define INFO_USER_MASK (INFO_BYTES_MASK | INFO_CAPS_MASK | INFO_LABEL_MASK)
#define INFO_LONG_MASK (INFO_BYTES_MASK | INFO_CAPS_MASK)

#define TIMEOUT_NONE (~0ULL) /* wait for ever; 0 = do not wait; else nanoseconds */

/* In the caller's memory, 8-byte aligned; read when the call is made, `received*` written back. */
struct message {
    uint64_t send_buffer;    /* what INFO_BYTES counts is copied from here */
    uint64_t receive_buffer; /* a received message's bytes are copied here, */
    uint64_t receive_size;   /* at most so many; a longer one fails for both with E_IPCFAULT */
    cap_t send_caps[MESSAGE_CAPS_MAX];     /* copied (not moved); each needs RIGHT_GRANT */
    cap_t received_caps[MESSAGE_CAPS_MAX]; /* handles of the copies in the receiver's table */
};

#endif
