/* SPDX-License-Identifier: Apache-2.0 */

/* From layers, or from a directory, to a finished image. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/fd.h"
#include "storage/image_store_internal.h"
#include "storage/layer.h"

/* Less than this is left of a disk that counts as full. */
#define SPACE_LEFT ((uint64_t)4 << 20)

static uint64_t free_space(int fd)
{
	struct statvfs st;

	return fstatvfs(fd, &st) < 0 ? 0 : (uint64_t)st.f_bavail * st.f_frsize;
}

static int no_space(const struct image_store *store, uint64_t need, struct err *e)
{
	err_set(e, -ENOSPC, "no space in %s: %llu MiB are free, about %llu MiB are needed",
		store->path, (unsigned long long)(free_space(store->fd) >> 20),
		(unsigned long long)(need >> 20));
	err_hint(e, "Free some, e.g. with: podvm image prune --all");
	return -ENOSPC;
}

/* Bytes of all layers as they are stored, which is what the manifest claims. */
static uint64_t layer_bytes(const struct oci_image *image)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < image->n_layers; i++)
		if (__builtin_add_overflow(sum, image->layers[i].desc.size, &sum))
			return UINT64_MAX;
	return sum;
}

/*
 * What will be needed isn't known before the layers were uncompressed. They are unpacked and then
 * written a second time, so twice their size is the least and this is a usual value.
 */
static uint64_t usual_space(const struct oci_image *image)
{
	return MIN(layer_bytes(image), UINT64_MAX / 8) * 5 + SPACE_LEFT;
}

static int check_space(const struct image_store *store, const struct oci_image *image,
		       struct err *e)
{
	if (free_space(store->fd) / 2 >= layer_bytes(image))
		return 0;
	return no_space(store, usual_space(image), e);
}

/**
 * struct progress - Reading the layers, as seen by who waits
 * @blob:	The layer that is read
 * @options:	Whom to tell
 * @stage:	What
 * @done:	Bytes of all layers so far
 * @total:	Bytes of all layers
 */
struct progress {
	struct oci_blob *blob;
	const struct image_options *options;
	char stage[64];
	uint64_t done;
	uint64_t total;
};

static ssize_t read_blob(void *data, void *buf, size_t n, struct err *e)
{
	struct progress *p = data;
	ssize_t got = oci_blob_read(p->blob, buf, n, e);

	if (got > 0) {
		p->done += (uint64_t)got;
		image_progress(p->options, p->stage, p->done, p->total);
	}
	return got;
}

static int unpack_layer(const struct oci_layout *layout, const struct oci_layer *layer,
			struct layer_target *target, struct progress *p, struct err *e)
{
	_cleanup_(oci_blob_freep) struct oci_blob *blob = NULL;
	struct layer_source source = { .read = read_blob, .data = p };
	int r;

	r = oci_blob_open(layout, &layer->desc, &blob, e);
	p->blob = blob;
	if (r == 0)
		r = layer_apply(target, &source, layer->diff_id, e);
	if (r == 0)
		r = oci_blob_finish(blob, e);
	return r < 0 ? err_wrap(e, "layer %.19s", layer->desc.digest) : 0;
}

static int unpack(const struct oci_layout *layout, const struct oci_image *image,
		  struct layer_target *target, const struct image_options *options, struct err *e)
{
	struct progress p = { .options = options };
	int r = 0;

	p.total = layer_bytes(image);
	for (size_t i = 0; i < image->n_layers && r == 0; i++) {
		snprintf(p.stage, sizeof(p.stage), "unpacking layer %zu of %zu", i + 1,
			 image->n_layers);
		r = unpack_layer(layout, &image->layers[i], target, &p, e);
	}
	return r;
}

/* An empty root directory with a time that doesn't depend on today. */
static int make_root(int dirfd, const char *name)
{
	static const struct timespec epoch[2];
	int fd;

	if (mkdirat(dirfd, name, 0755) < 0)
		return -errno;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0755) < 0 || futimens(fd, epoch) < 0) {
		close(fd);
		return -errno;
	}
	return fd;
}

int image_read_users(int root_fd, const char *path, char **ret, struct err *e)
{
	_cleanup_(close_fdp) int fd = open_in_root(root_fd, path, O_PATH, 0);
	char link[64];
	struct stat st;
	int r;

	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP) {
		*ret = strdup("");
		return *ret ? 0 : err_oom(e);
	}
	/* It is opened for reading only when it can't be a device, where that may do something. */
	r = fd < 0 ? fd : fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EBADMSG;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (r == 0)
		r = file_read(AT_FDCWD, link, IMAGE_USERS_MAX, ret, NULL);
	return r < 0 ? err_errno(e, r, "cannot read /%s of the image", path) : 0;
}

static int write_users(int root_fd, int out_fd, struct err *e)
{
	static const char *const files[][2] = { { "etc/passwd", "passwd" },
						{ "etc/group", "group" } };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_(freep) char *text = NULL;
		int r = image_read_users(root_fd, files[i][0], &text, e);

		if (r < 0)
			return r;
		r = file_replace(out_fd, files[i][1], text, strlen(text), 0600);
		if (r < 0)
			return err_errno(e, r, "cannot write %s", files[i][1]);
	}
	return 0;
}

static int sync_files(int dirfd)
{
	static const char *const names[] = { "root.erofs", "image.json", "config.json", "passwd",
					     "group" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_(close_fdp) int fd = openat(dirfd, names[i], O_RDONLY | O_CLOEXEC);

		if (fd < 0 || fsync(fd) < 0)
			return -errno;
	}
	return fsync(dirfd) < 0 ? -errno : 0;
}

int image_publish_meta(int out_fd, struct image_meta *meta)
{
	_cleanup_(close_fdp) int fd = openat(out_fd, "root.erofs", O_RDONLY | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	meta->size = (uint64_t)st.st_size;
	r = sha256_file(fd, meta->sha256);
	if (r == 0)
		r = image_meta_write(out_fd, meta);
	return r < 0 ? r : sync_files(out_fd);
}

/* image.json and config.json beside root.erofs, which is there already. */
static int write_meta(int out_fd, const struct oci_image *image, const struct disk_part *part,
		      struct err *e)
{
	struct image_meta meta = { .stored = time(NULL), .part = *part };
	int r;

	snprintf(meta.digest, sizeof(meta.digest), "%s", image->digest);
	snprintf(meta.config_digest, sizeof(meta.config_digest), "%s", image->config_digest);
	snprintf(meta.created, sizeof(meta.created), "%s",
		 image->config.created ? image->config.created : "");
	r = file_replace(out_fd, "config.json", image->config_json, strlen(image->config_json),
			 0600);
	if (r == 0)
		r = image_publish_meta(out_fd, &meta);
	return r < 0 ? err_errno(e, r, "cannot write the image") : 0;
}

static int make_erofs(const struct workdir *work, const char *root, const char *out,
		      const struct erofs_options *o, const struct image_options *options,
		      struct disk_part *part, struct err *e)
{
	_cleanup_(freep) char *file = str_printf("%s/%s", work->path, out);
	int r;

	if (!file)
		return err_oom(e);
	image_progress(options, "making the file system", 0, 0);
	r = erofs_make(root, file, o, e);
	if (r < 0 || !options->verity)
		return r;
	image_progress(options, "making the hash tree", 0, 0);
	return verity_append(file, part, e);
}

/* Everything that an image consists of, in work/image. */
static int build(const struct workdir *work, const struct oci_layout *layout,
		 const struct oci_image *image, const struct image_options *options, struct err *e)
{
	_cleanup_(freep) char *root = str_printf("%s/root", work->path);
	_cleanup_(close_fdp) int root_fd = make_root(work->fd, "root");
	_cleanup_(close_fdp) int out_fd = make_root(work->fd, "image");
	struct layer_target target = {
		.root_fd = root_fd,
		.limits = options->limits ? *options->limits : LAYER_LIMITS_DEFAULT,
	};
	struct erofs_options o = { .digest = image->digest };
	struct disk_part part = { 0 };
	int r;

	if (!root)
		return err_oom(e);
	if (root_fd < 0 || out_fd < 0)
		return err_errno(e, root_fd < 0 ? root_fd : out_fd, "cannot work in %s",
				 work->path);
	r = unpack(layout, image, &target, options, e);
	if (r < 0)
		return r;
	o.sparse = target.sparse;
	r = make_erofs(work, root, "image/root.erofs", &o, options, &part, e);
	if (r == 0)
		r = write_users(root_fd, out_fd, e);
	return r < 0 ? r : write_meta(out_fd, image, &part, e);
}

static int publish(const struct image_store *store, const struct workdir *work, const char *digest,
		   struct err *e)
{
	if (renameat2(work->fd, "image", store->fd, digest_hex(digest), RENAME_NOREPLACE) < 0 ||
	    fsync(store->fd) < 0)
		return err_errno(e, -errno, "cannot put the image into %s", store->path);
	return 0;
}

/* Whatever reports it: when the disk is full, that is what the user has to know. */
static int explain_space(const struct image_store *store, uint64_t need, int r, struct err *e)
{
	if (r == -ENOSPC || r == -EDQUOT || (r == -ECHILD && free_space(store->fd) < SPACE_LEFT))
		return no_space(store, need, e);
	return r;
}

int image_convert(const struct image_store *store, const struct workdir *work,
		  const struct oci_layout *layout, const struct oci_image *image,
		  const struct image_options *options, struct err *e)
{
	int r;

	r = check_space(store, image, e);
	if (r == 0)
		r = build(work, layout, image, options, e);
	if (r == 0)
		r = publish(store, work, image->digest, e);
	return r < 0 ? explain_space(store, usual_space(image), r, e) : 0;
}

/* The file needs no name: it is gone when the image is released. */
static int open_temporary(const struct workdir *work, int root_fd, struct image *image,
			  struct err *e)
{
	struct stat st;
	int r;

	image->fd = openat(work->fd, "root.erofs", O_RDONLY | O_CLOEXEC);
	if (image->fd < 0 || fstat(image->fd, &st) < 0)
		return err_errno(e, -errno, "cannot open the image in %s", work->path);
	image->size = (uint64_t)st.st_size;
	r = image_read_users(root_fd, "etc/passwd", &image->passwd, e);
	return r < 0 ? r : image_read_users(root_fd, "etc/group", &image->group, e);
}

int image_convert_dir(const struct image_store *store, const char *root,
		      const struct image_options *options, struct image **ret, struct err *e)
{
	_cleanup_(image_freep) struct image *image = image_new();
	_cleanup_(workdir_removep) struct workdir *work = NULL;
	_cleanup_(close_fdp) int root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char name[16] = "dir-";
	int r;

	if (!image)
		return err_oom(e);
	if (root_fd < 0)
		return err_errno(e, -errno, "cannot open %s", root);
	r = random_hex(name + 4, 8);
	if (r < 0)
		return err_errno(e, r, "cannot make a name");
	r = workdir_open(store->path, name, IMAGE_WAIT_MS, &work, e);
	if (r < 0)
		return r;
	r = make_erofs(work, root, "root.erofs", &(struct erofs_options){ 0 }, options,
		       &image->part, e);
	if (r == 0)
		r = open_temporary(work, root_fd, image, e);
	if (r < 0)
		return explain_space(store, 0, r, e);
	*ret = TAKE_PTR(image);
	return 0;
}
