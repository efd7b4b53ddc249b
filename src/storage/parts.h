/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_PARTS_H
#define PODVM_STORAGE_PARTS_H

/*
 * What a disk with images holds: usually one file system, else several, one after the other, and
 * behind each of them dm-verity's hash tree if it's to be checked. Offsets and sizes are multiples
 * of PART_BLOCK.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

#define PART_BLOCK     4096
#define PART_HASH_SIZE 32

/* A guest can't make more of one disk. */
#define PARTS_MAX 255

/**
 * struct disk_part - A file system in a file
 * @offset:	Where it begins
 * @size:	Bytes with its tree, 0: it's the whole file
 * @data:	Bytes before the tree, 0: there is no tree
 * @root_hash:	Of the tree
 */
struct disk_part {
	uint64_t offset;
	uint64_t size;
	uint64_t data;
	unsigned char root_hash[PART_HASH_SIZE];
};

/* Those of a file. */
struct disk_parts {
	struct disk_part *v;
	size_t n;
};

/** disk_parts_add() - Append one. Return: 0 or -ENOMEM */
int disk_parts_add(struct disk_parts *parts, const struct disk_part *part);

/** disk_parts_done() - Free what it holds */
void disk_parts_done(struct disk_parts *parts);

/**
 * disk_parts_write() - Write them down
 * @dirfd:	Directory
 * @name:	File in it
 * @parts:	Parts
 *
 * Return: 0 or a negative errno
 */
int disk_parts_write(int dirfd, const char *name, const struct disk_parts *parts);

/** disk_parts_read() - Read what was written. Return: 0, -ENOENT, -EBADMSG or another -errno */
int disk_parts_read(int dirfd, const char *name, struct disk_parts *ret);

/** disk_parts_parse() - Understand such a text. Return: 0, -EBADMSG or -ENOMEM */
int disk_parts_parse(const char *text, struct disk_parts *ret);

/** disk_hash_text() - A root hash as hexadecimal digits */
void disk_hash_text(const unsigned char hash[PART_HASH_SIZE], char text[2 * PART_HASH_SIZE + 1]);

/** disk_hash_parse() - And back. Return: 0 or -EBADMSG */
int disk_hash_parse(const char *text, unsigned char hash[PART_HASH_SIZE]);

/**
 * verity_append() - Make the hash tree of a file system, behind it in its file
 * @path:	The file; it's made a multiple of PART_BLOCK
 * @part:	Gets @data and @root_hash
 * @e:		Says what failed
 *
 * Runs veritysetup: whoever has no need of it doesn't load a library for it.
 *
 * Return: 0 or a negative errno
 */
int verity_append(const char *path, struct disk_part *part, struct err *e);

#endif
