/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_HOST_SOCKET_H
#define PODVM_SANDBOX_HOST_SOCKET_H

/*
 * Theory of operation
 *
 * Unix sockets of the host that a pod may connect to. In the guest the agent listens to a socket in
 * the copy of the directory (volume.h), and answers Accept with each connection that is made to it.
 * A connection to the host's socket is made then, and bytes or messages go both ways (see
 * socket_relay.h).
 *
 *	process == socket of the guest == agent == ReadOutput, WriteInput == us == server
 *
 * The guest knows sockets by numbers, which are given here, and never names a path. A number means a
 * name in a directory that was looked at: for each connection it's opened again, through no symbolic
 * link, and the directory has to be the same one. So a server may be started again, and its socket
 * be another file, without the pod noticing but for the connections that it had.
 *
 * One Accept is under way at a time. Above HOST_SOCKETS_CONNECTIONS a connection is closed at once;
 * it counts until the agent has answered that it's gone, so a guest that doesn't answer gets no
 * more. A server whose backlog is full is asked again for a while: the kernel doesn't tell when
 * there is room.
 *
 * The server sees us: our pid, and root. Descriptors can't be passed; whoever tries loses the
 * connection.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/str.h"
#include "loop/loop.h"
#include "ttrpc/ttrpc.h"

#define HOST_SOCKETS_MAX	 64
#define HOST_SOCKETS_CONNECTIONS 256

struct host_sockets;
struct sandbox;

/**
 * struct socket_dir - A directory with sockets
 * @path:	Without symbolic links
 * @names:	As of socket_list_names()
 * @single:	One socket of it is meant, whose paths @names are
 * @dev, @ino:	The directory
 */
struct socket_dir {
	char *path;
	struct strv names;
	bool single;
	dev_t dev;
	ino_t ino;
};

/**
 * socket_dir_init() - Look at a directory
 * @d:		All zero; to be released also on failure
 * @path:	Its path, or that of a socket, without symbolic links
 * @single:	It's that of a socket
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int socket_dir_init(struct socket_dir *d, const char *path, bool single, struct err *e);
void socket_dir_done(struct socket_dir *d);

/**
 * host_sockets_new() - None yet
 * @loop:	Loop
 * @agent:	Speaks the agent protocol; borrowed
 * @list:	What pods may have, see socket_list.h; borrowed
 * @ret:	The sockets
 *
 * Return: 0 or -ENOMEM
 */
int host_sockets_new(struct loop *loop, struct ttrpc_client *agent, const char *list,
		     struct host_sockets **ret);

/** host_sockets_free() - Close all connections; NULL is fine */
void host_sockets_free(struct host_sockets *hs);

/** sandbox_sockets() - Those of a running sandbox. Return: NULL when out of memory */
struct host_sockets *sandbox_sockets(struct sandbox *sb);

/**
 * struct socket_offer - A socket for the guest
 * @owner:	Who offers it
 * @key:	What the owner knows it by
 * @dir:	Its directory
 * @name:	Its name there
 */
struct socket_offer {
	const void *owner;
	const char *key;
	const struct socket_dir *dir;
	const char *name;
};

/**
 * host_sockets_offer() - The guest may connect to a socket
 * @hs:		Sockets
 * @o:		Which; one that was offered already is looked at again
 * @number:	Gets the number that the guest is to be given
 * @messages:	Gets whether it's of type SOCK_SEQPACKET
 *
 * Its type is found out by trying to connect with others, so that a server of type stream notices
 * nothing, and one of type seqpacket a connection that is closed.
 *
 * Return: 0, -EPERM (it isn't listed), -EPROTOTYPE (it's for datagrams), -ENFILE (there are
 * HOST_SOCKETS_MAX) or another negative errno
 */
int host_sockets_offer(struct host_sockets *hs, const struct socket_offer *o, uint32_t *number,
		       bool *messages);

/**
 * host_sockets_keep() - Withdraw what an owner doesn't offer any more
 * @keep:	Whether a key is still offered; NULL: none is
 * @data:	For @keep
 */
void host_sockets_keep(struct host_sockets *hs, const void *owner,
		       bool (*keep)(const void *data, const char *key), const void *data);

#endif
