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
 *
 * The writable layer of a container that may be started again has a name: SCRATCH_KEPT in the upper
 * directory of its snapshot. So containerd counts its blocks with the snapshot, removes it with the
 * snapshot, and a second start finds the files of the first. Whoever uses it holds an exclusive
 * flock(2) lock on it, by the descriptor that the monitor gets. It's kept only when the guest has
 * unmounted it: after a crash there is an empty one. Checking and repairing it here would mean that
 * the host reads a file system that the guest has written.
 *
 * An emptyDir of a pod is such a file, too: SCRATCH_VOLUME in the directory that the kubelet has
 * made for it, so that the kubelet counts its blocks, evicts the pod that takes too many, and
 * removes it with the directory. It outlives machines (a pod's sandbox may be made anew), so it has
 * a journal.
 */

#include <stdbool.h>
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

/* Name of a writable layer in the upper directory of a snapshot. */
#define SCRATCH_KEPT ".podvm-scratch"

/**
 * scratch_open_kept() - The writable layer of a container, made if there is none
 * @dir:	Directory that it has its name in
 * @templates:	Where templates are kept
 * @size:	Bytes of a new one
 * @e:		Says what failed
 *
 * Waits for a machine that is ending; for a child process.
 *
 * Return: Descriptor of the disk, locked, or a negative errno (-EBUSY: another machine has it)
 */
int scratch_open_kept(const char *dir, const char *templates, uint64_t size, struct err *e);

/* Name of the disk of an emptyDir in the kubelet's directory of it. */
#define SCRATCH_VOLUME ".podvm-volume"

/**
 * scratch_open_volume() - The disk of a volume of a pod, made if there is none
 *
 * As scratch_open_kept(), but it has a journal, and is used again whatever has happened to the
 * machine that had it.
 */
int scratch_open_volume(const char *dir, const char *templates, uint64_t size, struct err *e);

/** scratch_is_kept() - Whether there is one in a directory */
bool scratch_is_kept(const char *dir);

#endif
