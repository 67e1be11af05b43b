/* SPDX-License-Identifier: MIT */
/*
 * core_state: one word, two bytes. The state byte says what the core does, and so what a fault
 * means; it is written by byte stores. The pending byte is written by single or/and/xchg
 * instructions only, so that no state change wipes a bit that an NMI has just set.
 */
#ifndef ONESTACK_ARCH_STATE_H
#define ONESTACK_ARCH_STATE_H

#define CORE_ST_USER    0 /* a fault becomes a signal to the running thread */
#define CORE_ST_PARMCHK 1 /* touches user memory for a system call: the call returns an error */
#define CORE_ST_SYSCALL 2 /* a fault is a kernel bug */
#define CORE_ST_IPC     3 /* copies between two users: the threads concerned get an error */
#define CORE_ST_CONTIN  4 /* runs a continuation: a fault is a kernel bug */
#define CORE_ST_INTR    5 /* in an interrupt or nested entry: a fault is a kernel bug */
#define CORE_ST_IDLE    6

#define CORE_PENDING_NMI     0x01
#define CORE_PENDING_MCHECK  0x02
#define CORE_PENDING_IRQ     0x04 /* a bit in irq_pending is set */
#define CORE_PENDING_RESCHED 0x08 /* the running thread has a continuation */
#define CORE_PENDING_MAIL    0x10 /* another core left a message */
#define CORE_PENDING_TIMER   0x20 /* the one-shot timer fired */
#define CORE_PENDING_SLOW \
    0x80 /* a fast path declined: the call, kept in the frame, goes the slow way */

#endif
