/* SPDX-License-Identifier: MIT */
/* How a process begins and ends, and what it was given. */
#ifndef ONESTACK_LIBOS_START_H
#define ONESTACK_LIBOS_START_H

#include <stdint.h>

#include "kernel/abi/cap.h"

/* Capabilities that only some programs get; user/init/policy.c says which. */
enum grant {
    GRANT_SERVE,         /* the receiving end of the endpoint that this server serves */
    GRANT_IRQS,          /* interrupt lines: all of them, or a driver's own */
    GRANT_IOPORTS,       /* likewise */
    GRANT_DEVICE_MEMORY, /* physical addresses that are not RAM */
    GRANT_COUNT
};

#define ARGUMENTS_MAX 32
#define EXTRA_CAPS    8

/* One page that whoever starts a process lays into its space; its address comes in rsi. */
struct start_page {
    cap_t space, thread, quota; /* the process's own */
    cap_t init;                 /* init's endpoint, badged with the process's number; 0 in init */
    cap_t console;              /* a session of the console (console.h); 0: nothing to print on */
    cap_t grants[GRANT_COUNT];  /* 0: not given */
    cap_t extra[EXTRA_CAPS];    /* what a program gives to its twin (process.h), */
    void (*function)(uint64_t); /* which runs this in place of main; NULL in a program */
    uint64_t argument;
    uint32_t process; /* its number */
    uint32_t argc;
    char arguments[2048]; /* argc strings, each with its NUL; the first is the name */
};

_Static_assert(sizeof(struct start_page) <= 4096, "one page");

/* A copy of the start page. */
extern struct start_page own;

int main(int argc, char **argv);

/* Tell init, which ends the space; init itself has nobody to tell and only ends its thread. */
_Noreturn void process_exit(int status);

/* Print a line, preceded by the program's name, and exit with status 1. */
__attribute__((format(printf, 1, 2))) _Noreturn void die(const char *format, ...);

/* crt0.S calls this. */
_Noreturn void libos_start(const void *page);

#endif
