/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_SNAPSHOT_H
#define PODVM_STORAGE_SNAPSHOT_H

/*
 * Theory of operation
 *
 * A layer of containerd's overlay snapshotter is a directory that never changes any more. The
 * guest gets it as an EROFS file, which is made once and shared by everything that uses the layer:
 *
 *	<cache>/snapshots/<64 hex digits>/	by the identity of the directory
 *		layer.erofs
 *		source				path of the directory
 *	<cache>/snapshots/tmp/<name>/		unfinished work, see workdir.h
 *
 * The identity of a directory is its path, device, inode and birth time: one of the same name that
 * was made later is another one. Layers can be joined: the name is then that of all their
 * identities, and the file is made of a read-only overlay of them.
 *
 * The file has everything that the directory has, among it the whiteouts and opaque directories
 * that overlayfs of the host has made: overlayfs of the guest reads them. A layer that refers to
 * others by name (redirect_dir, metacopy) is refused.
 *
 * containerd's erofs snapshotter keeps such a file beside the directory already: that's used as it
 * is. When an image has more of these than a machine has room for, some are copied into one file,
 * as its parts (parts.h): a file system can do without the host's mounting it, and where the host's
 * file system shares blocks (XFS, btrfs) the copy costs nothing.
 *
 * A file that the guest is to check with dm-verity has its hash tree behind it and the root hash
 * beside it; the snapshotter's own files are copied for that.
 *
 *	<cache>/snapshots/<hex digits>v/	a layer with its hash tree, in the same way
 *	<cache>/snapshots/<hex digits>b/	...and one of the snapshotter's files
 *	<cache>/snapshots/<hex digits>p/	several files in one
 *		parts				root hashes, and what is where
 *
 * Who uses a file holds a shared flock(2) lock on it, by the descriptor that is handed to the
 * monitor: so the lock ends with the use. What belongs to a directory that is gone is removed when
 * another file is made, unless it's locked.
 *
 * A layer is hostile input: it has limits, mkfs.erofs is a process of its own, and nothing of it
 * is ever mounted from its file here.
 *
 * All functions block, for as long as it takes to copy a layer; they are for a child process.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "storage/parts.h"
#include "storage/prune.h"

/* containerd's erofs snapshotter: the file beside the directory `fs`. */
#define SNAPSHOT_BLOB "layer.erofs"

/**
 * struct snapshot_cache - Where files are kept and how they are made
 * @dir:	Directory of the cache
 * @verity:	The guest is to check them
 * @rules:	What goes when one was made, besides what nobody can want any more
 */
struct snapshot_cache {
	const char *dir;
	bool verity;
	struct prune_rules rules;
};

/**
 * struct snapshot_file - A disk with layers
 * @fd:		Open and locked
 * @path:	Its name, NULL: it has none
 * @parts:	What it holds; none: it's one file system that isn't checked
 */
struct snapshot_file {
	int fd;
	char *path;
	struct disk_parts parts;
};

#define SNAPSHOT_FILE_INIT ((struct snapshot_file){ .fd = -EBADF })

/** snapshot_file_done() - Close it */
void snapshot_file_done(struct snapshot_file *file);

/**
 * snapshot_blob() - The EROFS file that the snapshotter itself has made of a layer
 * @cache:	The cache, for copies
 * @dir:	Directory of the layer
 * @ret:	The file, initialised
 * @e:		Says what failed; not touched with -ENOENT
 *
 * Return: 0, -ENOENT when there is none, or another negative errno
 */
int snapshot_blob(const struct snapshot_cache *cache, const char *dir, struct snapshot_file *ret,
		  struct err *e);

/**
 * snapshot_image() - The EROFS file of a layer or of several joined, made if it isn't there
 * @cache:	The cache
 * @dirs:	Directories of the layers, top first; absolute paths
 * @n:		How many
 * @ret:	The file, initialised
 * @e:		Says what failed
 *
 * Joining needs a mount namespace of one's own, so the caller gets one.
 *
 * Return: 0 or a negative errno: -EOPNOTSUPP (a layer can't be used so), -EFBIG (above a limit),
 * -ENOSPC, -ENOENT (no such directory, or no mkfs.erofs)
 */
int snapshot_image(const struct snapshot_cache *cache, char *const *dirs, size_t n,
		   struct snapshot_file *ret, struct err *e);

/**
 * snapshot_pack() - Several files as parts of one, made if it isn't there
 * @cache:	The cache
 * @files:	Files with names
 * @n:		How many, at most PARTS_MAX
 * @ret:	The file, initialised; its parts are those of @files in their order
 * @e:		Says what failed
 *
 * Return: 0 or a negative errno
 */
int snapshot_pack(const struct snapshot_cache *cache, const struct snapshot_file *files, size_t n,
		  struct snapshot_file *ret, struct err *e);

/**
 * snapshot_image_once() - An EROFS file of a directory that may change later
 * @cache:	The cache, for the work
 * @dir:	Directory
 * @exclude:	Name in it that is left out
 * @ret:	A file that has no name any more, initialised
 * @e:		Says what failed
 *
 * Return: 0 or a negative errno as snapshot_image()
 */
int snapshot_image_once(const struct snapshot_cache *cache, const char *dir, const char *exclude,
			struct snapshot_file *ret, struct err *e);

/**
 * snapshot_prune() - Remove files, and what died half-way
 * @cache:	Directory of the cache
 * @rules:	Which; nobody wants those any more that were made of what is gone
 * @result:	Counts what has gone
 *
 * Return: 0 or a negative errno
 */
int snapshot_prune(const char *cache, const struct prune_rules *rules, struct prune_result *result);

#endif
