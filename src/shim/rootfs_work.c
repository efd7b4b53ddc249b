/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/rootfs_work.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "sandbox/container.h"
#include "storage/lock.h"
#include "storage/scratch.h"
#include "storage/snapshot.h"

/* How long a machine that is ending may hold a disk. */
#define LOCK_MS 10000

static int add(struct work_result *result, int fd)
{
	if (fd >= 0)
		result->fds[result->n_fds++] = fd;
	return fd < 0 ? fd : 0;
}

/* ---- disks ---- */

static int open_disk(const struct rootfs_plan *plan, struct err *e)
{
	_cleanup_(close_fdp) int fd = open(plan->source,
					   (plan->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	int r;

	if (fd < 0)
		return err_errno(e, -errno, "cannot open %s", plan->source);
	r = lock_wait(fd, plan->readonly ? LOCK_SH : LOCK_EX, LOCK_MS);
	if (r == -ETIMEDOUT)
		return err_set(e, -EBUSY, "%s is in use", plan->source);
	return r < 0 ? err_errno(e, r, "cannot lock %s", plan->source) : TAKE_FD(fd);
}

/* ---- layers ---- */

/* Return: 1 when somebody has put anything into the upper directory, or a negative errno */
static int is_prepared(const char *upper, struct err *e)
{
	_cleanup_(closedirp) DIR *dir = opendir(upper);
	struct stat st;
	struct dirent *d;

	if (!dir || fstat(dirfd(dir), &st) < 0)
		return err_errno(e, -errno, "cannot read %s", upper);
	if (st.st_uid != 0 || st.st_gid != 0)
		return err_set(e, -EOPNOTSUPP, "%s belongs to user %u", upper, st.st_uid);
	while ((d = readdir(dir)))
		if (!str_eq(d->d_name, ".") && !str_eq(d->d_name, "..") &&
		    !str_eq(d->d_name, SCRATCH_KEPT))
			return 1;
	return 0;
}

/* One more disk, with what it holds. */
static int add_file(const struct rootfs_job *job, struct work_result *result,
		    struct snapshot_file *file, size_t *n_parts, struct err *e)
{
	const struct disk_parts *parts = &file->parts;

	if (result->n_fds == CONTAINER_MAX_DISKS || *n_parts + parts->n > ROOTFS_MAX_PARTS)
		return err_set(e, -EOPNOTSUPP, "the layers are more disks than there is room for");
	for (size_t i = 0; i < parts->n; i++)
		job->found->parts[(*n_parts)++] = parts->v[i];
	job->found->n_parts[result->n_fds] = parts->n;
	return add(result, TAKE_FD(file->fd));
}

static int add_upper(const struct rootfs_job *job, struct work_result *result, size_t *n_parts,
		     struct err *e)
{
	_cleanup_(snapshot_file_done) struct snapshot_file file = SNAPSHOT_FILE_INIT;
	int r = is_prepared(job->plan.upper, e);

	if (r <= 0)
		return r;
	r = snapshot_image_once(&job->cache, job->plan.upper, SCRATCH_KEPT, &file, e);
	return r < 0 ? r : add_file(job, result, &file, n_parts, e);
}

static int open_layer(const struct rootfs_job *job, char *const *dir, struct snapshot_file *file,
		      struct err *e)
{
	int r = snapshot_blob(&job->cache, *dir, file, e);

	return r == -ENOENT ? snapshot_image(&job->cache, dir, 1, file, e) : r;
}

/* Files of the snapshotter: its directories can't be joined, the files can be put into one. */
static bool are_blobs(char *const *dirs, size_t n)
{
	static const struct snapshot_cache as_they_are;

	for (size_t i = 0; i < n; i++) {
		_cleanup_(snapshot_file_done) struct snapshot_file file = SNAPSHOT_FILE_INIT;

		if (snapshot_blob(&as_they_are, dirs[i], &file, NULL) == 0)
			return true;
	}
	return false;
}

static int pack_layers(const struct rootfs_job *job, char *const *dirs, size_t n,
		       struct snapshot_file *ret, struct err *e)
{
	struct snapshot_file *files = calloc(n, sizeof(*files));
	int r = 0;

	if (!files)
		return err_oom(e);
	for (size_t i = 0; i < n; i++)
		files[i] = SNAPSHOT_FILE_INIT;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = open_layer(job, &dirs[i], &files[i], e);
	if (r == 0)
		r = snapshot_pack(&job->cache, files, n, ret, e);
	for (size_t i = 0; i < n; i++)
		snapshot_file_done(&files[i]);
	free(files);
	return r;
}

/* Several layers on one disk. */
static int add_lowest(const struct rootfs_job *job, struct work_result *result, size_t first,
		      bool blobs, size_t *n_parts, struct err *e)
{
	const struct strv *layers = &job->plan.layers;
	int r = 0;

	for (size_t i = first; r == 0 && i < layers->n;) {
		_cleanup_(snapshot_file_done) struct snapshot_file file = SNAPSHOT_FILE_INIT;
		size_t n = blobs ? MIN(layers->n - i, PARTS_MAX) : layers->n - i;

		r = blobs ? pack_layers(job, &layers->v[i], n, &file, e)
			  : snapshot_image(&job->cache, &layers->v[i], n, &file, e);
		if (r == 0)
			r = add_file(job, result, &file, n_parts, e);
		i += n;
	}
	return r;
}

static int add_layers(const struct rootfs_job *job, struct work_result *result, size_t *n_parts,
		      struct err *e)
{
	const struct strv *layers = &job->plan.layers;
	bool blobs = are_blobs(layers->v, layers->n);
	size_t max = MIN(job->max_disks, blobs ? CONTAINER_MAX_DISKS - 1 : ROOTFS_MAX_DISKS);
	/* Packs of what is left are one or two disks. */
	size_t left = MIN(max, blobs ? (layers->n + PARTS_MAX - 1) / PARTS_MAX : 1);
	size_t single = layers->n <= max ? layers->n : max - left;
	int r = 0;

	for (size_t i = 0; r == 0 && i < single; i++) {
		_cleanup_(snapshot_file_done) struct snapshot_file file = SNAPSHOT_FILE_INIT;

		r = open_layer(job, &layers->v[i], &file, e);
		if (r == 0)
			r = add_file(job, result, &file, n_parts, e);
	}
	return r < 0 ? r : add_lowest(job, result, single, blobs, n_parts, e);
}

int rootfs_work(void *arg, struct work_result *result, struct err *e)
{
	const struct rootfs_job *job = arg;
	_cleanup_(freep) char *templates = str_printf("%s/scratch", job->cache.dir);
	size_t n_parts = 0;
	int r = 0;

	if (!templates)
		return err_oom(e);
	if (job->plan.kind == ROOTFS_DISK)
		return add(result, open_disk(&job->plan, e));
	if (job->plan.upper)
		r = add_upper(job, result, &n_parts, e);
	if (r == 0)
		r = add_layers(job, result, &n_parts, e);
	if (r == 0 && job->scratch)
		r = add(result,
			scratch_open_kept(job->plan.upper, templates, job->scratch_size, e));
	return r;
}
