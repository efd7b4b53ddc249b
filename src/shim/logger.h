/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_LOGGER_H
#define PODVM_SHIM_LOGGER_H

/*
 * A program that takes a container's output ("binary:///path?name=value", containerd's logging
 * protocol; nerdctl uses it). It gets the arguments of the query, CONTAINER_ID and
 * CONTAINER_NAMESPACE, stdout and stderr of the container as descriptors 3 and 4, and 5 to tell
 * that it's ready. Nobody waits for that: what is written before stays in the pipe. It ends when
 * both are closed.
 */

#include "base/err.h"

#define LOGGER_SCHEME "binary://"

/**
 * logger_start() - Start it
 * @uri:	URI, with LOGGER_SCHEME
 * @id:		Of the container
 * @namespace:	Of containerd
 * @fds:	Get the ends that are written to: stdout, stderr
 * @e:		Says what is wrong with the URI or the program
 *
 * Return: A pidfd that the caller owns, or a negative errno
 */
int logger_start(const char *uri, const char *id, const char *namespace, int fds[2], struct err *e);

#endif
