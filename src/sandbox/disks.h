/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_DISKS_H
#define PODVM_SANDBOX_DISKS_H

/*
 * Theory of operation
 *
 * The disks of a sandbox, shared by its containers. A container plugs its disks as one set, all at
 * the same time. A read-only file (by device and inode) that several containers use is plugged
 * once, and unplugged when the last of them has let go of it.
 *
 * A disk that is being unplugged isn't shared any more: who wants the same file meanwhile gets
 * another one. One that nobody wants any more before the monitor has answered is unplugged when it
 * does. So a set may be given up at any time.
 *
 * The guest must have unmounted a disk before it's unplugged, which the agent has when it answers
 * RemoveContainer. Another container may be about to mount it just then: it has a use of its own,
 * so the disk stays plugged, and the agent works on mounts one after the other.
 */

#include <stddef.h>

#include "sandbox/sandbox.h"

#define DISK_SET_MAX 36

struct disk_set;

/**
 * disk_set_plug() - Plug the disks of a container
 * @sb:		Running sandbox
 * @disks:	Disks; their descriptors are borrowed during the call
 * @n:		How many, at most DISK_SET_MAX
 * @done:	Called once, with NULL or the first failure, in a callback of the monitor
 * @data:	For @done
 * @ret:	The set, also to be given up when @done is told of a failure
 * @e:		What failed at once
 *
 * Return: 0 when all were plugged already, STAGE_PENDING when @done will be called, or a negative
 * errno
 */
int disk_set_plug(struct sandbox *sb, const struct vmm_disk *disks, size_t n, sandbox_done done,
		  void *data, struct disk_set **ret, struct err *e);

/** disk_set_addr() - Where the guest finds disk @i of the set */
const struct vmm_disk_addr *disk_set_addr(const struct disk_set *set, size_t i);

/**
 * disk_set_unplug() - Give up a set whose disks the guest doesn't use any more, and free it
 * @set:	Set
 * @done:	Called when its writable disks are gone or can't be unplugged, maybe before this
 *		returns: then their files may be used by others. NULL: nobody asks
 * @data:	For @done
 */
void disk_set_unplug(struct disk_set *set, void (*done)(void *data), void *data);

/** disk_set_cancel() - Call nobody when a set that was given up is unplugged; NULL is fine */
void disk_set_cancel(struct disk_set *set);

/**
 * disk_set_free() - Forget a set; NULL is fine
 *
 * Nobody is called any more. Its disks stay plugged: the guest may use them until the machine ends.
 */
void disk_set_free(struct disk_set *set);

/** disks_room() - How many more disks the machine can have */
size_t disks_room(const struct sandbox *sb);

/** disks_kept() - Whether the machine has a writable disk that is there when it has ended */
bool disks_kept(const struct sandbox *sb);

/** disks_close() - The machine is gone; sets that are left can only be given up */
void disks_close(struct sandbox *sb);

#endif
