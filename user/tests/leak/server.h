/* SPDX-License-Identifier: MIT */
/* The thread that the rounds call: it answers in each way there is, and is pager and fault handler. */
#ifndef ONESTACK_LEAK_SERVER_H
#define ONESTACK_LEAK_SERVER_H

#include "kernel/abi/cap.h"

#define MESSAGE_ROOM 5000

enum request {
    REQUEST_REPLY, /* at once */
    REQUEST_SAVE,  /* by a reply capability */
    REQUEST_DROP,  /* never: receives again */
    REQUEST_LOSE   /* saves it and deletes the capability */
};

struct server {
    cap_t endpoint;    /* receives here, from all */
    cap_t paged, page; /* as pager: memory to supply, and what to copy */
};

/* A thread's function, with a struct server: never returns. */
void serve(void *argument);

#endif
