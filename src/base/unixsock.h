/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_BASE_UNIXSOCK_H
#define PODVM_BASE_UNIXSOCK_H

/* Unix sockets with a path; and connected ones whose data goes somewhere else. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * unixsock_connect() - Connect to who listens at a path, without waiting
 * @path:	Path
 * @type:	SOCK_STREAM, SOCK_SEQPACKET or SOCK_DGRAM
 *
 * Return: Descriptor that doesn't block, -ECONNREFUSED (nobody listens), -EAGAIN (the backlog is
 * full), -EPROTOTYPE (it's of another type), -ENAMETOOLONG, or another negative errno
 */
int unixsock_connect(const char *path, int type);

/**
 * unixsock_listen() - Listen at a path that isn't there, on a socket that only we may connect to
 * @path:	Path
 * @type:	SOCK_STREAM or SOCK_SEQPACKET
 * @backlog:	How many may wait to be accepted
 *
 * The umask is another one for a moment.
 *
 * Return: Descriptor that doesn't block, -EADDRINUSE (there is such a file), -ENAMETOOLONG, or
 * another negative errno
 */
int unixsock_listen(const char *path, int type, int backlog);

/**
 * unixsock_receive() - What has come, without waiting: of a seqpacket socket one message
 * @fd:		Socket
 * @data:	Gets it
 * @size:	Room for it
 *
 * Empty messages are left out: nearly everybody takes them for the end.
 *
 * Return: Bytes, 0 at the end, -EAGAIN, -EMSGSIZE (a message is larger), -EBADMSG (descriptors came
 * with it, which are closed), or another negative errno
 */
ssize_t unixsock_receive(int fd, void *data, size_t size);

/** unixsock_queued() - Bytes that can be received now, at least 1 */
size_t unixsock_queued(int fd);

/** unixsock_hung_up() - Whether the other end neither sends nor receives any more */
bool unixsock_hung_up(int fd);

#endif
