/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_MOUNT_FOLLOW_H
#define PODVM_STORAGE_MOUNT_FOLLOW_H

/*
 * Theory of operation
 *
 * A share of a container that is to see what the host mounts later (mountPropagation:
 * HostToContainer) is a copy of one mount, and has a copy of every mount below that. Whenever the
 * kernel says that mounts have changed the copies are brought in step: there's one more, or one is
 * detached.
 *
 * They aren't propagated by the kernel, because the host couldn't unmount what the guest remembers
 * a file of. As it is it can, at any time. The file system itself ends when nobody has a file of it
 * open any more: who calls us has the guest forget what it doesn't use.
 *
 * A guest may have put a link into a path of the share, so copies are attached below its top through
 * no link, and kept as descriptors. What is mounted at a path on the host is told by its number.
 */

#include <stdbool.h>

#include "base/err.h"

struct mount_follow;

/**
 * mount_follow_new() - Follow the mounts below a directory
 * @source:	The directory, of our mount namespace; symbolic links are followed
 * @dir:	Where it's shared: virtiofs_share_add_from(), alone
 * @name:	...and its name there. Nothing in @dir is followed itself
 * @readonly:	Copies are read-only
 * @ret:	Result; mount_follow_update() makes the first copies
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int mount_follow_new(const char *source, const char *dir, const char *name, bool readonly,
		     struct mount_follow **ret, struct err *e);

/**
 * mount_follow_update() - Bring the copies in step
 * @f:		The follower
 * @mountinfo:	What /proc/self/mountinfo says now
 *
 * What can't be copied is logged, once.
 *
 * Return: Whether one is gone
 */
bool mount_follow_update(struct mount_follow *f, const char *mountinfo);

/** mount_follow_free() - Forget them; they go with the share. NULL is fine */
void mount_follow_free(struct mount_follow *f);

#endif
