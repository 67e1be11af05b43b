/* SPDX-License-Identifier: MIT */
/*
 * Fault messages: INFO_FAULT is set in the received descriptor, and its label says which kind. They
 * are calls; the answer's label is the verdict. A faulted thread whose message is dropped (its receiver
 * ends or takes another caller without reply_save, or the endpoint ends) ends; one that misses a
 * page then makes its access again.
 */
#ifndef ONESTACK_ABI_FAULT_H
#define ONESTACK_ABI_FAULT_H

/* To the space's fault endpoint, with the badge given there: vector, error, address, rip, rsp, rflags. */
#define FAULT_EXCEPTION 0
/* To a memory object's pager, with its capability's badge: offset of the page, 1 = to be written. */
#define FAULT_PAGE 1
/*
 * To the space's fault endpoint: an uncorrected machine check has struck the thread, or memory that
 * its space maps. The bank's status; the address in the space, or 0: none of its own is known; 1 =
 * the thread has used what is broken and is not to go on as it is, else it may; rip, rsp, rflags.
 */
#define FAULT_MACHINE_CHECK 2

/* Verdicts: */
#define FAULT_RESUME 0 /* go on with the registers as they are now; a missed page: try again */
#define FAULT_END    1 /* the thread ends */

#endif
