/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plugin of QEMU 7.2's user-mode emulation that counts the instructions that a program executes,
 * and writes their number into the file that its argument out= names.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "plugin.h"

static uint64_t count;
static pid_t program;

static void on_block(uint64_t id, struct qemu_plugin_tb *tb)
{
	qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &count,
						 qemu_plugin_tb_n_insns(tb));
}

/* What it has forked ends as well. */
static void on_exit_of(uint64_t id, void *path)
{
	FILE *f;

	if (getpid() != program)
		return;
	f = fopen(path, "w");
	if (f) {
		fprintf(f, "%llu\n", (unsigned long long)count);
		fclose(f);
	}
}

PUBLIC int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	if (argc != 1)
		return -1;
	program = getpid();
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
	/* out=FILE */
	qemu_plugin_register_atexit_cb(id, on_exit_of, argv[0] + 4);
	return 0;
}
