/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_BASE_UNIXSOCK_H
#define PODVM_BASE_UNIXSOCK_H

/* Connected unix sockets, of type stream or seqpacket, whose data goes somewhere else. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

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
