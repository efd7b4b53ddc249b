/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_ROOTFS_PLAN_H
#define PODVM_SHIM_ROOTFS_PLAN_H

/*
 * What containerd's mounts of a root file system are, and so what the machine can have of them.
 * It's decided by the mounts alone; no file is looked at.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"
#include "proto/types.pb-c.h"

/* overlayfs has no more. */
#define ROOTFS_MAX_LAYERS 500

enum rootfs_kind {
	ROOTFS_SHARED, /* mounted on the host and shown by virtiofs: everything else */
	ROOTFS_LAYERS, /* an overlay of directories: each becomes a disk */
	ROOTFS_DISK,   /* a file system of a device or file, which becomes a disk */
};

/**
 * struct rootfs_plan - What a root file system is made of
 * @why:	ROOTFS_SHARED: the reason, constant
 * @layers:	ROOTFS_LAYERS: directories, top first
 * @upper:	...and the one that is written to, NULL: a read-only view
 * @source:	ROOTFS_DISK: device or file
 * @fstype:	...and its file system
 * @readonly:	...which isn't written to
 */
struct rootfs_plan {
	enum rootfs_kind kind;
	const char *why;
	struct strv layers;
	char *upper;
	char *source;
	char *fstype;
	bool readonly;
};

/**
 * rootfs_plan() - Understand mounts
 * @mounts:	As containerd gives them
 * @n:		How many
 * @plan:	All zero; to be released with rootfs_plan_done() in any case
 *
 * Return: 0 or -ENOMEM
 */
int rootfs_plan(Containerd__Types__Mount *const *mounts, size_t n, struct rootfs_plan *plan);

void rootfs_plan_done(struct rootfs_plan *plan);

#endif
