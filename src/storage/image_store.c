/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/image_store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/log.h"
#include "storage/image_store_internal.h"
#include "storage/lock.h"

#define HOLD_MS 10000

int image_store_open(const char *dir, struct image_store **ret, struct err *e)
{
	_cleanup_(image_store_freep) struct image_store *store = calloc(1, sizeof(*store));
	int r;

	if (!store)
		return err_oom(e);
	store->fd = -EBADF;
	r = mkdir_p(dir, 0700);
	if (r < 0) {
		err_errno(e, r, "cannot make the image store %s", dir);
		err_hint(e, "Run as root, or choose another directory.");
		return r;
	}
	store->fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store->fd < 0 || !realpath(dir, store->path))
		return err_errno(e, -errno, "cannot open the image store %s", dir);
	*ret = TAKE_PTR(store);
	return 0;
}

void image_store_free(struct image_store *store)
{
	if (!store)
		return;
	if (store->fd >= 0)
		close(store->fd);
	free(store);
}

struct image *image_new(void)
{
	struct image *image = calloc(1, sizeof(*image));

	if (image)
		image->fd = image->dir_fd = -EBADF;
	return image;
}

void image_free(struct image *image)
{
	if (!image)
		return;
	if (image->fd >= 0)
		close(image->fd);
	oci_config_done(&image->config);
	free(image->ref);
	free(image->passwd);
	free(image->group);
	/* The last one, it holds the lock. */
	if (image->dir_fd >= 0)
		close(image->dir_fd);
	free(image);
}

/* The directory of an image, held by a shared lock. Return: -ENOENT also when it was just removed */
static int hold(const struct image_store *store, const char *digest)
{
	_cleanup_(close_fdp) int fd = openat(store->fd, digest_hex(digest),
					     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat ours;
	struct stat named;
	int r;

	if (fd < 0)
		return -errno;
	/* Others lock it exclusively only for a moment, to list it or to move it away. */
	r = lock_wait(fd, LOCK_SH, HOLD_MS);
	if (r < 0)
		return r;
	/* Its time tells when it was used last. */
	(void)futimens(fd, NULL);
	if (fstat(fd, &ours) < 0 ||
	    fstatat(store->fd, digest_hex(digest), &named, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return ours.st_ino == named.st_ino ? TAKE_FD(fd) : -ENOENT;
}

static int read_image(struct image *image, struct err *e)
{
	_cleanup_(freep) char *config = NULL;
	struct image_meta meta;
	struct stat st;
	size_t len;
	int r;

	r = image_meta_read(image->dir_fd, &meta);
	if (r == 0)
		r = file_read(image->dir_fd, "config.json", OCI_DOC_MAX, &config, &len);
	if (r == 0)
		r = file_read(image->dir_fd, "passwd", IMAGE_USERS_MAX, &image->passwd, NULL);
	if (r == 0)
		r = file_read(image->dir_fd, "group", IMAGE_USERS_MAX, &image->group, NULL);
	if (r < 0)
		return err_errno(e, r, "its files cannot be read");
	image->fd = openat(image->dir_fd, "root.erofs", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (image->fd < 0 || fstat(image->fd, &st) < 0)
		return err_errno(e, -errno, "root.erofs cannot be opened");
	image->size = (uint64_t)st.st_size;
	image->part = meta.part;
	if (image->size != meta.size)
		return err_set(e, -EBADMSG, "root.erofs has %llu bytes instead of %llu",
			       (unsigned long long)image->size, (unsigned long long)meta.size);
	return oci_config_parse(config, len, &image->config, NULL, e);
}

int image_open(const struct image_store *store, const char *digest, struct image **ret,
	       struct err *e)
{
	_cleanup_(image_freep) struct image *image = image_new();
	int r;

	if (!image)
		return err_oom(e);
	snprintf(image->digest, sizeof(image->digest), "%s", digest);
	image->dir_fd = hold(store, digest);
	if (image->dir_fd == -ENOENT)
		return -ENOENT;
	if (image->dir_fd < 0)
		return err_errno(e, image->dir_fd, "cannot open image %s", digest);
	r = read_image(image, e);
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		err_wrap(e, "image %.19s in the store is damaged", digest);
		err_hint(e, "Remove it and it will be made again: podvm image rm %.19s", digest);
		/* -ENOENT would mean that there is no such image. */
		return -EBADMSG;
	}
	*ret = TAKE_PTR(image);
	return 0;
}

/* Paths become absolute, so that a name means the same wherever it is used. */
static int parse_ref(const char *text, struct oci_ref *ref, char **ret_text, struct err *e)
{
	char *path;
	int r;

	r = oci_ref_parse(text, ref, e);
	if (r < 0)
		return r;
	if (ref->path) {
		path = realpath(ref->path, NULL);
		if (!path)
			return err_errno(e, -errno, "cannot find image %s", ref->path);
		free(ref->path);
		ref->path = path;
	}
	*ret_text = oci_ref_text(ref);
	return *ret_text ? 0 : err_oom(e);
}

/* What identifies an archive file: when it changes, so does this. */
static int make_stamp(const struct oci_ref *ref, char **ret, struct err *e)
{
	struct stat st;

	if (ref->transport == OCI_DOCKER) {
		*ret = strdup("");
		return *ret ? 0 : err_oom(e);
	}
	if (stat(ref->path, &st) < 0)
		return err_errno(e, -errno, "cannot find image %s", ref->path);
	*ret = str_printf("%llu:%llu:%lld:%lld.%09ld:%lld.%09ld", (unsigned long long)st.st_dev,
			  (unsigned long long)st.st_ino, (long long)st.st_size,
			  (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
			  (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
	return *ret ? 0 : err_oom(e);
}

int image_enter_work(const struct image_store *store, const char *name,
		     const struct image_options *options, struct workdir **ret, struct err *e)
{
	int r = workdir_open(store->path, name, 0, ret, e);

	if (r != -EWOULDBLOCK)
		return r;
	image_progress(options, "waiting for another process that makes this image", 0, 0);
	return workdir_open(store->path, name, options->wait_ms, ret, e);
}

/* An image that is there, with a hash tree if one is wanted. Return: -ENOENT: it isn't there */
static int open_wanted(const struct image_store *store, const char *digest,
		       const struct image_options *options, struct image **ret, struct err *e)
{
	int r = image_open(store, digest, ret, e);

	if (r < 0 || !options->verity || (*ret)->part.data)
		return r;
	image_free(TAKE_PTR(*ret));
	r = image_add_verity(store, digest, options, e);
	return r < 0 ? r : image_open(store, digest, ret, e);
}

/* The image that a name stood for when it was fetched last. Return: -ENOENT: fetch it */
static int get_known(const struct image_store *store, const char *text, const char *stamp,
		     const struct image_options *options, struct image **ret, struct err *e)
{
	_cleanup_(image_ref_done) struct image_ref known = { 0 };

	if (image_ref_get(store, text, &known) < 0 || !str_eq(known.stamp, stamp))
		return -ENOENT;
	return open_wanted(store, known.digest, options, ret, e);
}

/* One more is in the store: others may have to go. */
static void make_room(const struct image_store *store, const struct image_options *options)
{
	struct prune_result gone = { 0 };
	struct err e = { 0 };

	if (!options->rules.max_bytes && !options->rules.max_age)
		return;
	if (image_store_prune(store, &options->rules, &gone, &e) < 0)
		log_warn("cannot make room in the store", "error=\"%s\"", e.msg);
	else if (gone.removed > 0)
		log_info("images were removed from the cache", "images=%zu bytes=%llu",
			 gone.removed, (unsigned long long)gone.freed);
}

/* The image of a layout that is open: from the store, or made now. */
static int get_loaded(const struct image_store *store, const struct oci_layout *layout,
		      const struct oci_image *oci, const struct image_options *options,
		      struct image **ret, struct err *e)
{
	_cleanup_(workdir_removep) struct workdir *work = NULL;
	int r;

	r = open_wanted(store, oci->digest, options, ret, e);
	if (r != -ENOENT)
		return r;
	r = image_enter_work(store, digest_hex(oci->digest), options, &work, e);
	if (r < 0)
		return r;
	/* Whoever had it before may have made the image. */
	r = open_wanted(store, oci->digest, options, ret, e);
	if (r != -ENOENT)
		return r;
	(void)workdir_sweep(store->path);
	r = image_convert(store, work, layout, oci, options, e);
	if (r < 0)
		return r;
	r = image_open(store, oci->digest, ret, e);
	if (r == 0)
		make_room(store, options);
	return r == -ENOENT ? err_set(e, r, "image %.19s was removed at once", oci->digest) : r;
}

static int get_from_layout(const struct image_store *store, const char *path, const char *tag,
			   const struct image_options *options, struct image **ret, struct err *e)
{
	_cleanup_(oci_layout_freep) struct oci_layout *layout = NULL;
	_cleanup_(oci_image_freep) struct oci_image *oci = NULL;
	int r;

	r = oci_layout_open(path, &layout, e);
	if (r == 0)
		r = oci_image_load(layout, tag, &oci, e);
	return r < 0 ? r : get_loaded(store, layout, oci, options, ret, e);
}

static void fetch_line(void *data, const char *line)
{
	image_progress(data, line, 0, 0);
}

static int fetch(const struct image_store *store, const struct oci_ref *ref,
		 const struct workdir *work, const struct image_options *options,
		 struct image **ret, struct err *e)
{
	_cleanup_(freep) char *layout = str_printf("%s/layout", work->path);
	struct image_options copy = *options;
	struct oci_fetch_options fetch_options = { .authfile = options->authfile,
						   .progress = fetch_line,
						   .data = &copy };
	int r;

	if (!layout)
		return err_oom(e);
	r = oci_fetch(ref, layout, &fetch_options, e);
	return r < 0 ? r : get_from_layout(store, layout, "latest", options, ret, e);
}

static int never_pulled(const char *text, struct err *e)
{
	err_set(e, -ENOENT, "image %s is not in the store", text);
	err_hint(e, "Let it be fetched: --pull=missing");
	return -ENOENT;
}

/* Registries and archives: fetched by one process at a time, unless it is known already. */
static int get_fetched(const struct image_store *store, const struct oci_ref *ref, const char *text,
		       const char *stamp, const struct image_options *options, struct image **ret,
		       struct err *e)
{
	_cleanup_(workdir_removep) struct workdir *work = NULL;
	char name[SHA256_HEX_SIZE + 8] = "fetch-";
	int r;

	if (options->pull != IMAGE_PULL_ALWAYS) {
		r = get_known(store, text, stamp, options, ret, e);
		if (r != -ENOENT)
			return r;
	}
	if (options->pull == IMAGE_PULL_NEVER)
		return never_pulled(text, e);
	sha256_text(text, name + strlen("fetch-"));
	r = image_enter_work(store, name, options, &work, e);
	if (r < 0)
		return r;
	if (options->pull != IMAGE_PULL_ALWAYS) {
		r = get_known(store, text, stamp, options, ret, e);
		if (r != -ENOENT)
			return r;
	}
	return fetch(store, ref, work, options, ret, e);
}

static int get(const struct image_store *store, const struct oci_ref *ref, const char *text,
	       const struct image_options *options, struct image **ret, struct err *e)
{
	_cleanup_(freep) char *stamp = NULL;
	struct image_ref entry = { .text = (char *)text };
	int r;

	if (ref->transport == OCI_DIR)
		return image_convert_dir(store, ref->path, options, ret, e);
	if (oci_ref_needs_fetch(ref)) {
		r = make_stamp(ref, &stamp, e);
		if (r == 0)
			r = get_fetched(store, ref, text, stamp, options, ret, e);
	} else {
		r = get_from_layout(store, ref->path, ref->tag, options, ret, e);
	}
	if (r < 0)
		return r;
	snprintf(entry.digest, sizeof(entry.digest), "%s", (*ret)->digest);
	entry.stamp = stamp ? stamp : (char *)"";
	r = image_ref_set(store, &entry);
	if (r < 0) {
		image_free(TAKE_PTR(*ret));
		return err_errno(e, r, "cannot write the name into %s", store->path);
	}
	return 0;
}

int image_store_get(struct image_store *store, const char *ref_text,
		    const struct image_options *user_options, struct image **ret, struct err *e)
{
	struct image_options options = user_options ? *user_options : (struct image_options){ 0 };
	_cleanup_(oci_ref_done) struct oci_ref ref = { 0 };
	_cleanup_(freep) char *text = NULL;
	struct image *image = NULL;
	int r;

	if (options.wait_ms == 0)
		options.wait_ms = IMAGE_WAIT_MS;
	r = parse_ref(ref_text, &ref, &text, e);
	if (r == 0)
		r = get(store, &ref, text, &options, &image, e);
	if (r < 0) {
		if (r == -EPERM || r == -EACCES)
			err_hint(e, "Images keep owners and devices of their files: run as root.");
		err_stage(e, "image");
		return r;
	}
	if (!options.verity)
		image->part = (struct disk_part){ 0 };
	image->ref = TAKE_PTR(text);
	*ret = image;
	return 0;
}
