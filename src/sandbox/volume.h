/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_VOLUME_H
#define PODVM_SANDBOX_VOLUME_H

/*
 * Theory of operation
 *
 * A small volume is copied into the guest and kept in step with the host: a directory that the
 * kubelet writes (config map, secret, projected, downward API), or a file. The copy is on a file
 * system in the guest's memory, so secrets never get onto a disk.
 *
 * A volume is followed by inotify; there is one instance of it for all volumes of a sandbox,
 * because the kernel allows few. Whatever an event says, the volume is read as a whole
 * (volume_tree.h), compared with what the guest has, and the differences are sent in the order in
 * which the kubelet makes its changes. So lost events (an overflow) cost nothing but reading
 * everything. Bursts are read once, VOLUME_SETTLE_MS after their first event, what changes all the
 * time after longer pauses; changes that come while others are being sent are read after that.
 *
 * A directory is watched, but not what is below it: the kubelet never changes what it has
 * published, it makes a new directory and renames a link (..data). A file is watched as an inode:
 * what is renamed over it isn't seen, as with a bind mount.
 *
 * A socket of the host that the pod may have (host_socket.h) is a socket in the copy as well, if
 * it's in the directory itself, or alone in place of a file. That one is known by its path: another
 * one may take it.
 *
 * The first reading decides whether a container can be made. After that nothing fails for good:
 * what can't be read or is too large is logged and the guest keeps what it has, until the next
 * change; what doesn't go in is tried again, after longer and longer pauses. The source isn't held
 * open in between, so that its file system can be unmounted.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "sandbox/sandbox.h"

#define VOLUME_SETTLE_MS 50
#define VOLUME_MAX_MS	 1600 /* the same for what never comes to rest */

struct volume;
struct volume_set;

/**
 * struct volume_config - What a volume is; borrowed for volume_add()
 * @source:	Directory or file of the host
 * @path:	Directory of the guest, below /run/podvm, that the copy is or (a file) is in
 * @name:	A file: its name in @path; NULL: a directory
 * @memory:	A directory: its content isn't copied, but @path becomes a file system in memory
 *		with its permissions
 * @size, @inodes: Of the latter, 0: no limit but the guest's memory
 * @directory:	Path of a directory to be made in the latter if it isn't there, which changes
 *		nothing else, or NULL
 * @fixed:	It's copied once and not followed
 * @sockets:	A directory: it may have sockets; a file: it is one, and isn't followed
 */
struct volume_config {
	const char *source;
	const char *path;
	const char *name;
	bool memory;
	uint64_t size;
	uint64_t inodes;
	const char *directory;
	bool fixed;
	bool sockets;
};

/**
 * volume_set_new() - A sandbox's volumes, none yet
 * @sb:		Sandbox, which outlives them
 * @ret:	The set
 *
 * Return: 0 or -ENOMEM
 */
int volume_set_new(struct sandbox *sb, struct volume_set **ret);

/** volume_set_free() - Forget all volumes, leaving the copies; NULL is fine */
void volume_set_free(struct volume_set *set);

/**
 * volume_add() - Copy a volume into the running guest, and keep it in step
 * @set:	Set
 * @config:	What
 * @done:	Called once from the loop: with NULL when the copy is there, or what failed; the
 *		volume is to be freed then. It may be freed here
 * @data:	For @done
 * @ret:	The volume
 *
 * Return: 0 (@done will be called) or a negative errno (it will not)
 */
int volume_add(struct volume_set *set, const struct volume_config *config, sandbox_done done,
	       void *data, struct volume **ret);

/** volume_free() - Don't follow it any more, leaving the copy; NULL is fine */
void volume_free(struct volume *v);

/** volume_remove() - Tell the guest to remove a copy; nobody waits for that */
void volume_remove(struct sandbox *sb, const char *path);

#endif
