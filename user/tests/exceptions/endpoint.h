/* SPDX-License-Identifier: MIT */
/* Faults of a thread without a handler: to the fault endpoint of its space, or its end. */
#ifndef ONESTACK_EXCEPTIONS_ENDPOINT_H
#define ONESTACK_EXCEPTIONS_ENDPOINT_H

/* How many things were wrong, each with a line. */
unsigned endpoint_faults(unsigned *tried);

#endif
