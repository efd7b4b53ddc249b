/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_SHARE_H
#define PODVM_AGENT_SHARE_H

/*
 * Theory of operation
 *
 * A directory or file of the host is mounted as a FUSE file system, one for each, so that each has
 * a device number of its own. A process of ours is their server:
 *
 *	kernel == /dev/fuse, one for each share == server == port "podvm.fs" == host's virtiofsd
 *
 * It passes on requests and replies (share_fuse.h), one message at a time each way. While the host
 * doesn't take a message no further one is read from a kernel's queue, where requests wait.
 *
 * The worker that mounts the first share starts the server, which stays. A worker that wants to
 * mount one sends the server its name and an open /dev/fuse, and gets the type of what is shared;
 * then it mounts, and closes the connection, whereupon the server begins to listen to the kernel.
 * The server isn't part of the agent, because what the agent does must never wait for it: a page of
 * a container that the agent looks at may be in a file of the host.
 *
 * Every file that this kernel remembers is one that the host has open. So when there may be many the
 * server has the kernel drop those that nobody uses.
 *
 * When the server or the channel goes, every file system of it fails with ENOTCONN, and the host,
 * which sees the port closed, gives the machine up.
 */

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/**
 * struct share_mount - For mounting a share; share_mount_done() when that's done
 * @fuse:	The open /dev/fuse
 * @mode:	Type of what is shared, S_IFDIR or S_IFREG
 * @server:	Connection
 */
struct share_mount {
	int fuse;
	mode_t mode;
	int server;
};

#define SHARE_MOUNT_INIT ((struct share_mount){ .fuse = -1, .server = -1 })

/**
 * share_mount_begin() - Ask for a share, in a worker
 * @name:	Name of it
 * @deadline_ms: Of clock_ms()
 * @ret:	SHARE_MOUNT_INIT
 * @e:		Why there is none
 *
 * Return: 0 or a negative errno
 */
int share_mount_begin(const char *name, uint64_t deadline_ms, struct share_mount *ret,
		      struct err *e);

/** share_mount_done() - It's mounted, or won't be */
void share_mount_done(struct share_mount *m);

/* ---- between share.c and share_server.c ---- */

#define SHARE_PORT "podvm.fs"

/** share_forget() - Have the kernel forget the files that nobody uses. Return: 0 or an errno */
int share_forget(void);

/* What the server says when it has looked a share up. */
struct share_answer {
	int32_t error;
	uint32_t mode;
};

/**
 * share_server_run() - Be the server, until the channel ends
 * @listener:	Listening socket for workers
 * @port:	Channel to the host, blocking
 *
 * Return: A negative errno
 */
int share_server_run(int listener, int port);

#endif
