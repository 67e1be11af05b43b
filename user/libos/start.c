/* SPDX-License-Identifier: MIT */
#include "user/libos/start.h"

#include <stdarg.h>

#include "kernel/abi/bootpage.h"
#include "kernel/lib/string.h"
#include "user/libos/init.h"
#include "user/libos/ipc.h"
#include "user/libos/print.h"

struct start_page own;

/* init has the kernel's boot page in place of a start page. */
static void adopt_boot_page(const struct boot_page *boot)
{
    own.space = boot->space;
    own.thread = boot->thread;
    own.quota = boot->quota;
    own.grants[GRANT_IRQS] = boot->irqs;
    own.grants[GRANT_IOPORTS] = boot->ioports;
    own.grants[GRANT_DEVICE_MEMORY] = boot->device_memory;
    own.argc = 1;
    string_copy(own.arguments, sizeof(own.arguments), "init");
}

_Noreturn void libos_start(const void *page)
{
    static char *argv[ARGUMENTS_MAX + 1];
    char *at = own.arguments;
    uint32_t argc = 0;

    if ((uint64_t)page == BOOT_PAGE) {
        adopt_boot_page(page);
    } else {
        own = *(const struct start_page *)page;
    }
    if (own.function != NULL) {
        own.function(own.argument);
        process_exit(0);
    }
    for (; argc < own.argc && argc < ARGUMENTS_MAX; argc++) {
        argv[argc] = at;
        at += strlen(at) + 1;
    }
    process_exit(main((int)argc, argv));
}

_Noreturn void process_exit(int status)
{
    if (own.init != 0) {
        init_exit(status);
    }
    for (;;) {
        sys_thread_end(0);
    }
}

_Noreturn void die(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    printf("%s: ", own.arguments);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    process_exit(1);
}
