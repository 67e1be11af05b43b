/* SPDX-License-Identifier: MIT */
/*
 * Included ahead of kernel/arch/offsets.c, which is compiled to assembly and never linked: each use
 * leaves a line that tools/scons/offsets.py turns into a #define for assembly.
 */
#define DEFINE(name, value) __asm__ volatile("\n.ascii \"->" #name " %c0\"" ::"i"((long)(value)))
#define OFFSET(name, type, member) DEFINE(name, __builtin_offsetof(type, member))
