/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_SOCKET_LIST_H
#define PODVM_SANDBOX_SOCKET_LIST_H

/*
 * Which sockets of the host pods may have: host_sockets of the configuration, patterns of absolute
 * paths separated by blanks, as fnmatch(3) has them with FNM_PATHNAME. What is compared is where
 * the host has the socket, without symbolic links: a directory may be mounted at several places
 * (the kubelet does that for a subPath, CSI drivers for a volume), and each is a path by which the
 * host reaches it.
 */

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

/**
 * socket_list_names() - The paths by which the host knows a directory or socket
 * @path:	One of them
 * @ret:	Empty; gets them, without symbolic links, that of @path first
 * @e:		Says what failed
 *
 * Return: 0 or a negative errno
 */
int socket_list_names(const char *path, struct strv *ret, struct err *e);

/**
 * socket_list_source() - Whether the source of a mount has to do with sockets of the host
 * @list:	Patterns
 * @path:	Source, whatever it is
 * @e:		Names the socket, and what to do
 *
 * A directory that can't be copied (volume_tree.h) has nothing to do with them, which is logged.
 *
 * Return: 1 (a socket that is listed, or a directory that one may be in), 0, -EPERM (a socket that
 * isn't listed) or another negative errno
 */
int socket_list_source(const char *list, const char *path, struct err *e);

/** socket_list_has() - Whether a socket in a directory is listed; NULL: @names are its own paths */
bool socket_list_has(const char *list, const struct strv *names, const char *name);

/** socket_list_has_dir() - Whether some socket could be listed that is in the directory itself */
bool socket_list_has_dir(const char *list, const struct strv *names);

#endif
