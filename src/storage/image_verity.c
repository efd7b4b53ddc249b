/* SPDX-License-Identifier: Apache-2.0 */

/* Hash trees for images that were put into the store without. */

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "storage/copy.h"
#include "storage/image_store_internal.h"

static int copy_file(int from_fd, int to_fd, const char *name)
{
	_cleanup_(close_fdp) int in = openat(from_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(close_fdp) int out = openat(to_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
					      0600);
	struct stat st;

	if (in < 0 || out < 0 || fstat(in, &st) < 0)
		return -errno;
	return file_append(out, in, (uint64_t)st.st_size);
}

static int copy_image(int from_fd, int to_fd, struct err *e)
{
	static const char *const names[] = { "root.erofs", "config.json", "passwd", "group" };
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++)
		r = copy_file(from_fd, to_fd, names[i]);
	return r < 0 ? err_errno(e, r, "cannot copy the image") : 0;
}

/* A copy with the tree, in work/image. */
static int make_copy(const struct workdir *work, int dir_fd, const struct image_options *options,
		     struct err *e)
{
	_cleanup_(freep) char *file = str_printf("%s/image/root.erofs", work->path);
	_cleanup_(close_fdp) int out_fd = -EBADF;
	struct image_meta meta;
	int r;

	if (!file)
		return err_oom(e);
	r = image_meta_read(dir_fd, &meta);
	if (r < 0)
		return err_errno(e, r, "image.json cannot be read");
	if (mkdirat(work->fd, "image", 0755) == 0)
		out_fd = openat(work->fd, "image", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (out_fd < 0)
		return err_errno(e, -errno, "cannot work in %s", work->path);
	r = copy_image(dir_fd, out_fd, e);
	if (r < 0)
		return r;
	image_progress(options, "making the hash tree", 0, 0);
	r = verity_append(file, &meta.part, e);
	if (r < 0)
		return r;
	r = image_publish_meta(out_fd, &meta);
	return r < 0 ? err_errno(e, r, "cannot write the image") : 0;
}

int image_add_verity(const struct image_store *store, const char *digest,
		     const struct image_options *options, struct err *e)
{
	_cleanup_(freep) char *name = str_printf("verity-%s", digest_hex(digest));
	_cleanup_(workdir_removep) struct workdir *work = NULL;
	_cleanup_(image_freep) struct image *image = NULL;
	int r;

	if (!name)
		return err_oom(e);
	r = image_enter_work(store, name, options, &work, e);
	if (r == 0)
		r = image_open(store, digest, &image, e);
	/* Whoever had it before may have done it. */
	if (r < 0 || image->part.data)
		return r;
	r = make_copy(work, image->dir_fd, options, e);
	if (r < 0)
		return r;
	if (renameat2(work->fd, "image", store->fd, digest_hex(digest), RENAME_EXCHANGE) < 0 ||
	    fsync(store->fd) < 0)
		return err_errno(e, -errno, "cannot put the image into %s", store->path);
	return 0;
}
