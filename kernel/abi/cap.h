/* SPDX-License-Identifier: MIT */
/*
 * Capabilities as user programs see them. A capability is named by a 64-bit handle: place in the
 * space's table in the low 32 bits, generation above. The kernel compares the whole handle with
 * the one kept in the slot, so a stale or forged handle is E_BADCAP and never an access.
 */
#ifndef ONESTACK_ABI_CAP_H
#define ONESTACK_ABI_CAP_H

#include <stdint.h>

typedef uint64_t cap_t; /* 0 is never valid: "no capability" */

enum object_type {
    OBJ_NONE = 0,
    OBJ_THREAD,
    OBJ_SPACE,
    OBJ_ENDPOINT,
    OBJ_NOTIFICATION,
    OBJ_REPLY,
    OBJ_MEMORY,
    OBJ_IRQ,
    OBJ_IOPORTS,
    OBJ_QUOTA,
    OBJ_TYPE_COUNT
};

/*
 * One bit for each (type, right) pair, so that one test in a system call checks both. The generic
 * rights have the same bit for all types.
 */
#define RIGHT_GRANT  0x00000001u /* may be copied, moved and sent to others */
#define RIGHT_REVOKE 0x00000002u /* may revoke what was derived from it */
/* thread */
#define RIGHT_THREAD_CONTROL   0x00000010u /* start, suspend, resume, end, set priority, affinity */
#define RIGHT_THREAD_REGISTERS 0x00000020u /* read and write its registers while it is stopped */
#define RIGHT_THREAD_INFO      0x00000040u /* state and CPU time */
/* space */
#define RIGHT_SPACE_MAP     0x00000080u /* map, unmap, protect */
#define RIGHT_SPACE_THREAD  0x00000100u /* create threads in it */
#define RIGHT_SPACE_CAPS    0x00000200u /* put capabilities into its table */
#define RIGHT_SPACE_CONTROL 0x00000400u /* end it, set its fault endpoint */
/* endpoint */
#define RIGHT_ENDPOINT_SEND    0x00000800u
#define RIGHT_ENDPOINT_CALL    0x00001000u
#define RIGHT_ENDPOINT_RECEIVE 0x00002000u
/* notification */
#define RIGHT_NOTIFY_SIGNAL 0x00004000u
#define RIGHT_NOTIFY_WAIT   0x00008000u
/* reply */
#define RIGHT_REPLY_SEND 0x00010000u
/* memory */
#define RIGHT_MEMORY_READ    0x00020000u
#define RIGHT_MEMORY_WRITE   0x00040000u
#define RIGHT_MEMORY_EXECUTE 0x00080000u
#define RIGHT_MEMORY_SUPPLY  0x00100000u /* act as its pager */
/* irq */
#define RIGHT_IRQ_BIND 0x00200000u /* bind to a notification and acknowledge */
/* I/O ports */
#define RIGHT_IOPORTS_ACCESS 0x00400000u
/* quota */
#define RIGHT_QUOTA_USE   0x00800000u /* create objects on it */
#define RIGHT_QUOTA_SPLIT 0x01000000u
#define RIGHT_ALL         0x01ffffffu

#endif
