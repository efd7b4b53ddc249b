/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_SOCKET_H
#define PODVM_AGENT_SOCKET_H

/*
 * Theory of operation
 *
 * A socket of the host is one of ours here: in the copy of its directory (volume.h) there is a
 * socket of the same name and permissions, to which we listen. Who connects is accepted when the
 * host asks for it (Accept), one at a time, and becomes a connection (connection.h), of which the
 * host is told the number that it has given the socket. So whoever connects faster than the host
 * accepts waits in the kernel, as with any other server.
 *
 * A socket is known by its inode, also where it's bind-mounted. One whose last name has gone can't
 * be connected to any more, and is closed.
 */

#include "agent/agent.h"
#include "proto/agent.pb-c.h"

#define SOCKETS_MAX 64

/**
 * socket_put() - Make a socket, or give one that is there its permissions
 * @s:		Sockets
 * @parent:	Descriptor of its directory
 * @name:	Its name in it; what has it now goes, unless it's the socket itself
 * @c:		As it came from the host
 *
 * Return: 0, -ENFILE (there are SOCKETS_MAX) or another negative errno
 */
int socket_put(struct sockets *s, int parent, const char *name,
	       const Podvm__Agent__V1__VolumeChange *c);

/** sockets_sweep() - Close those that have no name any more */
void sockets_sweep(struct sockets *s);

/** sockets_init(), sockets_done() - None yet; close all, answer who waits */
void sockets_init(struct sockets *s, struct agent *a);
void sockets_done(struct sockets *s);

#endif
