/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_ROOTFS_H
#define PODVM_SHIM_ROOTFS_H

/*
 * Theory of operation
 *
 * containerd gives a root file system as mounts (rootfs_plan.h), or the spec names a directory. The
 * machine gets it as disks where that's possible:
 *
 *	overlay of layers	every layer as an EROFS file (storage/snapshot.h), read-only and
 *				shared by the containers of the pod, and on top a writable disk
 *				whose file lives in the snapshot's upper directory
 *				(storage/scratch.h). Images of many layers have their lowest ones
 *				joined. What somebody has put into the upper directory before is
 *				one more layer.
 *	device or file		as it is, when the guest's kernel knows its file system
 *	everything else		mounted below the pod's shared directory, where virtiofsd shows it
 *
 * Making files takes time, so a child process does it (loop/work.h). It begins with the request,
 * while the machine of a lone container boots, and the stage waits for it. When it fails the root
 * file system is shared instead, with a warning, unless the container has a writable disk from an
 * earlier start: it would miss what is on it.
 *
 * A read-only root (root.readonly of the spec) gets a small tmpfs in place of the disk, so that
 * mount points can be made; a view (a snapshot without upper directory) gets nothing.
 */

#include "base/err.h"

struct task;
struct rootfs;

/**
 * rootfs_begin() - Begin the part that needs no machine
 * @t:		Task that is created, whose pod's configuration has been read
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int rootfs_begin(struct task *t, struct err *e);

/**
 * rootfs_prepare() - Stage of a Create: bring the root file system to the machine
 * @obj:	The task; gets create->rootfs and what the config needs
 * @e:		What failed
 *
 * Return: as a stage
 */
int rootfs_prepare(void *obj, struct err *e);

/** rootfs_free() - End the work and close what it has opened; NULL is fine */
void rootfs_free(struct rootfs *r);

#endif
