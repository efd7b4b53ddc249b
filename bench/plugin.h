/* SPDX-License-Identifier: Apache-2.0 */
/* What the plugins here need of QEMU 7.2's interface. Debian has no header for it. */
#ifndef PODVM_BENCH_PLUGIN_H
#define PODVM_BENCH_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#define PUBLIC	       __attribute__((visibility("default")))
#define PLUGIN_VERSION 1
#define INLINE_ADD_U64 0

struct qemu_plugin_tb;

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
					   void (*cb)(uint64_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *ptr,
					      uint64_t imm);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
					  void (*cb)(unsigned int, void *), int flags, void *data);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*cb)(uint64_t, void *), void *data);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);

PUBLIC int qemu_plugin_version = PLUGIN_VERSION;

#endif
