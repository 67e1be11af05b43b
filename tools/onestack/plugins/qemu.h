/* SPDX-License-Identifier: MIT */
/*
 * What our plugins use of QEMU's interface for TCG plugins, version 1 (QEMU 4.2 to 8.2). Written from
 * its documentation: the header itself comes with QEMU's source only. QEMU looks at
 * `qemu_plugin_version` and refuses a plugin of a version that it does not speak.
 */
#ifndef ONESTACK_PLUGINS_QEMU_H
#define ONESTACK_PLUGINS_QEMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_info;        /* of the machine: not looked at */
struct qemu_plugin_tb;   /* a stretch of instructions while it is translated */
struct qemu_plugin_insn; /* one of them; gone afterwards */

enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_R = 1, QEMU_PLUGIN_MEM_W, QEMU_PLUGIN_MEM_RW };
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

typedef void (*translate_fn)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*execute_fn)(unsigned cpu, void *data);
typedef void (*access_fn)(unsigned cpu, uint32_t info, uint64_t address, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, translate_fn function);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);

/* Both are called before what they are registered for is executed. */
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, execute_fn function,
                                          enum qemu_plugin_cb_flags flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, execute_fn function,
                                            enum qemu_plugin_cb_flags flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn,
                                                enum qemu_plugin_op op, void *place,
                                                uint64_t number);
/* And this after each access to memory. */
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn, access_fn function,
                                      enum qemu_plugin_cb_flags flags,
                                      enum qemu_plugin_mem_rw which, void *data);
bool qemu_plugin_mem_is_store(uint32_t info);

/* What a plugin exports. Install: 0, or QEMU does not start. */
EXPORT extern int qemu_plugin_version;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc,
                               char **argv);

#define PLUGIN_VERSION 1

/* Addresses with this bit are the kernel's, on x86-64. */
#define KERNEL_HALF (1ULL << 63)

#endif
