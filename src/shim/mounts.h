/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_MOUNTS_H
#define PODVM_SHIM_MOUNTS_H

/*
 * Mounts on the host. All of them are made in the shim's own mount namespace and below the pod's
 * shared directory, never below a bundle: containerd removes a bundle with everything that it
 * finds in it, through bind mounts as well. The directory is a shared mount, so what is mounted
 * there later appears for virtiofsd, which has a namespace of its own. When the shim and its
 * children are gone the kernel has taken everything away.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "proto/types.pb-c.h"

/**
 * mounts_private() - Leave the host's mount namespace
 * @ret_host:	The one that was left, for virtiofs_share_add_from()
 *
 * What is mounted there later is still seen where mounts are shared.
 */
int mounts_private(int *ret_host, struct err *e);

/**
 * mounts_prepare() - Make a pod's shared directory
 * @dir:	Path below the run directory
 *
 * Return: 0 or a negative errno
 */
int mounts_prepare(const char *dir, struct err *e);

/**
 * mounts_rootfs() - Mount a container's root file system
 * @dir:	Shared directory
 * @name:	Name in it, made here
 * @list:	Mounts as containerd gives them, in order, all on the same directory
 * @n:		How many, at least one
 * @e:		Says which one failed
 *
 * Return: 0 or a negative errno; nothing is left mounted then
 */
int mounts_rootfs(const char *dir, const char *name, Containerd__Types__Mount *const *list,
		  size_t n, struct err *e);

/** mounts_remove() - Unmount and remove one name of the shared directory; fine if it isn't there */
void mounts_remove(const char *dir, const char *name);

/** mounts_end() - Unmount everything below the shared directory, and itself */
void mounts_end(const char *dir);

#endif
