/* SPDX-License-Identifier: MIT */
/*
 * Instructions that may fault, each with the place to go on at: with its stack and its registers, so that
 * a fault is a plain branch (trap.c). Those in user_words.h touch user memory, those in obj/cap.h look up
 * capabilities; each kind is looked for alone.
 */
#ifndef ONESTACK_ARCH_FIXUP_H
#define ONESTACK_ARCH_FIXUP_H

#include <stdint.h>

struct fixup {
    uint64_t at, to;
};

#define FIXUP_IN(section, at, to)                    \
    ".pushsection " section ", \"a\", @progbits\n\t" \
    ".quad " at ", " to "\n\t"                       \
    ".popsection\n\t"
#define FIXUP(at, to)     FIXUP_IN(".fixups", at, to)
#define FIXUP_CAP(at, to) FIXUP_IN(".fixups.caps", at, to)

#endif
