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
 * is.
 *
 * Who uses a file holds a shared flock(2) lock on it, by the descriptor that is handed to the
 * monitor: so the lock ends with the use. What belongs to a directory that is gone is removed when
 * another file is made, unless it's locked.
 *
 * All functions block, for as long as it takes to copy a layer; they are for a child process.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* containerd's erofs snapshotter: the file beside the directory `fs`. */
#define SNAPSHOT_BLOB "layer.erofs"

/**
 * snapshot_blob() - The EROFS file that the snapshotter itself has made of a layer
 * @dir:	Directory of the layer
 *
 * Return: Descriptor, locked, -ENOENT when there is none, or another negative errno
 */
int snapshot_blob(const char *dir);

/**
 * snapshot_image() - The EROFS file of a layer or of several joined, made if it isn't there
 * @cache:	Directory of the cache
 * @dirs:	Directories of the layers, top first; absolute paths
 * @n:		How many
 * @e:		Says what failed
 *
 * Joining needs a mount namespace of one's own, so the caller gets one.
 *
 * Return: Descriptor, locked, or a negative errno: -EOPNOTSUPP (a layer can't be used so),
 * -ENOSPC, -ENOENT (no such directory, or no mkfs.erofs)
 */
int snapshot_image(const char *cache, char *const *dirs, size_t n, struct err *e);

/**
 * snapshot_image_once() - An EROFS file of a directory that may change later
 * @cache:	Directory of the cache, for the work
 * @dir:	Directory
 * @exclude:	Name in it that is left out
 * @e:		Says what failed
 *
 * Return: Descriptor of a file that has no name any more, or a negative errno as snapshot_image()
 */
int snapshot_image_once(const char *cache, const char *dir, const char *exclude, struct err *e);

/**
 * snapshot_prune() - Remove what belongs to directories that are gone, and what died half-way
 * @cache:	Directory of the cache
 * @all:	Everything that isn't in use
 * @freed:	Their bytes are added
 *
 * Return: How many files were removed, or a negative errno
 */
int snapshot_prune(const char *cache, bool all, uint64_t *freed);

#endif
