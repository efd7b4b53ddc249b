/* SPDX-License-Identifier: Apache-2.0 */

/* What one does with images that are there: list, verify, remove, clean up. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fd.h"
#include "storage/image_store_internal.h"
#include "storage/lock.h"

#define PREFIX_MIN 6 /* hex digits by which an image may be named */

static void info_done(struct image_info *info)
{
	strv_done(&info->refs);
	free(info->created);
}

void image_infos_done(struct image_infos *infos)
{
	for (size_t i = 0; i < infos->n; i++)
		info_done(&infos->v[i]);
	free(TAKE_PTR(infos->v));
	infos->n = 0;
}

static bool is_image_name(const char *name)
{
	return strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64;
}

/* Whether somebody holds it; asked with a lock that is given back at once. */
static bool in_use(int dirfd)
{
	if (lock_wait(dirfd, LOCK_EX, 0) < 0)
		return true;
	flock(dirfd, LOCK_UN);
	return false;
}

static int fill_info(struct image_info *info, int dirfd, const char *name)
{
	struct image_meta meta = { 0 };
	struct stat st;

	/* A damaged one is listed as well, it has to be seen to be removed. */
	(void)image_meta_read(dirfd, &meta);
	snprintf(info->digest, sizeof(info->digest), "sha256:%.64s", name);
	snprintf(info->config_digest, sizeof(info->config_digest), "%s", meta.config_digest);
	info->stored = meta.stored;
	info->size = meta.size;
	info->in_use = in_use(dirfd);
	/* What is in use now will have been used until now. */
	if (info->in_use)
		(void)futimens(dirfd, NULL);
	if (fstat(dirfd, &st) == 0)
		info->used = st.st_mtim.tv_sec;
	info->created = strdup(meta.created);
	return info->created ? 0 : -ENOMEM;
}

static int add_info(const struct image_store *store, struct image_infos *infos, const char *name)
{
	_cleanup_(close_fdp) int fd = openat(store->fd, name,
					     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct image_info *v;

	if (fd < 0)
		return 0;
	v = reallocarray(infos->v, infos->n + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	infos->v = v;
	v[infos->n] = (struct image_info){ 0 };
	return fill_info(&v[infos->n++], fd, name);
}

static int add_ref(void *data, const struct image_ref *ref)
{
	struct image_infos *infos = data;

	for (size_t i = 0; i < infos->n; i++)
		if (str_eq(infos->v[i].digest, ref->digest))
			return strv_add(&infos->v[i].refs, ref->text);
	return 0;
}

static int by_digest(const void *a, const void *b)
{
	return strcmp(((const struct image_info *)a)->digest,
		      ((const struct image_info *)b)->digest);
}

static int list(const struct image_store *store, struct image_infos *infos)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	int fd = openat(store->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *d;
	int r = 0;

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while (r == 0 && (d = readdir(dir)))
		if (is_image_name(d->d_name))
			r = add_info(store, infos, d->d_name);
	if (r == 0)
		r = image_ref_each(store, add_ref, infos);
	if (r == 0 && infos->n > 0)
		qsort(infos->v, infos->n, sizeof(*infos->v), by_digest);
	return r;
}

int image_store_list(const struct image_store *store, struct image_infos *ret, struct err *e)
{
	int r;

	*ret = (struct image_infos){ 0 };
	r = list(store, ret);
	if (r < 0) {
		image_infos_done(ret);
		return err_errno(e, r, "cannot list the images in %s", store->path);
	}
	return 0;
}

static bool is_hex_start(const char *name)
{
	size_t n = strlen(name);

	return n >= PREFIX_MIN && n <= 64 && strspn(name, "0123456789abcdef") == n;
}

static int find_by_start(const struct image_infos *infos, const char *start,
			 char digest[OCI_DIGEST_LEN + 1], struct err *e)
{
	size_t found = 0;

	for (size_t i = 0; i < infos->n; i++) {
		if (!str_starts(digest_hex(infos->v[i].digest), start))
			continue;
		memcpy(digest, infos->v[i].digest, OCI_DIGEST_LEN + 1);
		found++;
	}
	if (found > 1)
		return err_set(e, -EINVAL, "%zu images start with %s", found, start);
	return found == 1 ? 0 : -ENOENT;
}

/* The name as it was written down, or as it would be if it were used now. */
static int find_by_ref(const struct image_store *store, const char *name,
		       char digest[OCI_DIGEST_LEN + 1])
{
	_cleanup_(image_ref_done) struct image_ref entry = { 0 };
	_cleanup_(oci_ref_done) struct oci_ref ref = { 0 };
	_cleanup_(freep) char *text = NULL;
	int r;

	r = image_ref_get(store, name, &entry);
	if (r < 0 && oci_ref_parse(name, &ref, NULL) == 0) {
		char *path = ref.path ? realpath(ref.path, NULL) : NULL;

		if (path) {
			free(ref.path);
			ref.path = path;
		}
		text = oci_ref_text(&ref);
		r = text ? image_ref_get(store, text, &entry) : -ENOMEM;
	}
	if (r == 0)
		memcpy(digest, entry.digest, OCI_DIGEST_LEN + 1);
	return r;
}

static int find(struct image_store *store, const char *name, char digest[OCI_DIGEST_LEN + 1],
		struct err *e)
{
	_cleanup_(image_infos_done) struct image_infos infos = { 0 };
	const char *hex = str_starts(name, "sha256:") ? name + strlen("sha256:") : name;
	int r = -ENOENT;

	if (is_hex_start(hex)) {
		r = image_store_list(store, &infos, e);
		if (r == 0)
			r = find_by_start(&infos, hex, digest, e);
	}
	if (r == -ENOENT)
		r = find_by_ref(store, name, digest);
	if (r == -ENOENT) {
		err_set(e, r, "no image %s in the store", name);
		err_hint(e, "See: podvm image ls");
	}
	return r;
}

static int is_busy(const char *digest, struct err *e)
{
	err_set(e, -EBUSY, "image %.19s is in use", digest);
	err_hint(e, "Stop what uses it first, see: podvm ps");
	return -EBUSY;
}

/* Locked exclusively, moved away under a name for work, and then removed at leisure. */
static int remove_image(const struct image_store *store, const char *digest, struct err *e)
{
	const char *name = digest_hex(digest);
	_cleanup_(close_fdp) int fd = openat(store->fd, name,
					     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(workdir_removep) struct workdir *work = NULL;
	char work_name[80];
	int r;

	if (fd >= 0 && lock_wait(fd, LOCK_EX, 0) < 0)
		return is_busy(digest, e);
	snprintf(work_name, sizeof(work_name), "rm-%s", name);
	r = workdir_open(store->path, work_name, IMAGE_WAIT_MS, &work, e);
	if (r < 0)
		return r;
	r = image_ref_forget(store, digest);
	if (r == 0 && renameat(store->fd, name, work->fd, "image") < 0 && errno != ENOENT)
		r = -errno;
	return r < 0 ? err_errno(e, r, "cannot remove image %.19s", digest) : 0;
}

int image_store_remove(struct image_store *store, const char *name, struct err *e)
{
	char digest[OCI_DIGEST_LEN + 1];
	int r;

	r = find(store, name, digest, e);
	return r < 0 ? r : remove_image(store, digest, e);
}

static void to_items(const struct image_infos *infos, struct prune_item *items)
{
	for (size_t i = 0; i < infos->n; i++) {
		const struct image_info *info = &infos->v[i];

		items[i] = (struct prune_item){
			.bytes = info->size,
			.used = info->used,
			.in_use = info->in_use,
			.unneeded = info->refs.n == 0,
		};
		snprintf(items[i].name, sizeof(items[i].name), "%s", info->digest);
	}
}

int image_store_prune(const struct image_store *store, const struct prune_rules *rules,
		      struct prune_result *result, struct err *e)
{
	_cleanup_(image_infos_done) struct image_infos infos = { 0 };
	_cleanup_(freep) struct prune_item *items = NULL;
	int r;

	if (!rules->dry_run)
		(void)workdir_sweep(store->path);
	r = image_store_list(store, &infos, e);
	if (r < 0)
		return r;
	items = calloc(infos.n + 1, sizeof(*items));
	if (!items)
		return err_oom(e);
	to_items(&infos, items);
	prune_choose(rules, items, infos.n, time(NULL));
	for (size_t i = 0; i < infos.n; i++) {
		if (!items[i].goes)
			continue;
		r = rules->dry_run ? 0 : remove_image(store, items[i].name, e);
		if (r == 0)
			prune_tell(rules, items[i].name, items[i].bytes, result);
		else if (r != -EBUSY)
			return r;
	}
	return 0;
}

int image_store_verify(struct image_store *store, const char *name, struct err *e)
{
	_cleanup_(image_freep) struct image *image = NULL;
	char digest[OCI_DIGEST_LEN + 1];
	char sha256[SHA256_HEX_SIZE];
	struct image_meta meta;
	int r;

	r = find(store, name, digest, e);
	if (r == 0)
		r = image_open(store, digest, &image, e);
	if (r == -ENOENT)
		return err_set(e, r, "no image %s in the store", name);
	if (r < 0)
		return r;
	r = image_meta_read(image->dir_fd, &meta);
	if (r == 0)
		r = sha256_file(image->fd, sha256);
	if (r < 0)
		return err_errno(e, r, "cannot read image %.19s", digest);
	if (str_eq(sha256, meta.sha256))
		return 0;
	err_set(e, -EBADMSG, "image %.19s is damaged: SHA-256 of its file is %s, not %s", digest,
		sha256, meta.sha256);
	err_hint(e, "Remove it and it will be made again: podvm image rm %.19s", digest);
	return -EBADMSG;
}
