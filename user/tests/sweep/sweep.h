/* SPDX-License-Identifier: MIT */
/*
 * The program whose paths the sweep walks (tests/sweep drives it). Three kinds of threads: the
 * walker, in this space; the waiter, above all others and in a space of its own, which the event's
 * notification wakes; and whom a path needs besides.
 */
#ifndef ONESTACK_SWEEP_H
#define ONESTACK_SWEEP_H

#include <stdint.h>

#include "kernel/abi/message.h"

#define COPY_BYTES  5000
#define SMALL_BYTES 32

/* ISA interrupts that nothing on QEMU's boards raises; the harness sends their vectors. */
#define EVENT_LINE  5
#define DEVICE_LINE 7
#define NMI_LINE    256

enum sweep_bit { BIT_NMI, BIT_IRQ };

/* Mapped in all spaces; the waiter writes, the harness reads. */
struct sweep_shared {
    volatile uint64_t nmis, irqs, wakes;
};

/* In each process its own: handles, and what a message is made of. */
extern cap_t sweep_notification, sweep_endpoint, sweep_quota, sweep_nmi_line, sweep_irq_line,
    sweep_device_line;
extern struct sweep_shared *sweep_shared;
extern struct message sweep_message;
extern uint8_t *sweep_from, *sweep_to; /* what a copy must equal, and where it is */

/* All run on one core, the load on all others. */
#define WALK_CORE     0
#define PRIORITY_LOAD 100

/* What a helper is given in own.extra[]. */
enum { EXTRA_NOTIFICATION, EXTRA_ENDPOINT, EXTRA_LINE, EXTRA_LINE_2, EXTRA_COUNT };

/*
 * helpers.c: a twin on a core that runs function(0), with copies of these capabilities, if any. Returns
 * its thread.
 */
cap_t start_twin_on(uint64_t core, void (*function)(uint64_t), uint64_t priority,
                    const cap_t extra[EXTRA_COUNT]);
/* helpers.c, load.c: start them; the program ends if that does not work. */
void start_load(void);
void start_waiter(void);
void start_device(void);
void start_yielder(void);
void start_signaller(void);
void start_server(void);
void start_copier(void);
void start_small_copier(void);
void start_resumer(void);
void start_saver(void);
void start_driven(void);
cap_t start_driver(void);
void make_copy_buffers(void);
cap_t new_notification(void);
cap_t new_endpoint(void);

/* partners.S */
_Noreturn void sweep_waiter_loop(void);
_Noreturn void sweep_device_loop(void);
_Noreturn void sweep_yield_back_loop(void);
_Noreturn void sweep_signal_loop(void);
_Noreturn void sweep_server_loop(void);
_Noreturn void sweep_copy_back_loop(void);
_Noreturn void sweep_small_back_loop(void);
_Noreturn void sweep_resumer_loop(void);
_Noreturn void sweep_saver_loop(void);
_Noreturn void sweep_driver_loop(void);
_Noreturn void sweep_driven_loop(void);

#endif
