/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_ROOTFS_WORK_H
#define PODVM_SHIM_ROOTFS_WORK_H

/* The part of a root file system that blocks: in a child process. */

#include "loop/work.h"
#include "shim/rootfs_plan.h"
#include "storage/snapshot.h"

/* An image of more layers has the lowest ones joined. */
#define ROOTFS_MAX_DISKS 12

/* Layers, and what was prepared in the upper directory. */
#define ROOTFS_MAX_PARTS (ROOTFS_MAX_LAYERS + 1)

/**
 * struct rootfs_found - What the disks hold, in memory that is shared with the child
 * @n_parts:	Of every disk, 0: it's one file system
 * @parts:	Of all disks, in their order
 */
struct rootfs_found {
	size_t n_parts[WORK_MAX_FDS];
	struct disk_part parts[ROOTFS_MAX_PARTS];
};

/**
 * struct rootfs_job - What is to be opened, or made before
 * @plan:	Of layers or of a disk
 * @max_disks:	How many the machine has room for
 * @scratch:	A writable disk is needed
 * @scratch_size: Bytes of a new one
 * @cache:	Where layers are kept; owns its directory's name
 * @found:	Gets what the disks hold
 */
struct rootfs_job {
	struct rootfs_plan plan;
	size_t max_disks;
	bool scratch;
	uint64_t scratch_size;
	struct snapshot_cache cache;
	struct rootfs_found *found;
};

/**
 * rootfs_work() - Do it
 * @arg:	struct rootfs_job
 * @result:	Gets the disks, top layer first, and last the writable one if there is one
 * @e:		What failed
 *
 * Return: 0 or a negative errno; -EBUSY: another machine uses the same snapshot
 */
int rootfs_work(void *arg, struct work_result *result, struct err *e);

#endif
