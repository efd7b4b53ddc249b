/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_LAYER_H
#define PODVM_STORAGE_LAYER_H

/*
 * Theory of operation
 *
 * A layer is a tar file (ustar, pax or GNU), plain or compressed with gzip or zstd, that changes
 * a file tree: entries add and replace, `.wh.NAME` removes, `.wh..wh..opq` empties. It is applied
 * in one pass:
 *
 *	source -> libarchive as decompressor -> SHA-256, limits -> libarchive as tar reader -> tree
 *
 * The two halves of libarchive are separate so that the uncompressed bytes can be hashed between
 * them, up to the very last one behind the end of the archive. What was unpacked is worth nothing
 * until layer_apply() has returned 0 (diff_id) and the source was verified by who reads it.
 *
 * A layer is hostile input. tree.h tells how names stay inside. Besides:
 *
 *  - limits on bytes, entries, paths, xattrs and on the ratio of a decompression bomb
 *    (struct layer_limits), each with a message of its own;
 *  - nothing is ever written through an object that exists: it is removed and made anew, since
 *    it may be a hard link to something of a lower layer;
 *  - of the extended attributes `user.*` and `security.capability` are kept; others would mean
 *    something to the guest's overlayfs or to security modules and are dropped;
 *  - the archive's text is never converted between character sets: libarchive works in the C
 *    locale, where it hands out the bytes as they are (in a UTF-8 one it would normalise names).
 *
 * Specification: OCI image-spec v1.1, layer.md.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/**
 * struct layer_limits - What an image may ask for; a limit is named in the error it causes
 * @bytes:	Uncompressed bytes of all layers together, and as much in files
 * @entries:	Objects of all layers together
 * @ratio:	Uncompressed bytes per compressed one, checked beyond...
 * @ratio_from:	...this many uncompressed bytes of one layer
 * @path:	Bytes of a path
 * @depth:	Directories above an object
 * @xattrs:	Bytes of names and values of one object's extended attributes
 */
struct layer_limits {
	uint64_t bytes;
	uint64_t entries;
	uint64_t ratio;
	uint64_t ratio_from;
	size_t path;
	size_t depth;
	size_t xattrs;
};

/* mkfs.erofs takes 4.6 KiB of memory for each (measured with 100000 files). */
#define LAYER_MAX_ENTRIES 1000000

#define LAYER_LIMITS_DEFAULT                                     \
	((struct layer_limits){ .bytes = (uint64_t)64 << 30,     \
				.entries = LAYER_MAX_ENTRIES,    \
				.ratio = 500,                    \
				.ratio_from = (uint64_t)4 << 30, \
				.path = 3072,                    \
				.depth = 256,                    \
				.xattrs = 64 << 10 })

/**
 * struct layer_source - Where the bytes of a layer come from
 * @read:	Puts up to @n (> 0) bytes at @buf. Return: bytes, 0 at the end, negative errno
 * @data:	For @read
 */
struct layer_source {
	ssize_t (*read)(void *data, void *buf, size_t n, struct err *e);
	void *data;
};

/**
 * struct layer_target - What the layers of one image are applied to
 * @root_fd:	Directory, private to root; borrowed
 * @limits:	Limits
 * @bytes:	Uncompressed bytes so far; starts with 0 like the rest
 * @file_bytes:	Sizes of files so far
 * @entries:	Entries so far
 * @sparse:	A file has holes
 */
struct layer_target {
	int root_fd;
	struct layer_limits limits;
	uint64_t bytes;
	uint64_t file_bytes;
	uint64_t entries;
	bool sparse;
};

/**
 * layer_apply() - Unpack a layer on top of those that were applied before
 * @target:	Target; after a failure its directory is garbage
 * @source:	The blob
 * @diff_id:	"sha256:..." of the uncompressed tar, NULL: not known
 * @e:		Says which entry or limit
 *
 * Has to be root: owners and device nodes are made as they are.
 *
 * Return: 0, -EBADMSG (broken or hostile, wrong digest), -EFBIG (a limit), -ENOSPC or another
 * negative errno
 */
int layer_apply(struct layer_target *target, const struct layer_source *source, const char *diff_id,
		struct err *e);

#endif
