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

static int add_upper(const struct rootfs_job *job, struct work_result *result, struct err *e)
{
	int r = is_prepared(job->plan.upper, e);

	if (r <= 0)
		return r;
	return add(result, snapshot_image_once(job->cache, job->plan.upper, SCRATCH_KEPT, e));
}

static int open_layer(const struct rootfs_job *job, char *const *dir, struct err *e)
{
	int fd = snapshot_blob(*dir);

	if (fd == -ENOENT)
		return snapshot_image(job->cache, dir, 1, e);
	return fd < 0 ? err_errno(e, fd, "cannot open %s/../" SNAPSHOT_BLOB, *dir) : fd;
}

/* Files that are there already cost nothing but their disks, and they can't be joined. */
static bool are_blobs(char *const *dirs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		_cleanup_(close_fdp) int fd = snapshot_blob(dirs[i]);

		if (fd >= 0)
			return true;
	}
	return false;
}

static int add_layers(const struct rootfs_job *job, struct work_result *result, struct err *e)
{
	const struct strv *layers = &job->plan.layers;
	bool blobs = are_blobs(layers->v, layers->n);
	size_t max = MIN(job->max_disks, blobs ? CONTAINER_MAX_DISKS - 1 : ROOTFS_MAX_DISKS);
	size_t single = layers->n <= max ? layers->n : max - 1;
	int r = 0;

	if (blobs && single < layers->n)
		return err_set(e, -EOPNOTSUPP, "%zu layers are more disks than there is room for",
			       layers->n);
	for (size_t i = 0; r == 0 && i < single; i++)
		r = add(result, open_layer(job, &layers->v[i], e));
	if (r == 0 && single < layers->n)
		r = add(result,
			snapshot_image(job->cache, &layers->v[single], layers->n - single, e));
	return r;
}

int rootfs_work(void *arg, struct work_result *result, struct err *e)
{
	const struct rootfs_job *job = arg;
	_cleanup_(freep) char *templates = str_printf("%s/scratch", job->cache);
	int r = 0;

	if (!templates)
		return err_oom(e);
	if (job->plan.kind == ROOTFS_DISK)
		return add(result, open_disk(&job->plan, e));
	if (job->plan.upper)
		r = add_upper(job, result, e);
	if (r == 0)
		r = add_layers(job, result, e);
	if (r == 0 && job->scratch)
		r = add(result,
			scratch_open_kept(job->plan.upper, templates, job->scratch_size, e));
	return r;
}
