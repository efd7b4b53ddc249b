/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_MOUNT_FORMAT_H
#define PODVM_SHIM_MOUNT_FORMAT_H

/*
 * From 2.2 on containerd has mounts whose options name others of the same list, such as an overlay
 * of files: "lowerdir={{ overlay 0 2 }}". Its mount manager mounts them, unless a shim says that it
 * does that itself.
 */

#include <stddef.h>

/* Those that we do, besides plain ones: an overlay, whose directories may have to be made. */
#define MOUNT_FORMAT_OVERLAY "format/mkdir/overlay"

/* An option that isn't one: a directory to be made, perhaps with its mode and owner. */
#define MOUNT_FORMAT_MKDIR "X-containerd.mkdir.path="

/**
 * mount_format() - Put paths in the place of mounts
 * @text:	Option
 * @points:	Where the mounts before it are
 * @n:		How many
 * @ret:	New string
 *
 * "{{ mount N }}" is one of them, "{{ overlay FIRST LAST }}" a list with colons.
 *
 * Return: 0, -EINVAL (something else, or there are no such mounts) or -ENOMEM
 */
int mount_format(const char *text, char *const *points, size_t n, char **ret);

#endif
