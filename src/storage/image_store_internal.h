/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_IMAGE_STORE_INTERNAL_H
#define PODVM_STORAGE_IMAGE_STORE_INTERNAL_H

/* What the files of the image store share; image_store.h tells how it works. */

#include <limits.h>

#include "oci/digest.h"
#include "storage/image_store.h"
#include "storage/workdir.h"

#define IMAGE_WAIT_MS	(30 * 60 * 1000)
#define IMAGE_FORMAT	1 /* of an image's directory; another one is not understood */
#define IMAGE_USERS_MAX ((size_t)1 << 20)

/**
 * struct image_store - The store
 * @fd:		Its directory
 * @path:	Absolute path of it
 */
struct image_store {
	int fd;
	char path[PATH_MAX];
};

/**
 * struct image_meta - image.json
 * @digest:	Of the manifest
 * @config_digest: Of the config
 * @sha256:	Of root.erofs, hex digits
 * @size:	Bytes of root.erofs
 * @created:	When the image was built, "" if it doesn't tell
 * @stored:	When it was put here
 * @part:	What root.erofs holds: the file system, and its hash tree if it has one
 */
struct image_meta {
	char digest[OCI_DIGEST_LEN + 1];
	char config_digest[OCI_DIGEST_LEN + 1];
	char sha256[SHA256_HEX_SIZE];
	uint64_t size;
	char created[64];
	int64_t stored;
	struct disk_part part;
};

/** image_meta_write() - Write image.json into a directory. Return: 0 or a negative errno */
int image_meta_write(int dirfd, const struct image_meta *meta);

/** image_meta_read() - Read it. Return: 0, -EBADMSG (broken, another format), another -errno */
int image_meta_read(int dirfd, struct image_meta *ret);

/* The hex digits of "sha256:...": the name of the image's directory. */
static inline const char *digest_hex(const char *digest)
{
	return digest + strlen("sha256:");
}

/**
 * struct image_ref - What a name stood for when it was fetched last
 * @text:	The name
 * @digest:	The image
 * @stamp:	Identity of the archive file then, "" for registries
 */
struct image_ref {
	char *text;
	char digest[OCI_DIGEST_LEN + 1];
	char *stamp;
};

/** image_ref_done() - Free what it holds */
void image_ref_done(struct image_ref *ref);

/** image_ref_get() - Look a name up. Return: 0, -ENOENT or another negative errno */
int image_ref_get(const struct image_store *store, const char *text, struct image_ref *ret);

/** image_ref_set() - Remember what a name stands for. Return: 0 or a negative errno */
int image_ref_set(const struct image_store *store, const struct image_ref *ref);

/**
 * image_ref_each() - Go through all names
 * @store:	Store
 * @fn:		Called with each; a negative return value ends it
 * @data:	For @fn
 *
 * Return: 0, what @fn returned, or a negative errno
 */
int image_ref_each(const struct image_store *store,
		   int (*fn)(void *data, const struct image_ref *ref), void *data);

/** image_ref_forget() - Remove all names of an image. Return: 0 or a negative errno */
int image_ref_forget(const struct image_store *store, const char *digest);

/**
 * struct erofs_options - How to make an EROFS file
 * @digest:	Digest that the UUID is made of, NULL: a random one
 * @sparse:	The tree has files with holes
 * @exclude:	Path in the tree that is left out, or NULL
 */
struct erofs_options {
	const char *digest;
	bool sparse;
	const char *exclude;
};

/**
 * erofs_make() - Make an EROFS file of a directory
 * @root:	Directory
 * @file:	Path of the new file
 * @o:		How
 * @e:		Says what failed
 *
 * Return: 0 or a negative errno
 */
int erofs_make(const char *root, const char *file, const struct erofs_options *o, struct err *e);

/**
 * image_read_users() - Text of a file such as /etc/passwd of an image
 * @root_fd:	Its root directory, hostile
 * @path:	Path in it
 * @ret:	The text, "" when there is no such file; the caller frees it
 * @e:		Says what is wrong with it
 *
 * Return: 0, -EFBIG above IMAGE_USERS_MAX, or another negative errno
 */
int image_read_users(int root_fd, const char *path, char **ret, struct err *e);

/**
 * image_publish_meta() - Write image.json of an image that is complete but for that, and sync all
 * @out_fd:	Its directory
 * @meta:	Gets size and sha256
 *
 * Return: 0 or a negative errno
 */
int image_publish_meta(int out_fd, struct image_meta *meta);

/**
 * image_add_verity() - Put an image into the place of one that has no hash tree
 * @store:	Store
 * @digest:	Of the image; who uses it keeps the old files
 * @options:	Options
 * @e:		Says what failed
 *
 * Return: 0 or a negative errno
 */
int image_add_verity(const struct image_store *store, const char *digest,
		     const struct image_options *options, struct err *e);

/** image_enter_work() - A work directory; who has to wait for another process is told */
int image_enter_work(const struct image_store *store, const char *name,
		     const struct image_options *options, struct workdir **ret, struct err *e);

/**
 * image_convert() - Make the directory of an image and put it in its place
 * @store:	Store
 * @work:	Empty work directory, locked
 * @layout:	Where the layers are
 * @image:	The image
 * @options:	Options
 * @e:		Says what failed
 *
 * Return: 0 or a negative errno
 */
int image_convert(const struct image_store *store, const struct workdir *work,
		  const struct oci_layout *layout, const struct oci_image *image,
		  const struct image_options *options, struct err *e);

/**
 * image_convert_dir() - Make an image of a root file system, for one use
 * @store:	Store
 * @root:	Path of the root file system
 * @options:	Options
 * @ret:	The image
 * @e:		Says what failed
 *
 * Return: 0 or a negative errno
 */
int image_convert_dir(const struct image_store *store, const char *root,
		      const struct image_options *options, struct image **ret, struct err *e);

/**
 * image_open() - Open a finished image and hold it
 * @store:	Store
 * @digest:	Of its manifest
 * @ret:	The image, without @ref
 * @e:		Says what is damaged
 *
 * Return: 0, -ENOENT (there is none; @e is not touched) or another negative errno
 */
int image_open(const struct image_store *store, const char *digest, struct image **ret,
	       struct err *e);

/** image_new() - An image with nothing in it, or NULL */
struct image *image_new(void);

/** image_progress() - Tell what is being done */
static inline void image_progress(const struct image_options *options, const char *stage,
				  uint64_t done, uint64_t total)
{
	if (options->progress)
		options->progress(options->data, stage, done, total);
}

#endif
