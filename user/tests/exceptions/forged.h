/* SPDX-License-Identifier: MIT */
/* What a signal handler may make of the registers that it returns to. */
#ifndef ONESTACK_EXCEPTIONS_FORGED_H
#define ONESTACK_EXCEPTIONS_FORGED_H

/* Return with forged frames; how many gave the thread what it must not have, each with a line. */
unsigned forged_returns(unsigned *tried);

#endif
