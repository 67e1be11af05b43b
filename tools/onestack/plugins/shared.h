/* SPDX-License-Identifier: MIT */
/*
 * What a plugin finds goes straight to a file that it shares with its readers: it can be read while
 * the guest stands still, and survives the SIGKILL that ends a test's QEMU.
 */
#ifndef ONESTACK_PLUGINS_SHARED_H
#define ONESTACK_PLUGINS_SHARED_H

#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

/* A new file of `size` zeros, mapped; NULL if it cannot be made. */
static inline void *shared_file(const char *name, size_t size)
{
    int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
    void *place = MAP_FAILED;

    if (file >= 0 && ftruncate(file, (off_t)size) == 0) {
        place = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    if (file >= 0) {
        close(file);
    }
    return place == MAP_FAILED ? NULL : place;
}

#endif
