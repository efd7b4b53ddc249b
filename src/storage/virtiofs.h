/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_VIRTIOFS_H
#define PODVM_STORAGE_VIRTIOFS_H

/*
 * Theory of operation
 *
 * Directories of the host that a pod really mounts (-v) are served by virtiofsd, one per pod, and
 * only then. It shows one directory, /run/podvm/<id>/shared, in which every source is bind mounted
 * under a name of ours. These mounts live in a private mount namespace of the process that owns
 * the sandbox (who calls us has unshared it), so they are gone with it.
 *
 * The daemon is either the C one of Debian 12 (qemu-system-common) or the Rust one of Debian 13
 * (virtiofsd); it isolates itself (its own mount, PID and network namespace, pivot_root into the
 * directory, seccomp). It logs to syslog. The guest mounts every source as a file system of its
 * own, so that files of different ones don't get mixed up by equal inode numbers.
 *
 * It gets a listening socket that has one connection waiting already: ours, whose other end is
 * for vhost_fs.h. The socket's name is removed at once, so nobody else can connect.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/**
 * enum virtiofs_access - What the guest may do with something
 * @VIRTIOFS_WRITABLE:	Change it
 * @VIRTIOFS_READONLY:	Nothing but read it, but change what is mounted below it
 * @VIRTIOFS_READONLY_ALL: Nothing but read it, and what is mounted below it
 */
enum virtiofs_access {
	VIRTIOFS_WRITABLE,
	VIRTIOFS_READONLY,
	VIRTIOFS_READONLY_ALL,
};

/**
 * virtiofs_share_add() - Put something into the directory that will be shared
 * @dir:	The directory
 * @source:	Directory or file of the host; symbolic links are followed
 * @access:	What the guest may do with it
 * @name:	Its name in @dir, new, without a slash
 * @e:		Says what is wrong with the source
 *
 * What is mounted below @source comes along. Set-user-ID programs and devices have no effect
 * through this mount on the host.
 *
 * Return: 0, -ENOENT (no such source), -EINVAL or another negative errno
 */
int virtiofs_share_add(const char *dir, const char *source, enum virtiofs_access access,
		       const char *name, struct err *e);

/**
 * struct virtiofs_source - Something of the host
 * @path:	Directory or file; symbolic links are followed
 * @access:	What the guest may do with it
 * @mount_ns:	Mount namespace in which it's looked up, or -EBADF: our own
 * @alone:	Without what is mounted below it
 *
 * What is mounted on the host later doesn't appear in our own namespace everywhere: mounts may be
 * private, such as that in which CRI-O keeps its root file systems.
 */
struct virtiofs_source {
	const char *path;
	enum virtiofs_access access;
	int mount_ns;
	bool alone;
};

/** virtiofs_share_add_from() - As virtiofs_share_add(), of something that needs more to be said */
int virtiofs_share_add_from(const struct virtiofs_source *source, const char *dir, const char *name,
			    struct err *e);

/**
 * virtiofs_clone_mounts() - A detached copy of what is mounted somewhere, with our attributes
 * @source_fd:	The place
 * @access:	What the guest may do with it
 * @alone:	Without what is mounted below it
 *
 * Return: Descriptor or a negative errno
 */
int virtiofs_clone_mounts(int source_fd, enum virtiofs_access access, bool alone);

/**
 * virtiofs_refuse_root() - Whether something is the host's root directory, which isn't shared
 * @source:	Directory or file of the host; symbolic links are followed
 * @e:		Says so
 *
 * Return: 0 or -EPERM
 */
int virtiofs_refuse_root(const char *source, struct err *e);

/**
 * virtiofs_spawn() - Start the daemon
 * @dir:	The directory with everything that is shared; its parent is writable
 * @ret_pid:	Process id of the daemon
 * @ret_socket:	Connected vhost-user socket, owned by the caller
 * @e:		Says why not, and which package is missing
 *
 * The daemon dies with us. It ends by itself when the connection is closed.
 *
 * Return: A pidfd that the caller owns, or a negative errno
 */
int virtiofs_spawn(const char *dir, pid_t *ret_pid, int *ret_socket, struct err *e);

#endif
