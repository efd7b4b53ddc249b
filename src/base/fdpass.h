/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_BASE_FDPASS_H
#define PODVM_BASE_FDPASS_H

/* A message with descriptors, over a unix socket: one that keeps messages apart, or has one alone. */

#include <stddef.h>
#include <sys/types.h>

#define FDPASS_MAX 40

/**
 * fdpass_send() - Send a message, without waiting
 * @sock:	Unix socket
 * @data, @len:	The message, not empty
 * @fds:	Descriptors, which stay ours
 * @n_fds:	How many, at most FDPASS_MAX
 *
 * Return: 0 or a negative errno
 */
int fdpass_send(int sock, const void *data, size_t len, const int *fds, size_t n_fds);

/**
 * fdpass_receive() - Receive a message, without waiting
 * @sock:	As for fdpass_send()
 * @data, @size: Gets the message
 * @fds:	Gets the descriptors, close-on-exec
 * @max_fds:	The most of them that are taken, at most FDPASS_MAX; others are closed
 * @n_fds:	Gets how many there are
 *
 * Return: Bytes, 0 at the end of the connection, or a negative errno (-EMSGSIZE: it's longer)
 */
ssize_t fdpass_receive(int sock, void *data, size_t size, int *fds, size_t max_fds, size_t *n_fds);

#endif
