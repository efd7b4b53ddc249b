/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_SNAPSHOT_INTERNAL_H
#define PODVM_STORAGE_SNAPSHOT_INTERNAL_H

/* What the snapshot*.c files share; others see snapshot.h. */

#include "base/str.h"
#include "storage/image_store_internal.h"
#include "storage/snapshot.h"

#define SNAPSHOT_PATHS_MAX ((size_t)256 << 10) /* of a file `source` */

/**
 * snapshot_key() - Name of the file of layers
 * @dirs:	Directories, top first
 * @n:		How many
 * @key:	32 hex digits
 * @e:		Which one can't be used
 *
 * Return: 0, -EOPNOTSUPP (it has no identity), or another negative errno
 */
int snapshot_key(char *const *dirs, size_t n, char key[STR_HASH_SIZE], struct err *e);

/**
 * struct snapshot_tree - What is in a directory
 * @bytes:	On the disk
 * @sparse:	A file has holes
 */
struct snapshot_tree {
	uint64_t bytes;
	bool sparse;
};

/**
 * snapshot_scan() - Walk through a layer
 * @dir:	Directory
 * @tree:	Adds up what is found
 * @e:		Why it can't be used in another place
 *
 * Return: 0, -EOPNOTSUPP, or another negative errno
 */
int snapshot_scan(const char *dir, struct snapshot_tree *tree, struct err *e);

#endif
