/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_SNAPSHOT_INTERNAL_H
#define PODVM_STORAGE_SNAPSHOT_INTERNAL_H

/* What the snapshot*.c files share; others see snapshot.h. */

#include "base/str.h"
#include "storage/image_store_internal.h"
#include "storage/layer.h"
#include "storage/snapshot.h"

#define SNAPSHOT_PATHS_MAX ((size_t)256 << 10) /* of a file `source` */
#define SNAPSHOT_PARTS	   "parts"
#define SNAPSHOT_KEY_SIZE  (STR_HASH_SIZE + 1)

/* What a file is made of, the last letter of its directory's name. */
enum snapshot_kind {
	SNAPSHOT_LAYER = 0,	  /* directories, no letter */
	SNAPSHOT_VERITY = 'v',	  /* directories, and a hash tree */
	SNAPSHOT_BLOB_COPY = 'b', /* a file of the snapshotter, and a hash tree */
	SNAPSHOT_PACK = 'p',	  /* files */
};

/**
 * struct snapshot_recipe - How a file is made
 * @paths:	What of, top first
 * @n:		How many
 * @files:	SNAPSHOT_PACK: these paths, open
 */
struct snapshot_recipe {
	enum snapshot_kind kind;
	char *const *paths;
	size_t n;
	const struct snapshot_file *files;
};

/**
 * snapshot_key() - Name of a file's directory
 * @recipe:	How it's made
 * @key:	Hexadecimal digits and the letter of the kind
 * @e:		Which path can't be used
 *
 * Return: 0, -EOPNOTSUPP (it has no identity), or another negative errno
 */
int snapshot_key(const struct snapshot_recipe *recipe, char key[SNAPSHOT_KEY_SIZE], struct err *e);

/** snapshot_key_kind() - The kind of such a name, or -EINVAL: it's another name */
int snapshot_key_kind(const char *name);

/* Limits of a layer. */
#define SNAPSHOT_LIMITS            \
	((struct snapshot_limits){ \
		.bytes = (uint64_t)64 << 30, .entries = LAYER_MAX_ENTRIES, .depth = 256 })

/**
 * struct snapshot_limits - What a file may be made of
 * @bytes:	Of all files, holes included
 * @entries:	Files, directories and the rest
 * @depth:	Directories in each other
 */
struct snapshot_limits {
	uint64_t bytes;
	uint64_t entries;
	int depth;
};

/**
 * struct snapshot_tree - What is in a directory
 * @limits:	...and may be
 * @bytes:	On the disk
 * @apparent:	With holes
 * @entries:	Files, directories and the rest
 * @sparse:	A file has holes
 */
struct snapshot_tree {
	struct snapshot_limits limits;
	uint64_t bytes;
	uint64_t apparent;
	uint64_t entries;
	bool sparse;
};

/**
 * snapshot_scan() - Walk through a layer
 * @dir:	Directory
 * @tree:	Adds up what is found
 * @e:		Why it can't be used in another place
 *
 * Return: 0, -EOPNOTSUPP, -EFBIG (a limit), or another negative errno
 */
int snapshot_scan(const char *dir, struct snapshot_tree *tree, struct err *e);

/**
 * snapshot_make() - Make a file and what is written down beside it
 * @work:	Work directory; it's made in `entry` there
 * @recipe:	How
 * @key:	Its name
 * @e:		Says what failed
 *
 * Return: 0 or a negative errno
 */
int snapshot_make(const struct workdir *work, const struct snapshot_recipe *recipe, const char *key,
		  struct err *e);

/**
 * snapshot_make_once() - Make a file without a name
 * @work:	Work directory
 * @dir:	Directory
 * @exclude:	Name in it that is left out
 * @verity:	With a hash tree
 * @ret:	The file
 * @e:		Says what failed
 *
 * Return: 0 or a negative errno
 */
int snapshot_make_once(const struct workdir *work, const char *dir, const char *exclude,
		       bool verity, struct snapshot_file *ret, struct err *e);

#endif
