/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plugin of QEMU 7.2's system emulation that counts the instructions that the guest executes, and
 * the blocks of code among them that QEMU translates, usually once. The third number is what the
 * first was when the program began whose first instruction is at the address of the argument
 * entry=, if there is one. The numbers are the first 24 bytes of the file that its argument out=
 * names, at any time.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "plugin.h"

static struct {
	uint64_t instructions;
	uint64_t blocks;
	uint64_t began;
} * count;

static uint64_t entry;

static void on_entry(unsigned int cpu, void *data)
{
	count->began = count->instructions;
}

static void on_block(uint64_t id, struct qemu_plugin_tb *tb)
{
	count->blocks++;
	if (qemu_plugin_tb_vaddr(tb) == entry)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, on_entry, 0, NULL);
	qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &count->instructions,
						 qemu_plugin_tb_n_insns(tb));
}

PUBLIC int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	/* out=FILE, entry=ADDRESS. The first open(2) with O_RDWR and no other flag is that of a
	 * template's memory.
	 */
	int fd = argc > 0 ? open(argv[0] + 4, O_RDWR | O_CLOEXEC) : -1;

	if (fd < 0 || ftruncate(fd, sizeof(*count)) < 0)
		return -1;
	count = mmap(NULL, sizeof(*count), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (count == MAP_FAILED)
		return -1;
	entry = argc > 1 ? strtoull(argv[1] + 6, NULL, 0) : 0;
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
	return 0;
}
