/* SPDX-License-Identifier: MIT */
/*
 * Errors of the system calls. A call returns 0 or a positive value when it worked, and one of
 * these, negative, when it did not.
 */
#ifndef ONESTACK_ABI_ERROR_H
#define ONESTACK_ABI_ERROR_H

enum onestack_error {
    E_OK = 0,
    E_NOSYS = -1,    /* no such system call */
    E_BADCAP = -2,   /* stale, forged, out of range or of the wrong type */
    E_RIGHTS = -3,   /* the capability lacks the right */
    E_INVAL = -4,    /* an argument out of its range */
    E_FAULT = -5,    /* a user address that the caller cannot access so */
    E_NOMEM = -6,    /* the account named (or the caller's space's) is exhausted */
    E_AGAIN = -7,    /* would block, and the timeout is 0 */
    E_TIMEOUT = -8,  /* the timeout passed */
    E_CANCELED = -9, /* somebody cancelled the wait */
    E_DEAD = -10,    /* the object or the partner has ended */
    E_BUSY = -11,    /* the object is in a state that does not allow it */
    E_PRIO = -12,    /* above the caller's ceiling */
    E_OVERLAP = -13, /* the address range is in use */
    E_NOREPLY = -14, /* nobody waits for this reply */
    E_IPCFAULT = -15 /* a message buffer, one's own or the partner's, could not be accessed */
};

#endif
