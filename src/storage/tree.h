/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_TREE_H
#define PODVM_STORAGE_TREE_H

/*
 * Theory of operation
 *
 * A tree is the directory into which the layers of an image are unpacked. It resolves the names
 * of archive entries like containerd does: as if the tree were the root file system, so that a
 * symbolic link among the parents is followed and neither it nor `..` leads out; the last
 * component is never followed. All work happens relative to the descriptor of the parent.
 *
 * One parent is open at a time, because entries of one directory follow each other in practice.
 * When the next one is opened the modification time of the former is put back: what happens in
 * a directory must not change its time, only its own entry does. So a tree depends on nothing
 * but the layers.
 *
 * Whiteouts hide what lower layers brought and never what the layer itself brings, whichever
 * comes first in the archive. For that the tree remembers the names that the layer made, as hashes
 * of (inode of the directory, name).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"

#define TREE_PATH_MAX 3072 /* bytes of a path below the root: mkfs.erofs puts its own before it */

/**
 * struct tree - A directory being filled by one layer
 * @root_fd:	Its root, borrowed
 * @max_path:	Longest path below the root, at most TREE_PATH_MAX
 * @max_depth:	Most directories above an object
 * @objects_left: How many directories may still be made, counted down
 * @parent_fd:	The directory that is open, or < 0
 * @parent:	Its name as the archive has it, "" for the root
 * @parent_ino:	Its inode
 * @parent_len:	Length of its real path below the root
 * @parent_depth: Directories of its real path below the root
 * @parent_mtime: Modification time that it gets back
 * @made:	Hashes of the names that this layer made: open addressing, 0 is a free slot
 * @n_made:	How many
 * @made_size:	Slots, a power of two
 */
struct tree {
	int root_fd;
	size_t max_path;
	size_t max_depth;
	uint64_t objects_left;
	int parent_fd;
	char parent[TREE_PATH_MAX + 1];
	uint64_t parent_ino;
	size_t parent_len;
	size_t parent_depth;
	struct timespec parent_mtime;
	uint64_t *made;
	size_t n_made;
	size_t made_size;
};

/** tree_init() - Start to fill the directory @root_fd (borrowed until tree_done()) */
void tree_init(struct tree *t, int root_fd, size_t max_path, size_t max_depth,
	       uint64_t max_objects);

/** tree_done() - Release everything and put the last modification time back */
void tree_done(struct tree *t);

/**
 * tree_clean_name() - Normalise the name of an archive entry
 * @t:		Tree, for its limits
 * @name:	Name: leading slashes, `.` and empty components are dropped
 * @out:	The result, TREE_PATH_MAX + 1 bytes; empty for the root itself
 * @e:		Says which name was refused and why
 *
 * Return: 0, -EBADMSG for a name with `..`, -ENAMETOOLONG
 */
int tree_clean_name(const struct tree *t, const char *name, char *out, struct err *e);

/**
 * tree_enter() - Open the directory that holds an object
 * @t:		Tree
 * @path:	Normalised, not empty
 * @make:	Make directories that are missing (0755, root)
 * @ret_name:	Last component, points into @path
 * @e:		Says what is wrong with which path
 *
 * Afterwards t->parent_fd is that directory, until the next call.
 *
 * Return: 0, -ENOENT when it is missing and @make isn't set (@e is not touched), another
 * negative errno
 */
int tree_enter(struct tree *t, const char *path, bool make, const char **ret_name, struct err *e);

/** tree_leave() - Close the directory that is open and put its modification time back */
void tree_leave(struct tree *t);

/** tree_made() - Remember that this layer made @name in the open parent. Return: 0 or -ENOMEM */
int tree_made(struct tree *t, const char *name);

/** tree_hide() - Remove what lower layers brought as @name in the open parent. Return: -errno */
int tree_hide(struct tree *t, const char *name);

/** tree_hide_all() - Remove everything lower layers brought in the open parent. Return: -errno */
int tree_hide_all(struct tree *t);

#endif
