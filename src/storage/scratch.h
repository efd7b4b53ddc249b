/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_SCRATCH_H
#define PODVM_STORAGE_SCRATCH_H

/*
 * Theory of operation
 *
 * A scratch disk is the writable layer of a pod: a sparse file without a name (O_TMPFILE), so it
 * is gone when the last descriptor of it is closed, however the pod ends. It holds an empty ext4
 * of exactly the size that is the pod's limit.
 *
 * mkfs.ext4 runs once per size: a template is kept and copied, as a reflink where the file system
 * can and else by its data only, which is a few hundred KiB. Templates get their name when they
 * are complete (linkat), so no lock is needed and a crash leaves nothing. The name has the size,
 * our options and the identity of the mkfs.ext4 binary in it.
 *
 * The file system has no journal: nobody mounts it a second time, so there is nothing to recover,
 * and fsync(2) in the guest writes once instead of twice. Inode tables count as zeroed, as a new
 * sparse file is, so that the guest's kernel does not start to write zeros in the background. All
 * features are named: /etc/mke2fs.conf of the host has no say.
 */

#include <stdint.h>

#include "base/err.h"

#define SCRATCH_DIR	     "/var/lib/podvm/scratch"
#define SCRATCH_SIZE_DEFAULT ((uint64_t)10 << 30)
#define SCRATCH_SIZE_MIN     ((uint64_t)4 << 20)
#define SCRATCH_SIZE_MAX     ((uint64_t)16 << 40)

/**
 * scratch_create() - Make an empty writable disk
 * @dir:	Where templates are kept and where its data goes, e.g. SCRATCH_DIR; it is made
 * @size:	Bytes, rounded up to a multiple of 4096
 * @e:		Says what failed and what to do
 *
 * The root directory of the file system is empty but for lost+found and belongs to root.
 *
 * Return: Descriptor of the disk (read and write) that the caller owns, or a negative errno
 */
int scratch_create(const char *dir, uint64_t size, struct err *e);

#endif
