/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/workdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"
#include "storage/lock.h"

static int open_tmp(const char *store)
{
	_cleanup_(freep) char *path = str_printf("%s/tmp", store);
	int fd;
	int r;

	if (!path)
		return -ENOMEM;
	r = mkdir_p(path, 0700);
	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Whether the directory that we have open and locked is still the one of that name. */
static bool is_current(int tmp_fd, const char *name, int fd)
{
	struct stat ours;
	struct stat named;

	return fstat(fd, &ours) == 0 && fstatat(tmp_fd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	       ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

/* Return: 0 when the directory is ours, -ESTALE when it was removed meanwhile */
static int acquire(struct workdir *w, int timeout_ms)
{
	int r;

	if (mkdirat(w->tmp_fd, w->name, 0700) < 0 && errno != EEXIST)
		return -errno;
	w->fd = openat(w->tmp_fd, w->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (w->fd < 0)
		return errno == ENOENT ? -ESTALE : -errno;
	r = lock_wait(w->fd, LOCK_EX, timeout_ms);
	if (r == 0 && !is_current(w->tmp_fd, w->name, w->fd))
		r = -ESTALE;
	if (r < 0)
		close(TAKE_FD(w->fd));
	return r;
}

static void workdir_free(struct workdir *w)
{
	if (w->fd >= 0)
		close(w->fd);
	if (w->tmp_fd >= 0)
		close(w->tmp_fd);
	free(w);
}

DEFINE_CLEANUP(workdir_freep, struct workdir *, workdir_free)

int workdir_open(const char *store, const char *name, int timeout_ms, struct workdir **ret,
		 struct err *e)
{
	_cleanup_(workdir_freep) struct workdir *w = calloc(1, sizeof(*w));
	uint64_t deadline = clock_ms() + (uint64_t)timeout_ms;
	int r;

	if (!w)
		return err_oom(e);
	w->fd = -EBADF;
	snprintf(w->name, sizeof(w->name), "%s", name);
	snprintf(w->path, sizeof(w->path), "%s/tmp/%s", store, name);
	w->tmp_fd = open_tmp(store);
	if (w->tmp_fd < 0)
		return err_errno(e, w->tmp_fd, "cannot open %s/tmp", store);
	do {
		uint64_t now = clock_ms();

		r = acquire(w, now < deadline ? (int)(deadline - now) : 0);
	} while (r == -ESTALE && (timeout_ms == 0 || clock_ms() < deadline));
	if (r == -EWOULDBLOCK && timeout_ms == 0)
		return r;
	if (r == -EWOULDBLOCK || r == -ETIMEDOUT)
		return err_set(e, -ETIMEDOUT, "another process works in %s for too long", w->path);
	if (r == 0)
		r = rm_children(w->fd);
	if (r < 0)
		return err_errno(e, r, "cannot work in %s", w->path);
	*ret = TAKE_PTR(w);
	return 0;
}

void workdir_remove(struct workdir *w)
{
	if (!w)
		return;
	(void)rm_rf(w->tmp_fd, w->name);
	workdir_free(w);
}

int workdir_sweep(const char *store)
{
	_cleanup_(close_fdp) int tmp_fd = open_tmp(store);
	_cleanup_(closedirp) DIR *dir = NULL;
	struct dirent *d;
	int removed = 0;
	int fd;

	if (tmp_fd < 0)
		return tmp_fd;
	fd = openat(tmp_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		close_fdp(&fd);
		return -ENOMEM;
	}
	while ((d = readdir(dir))) {
		_cleanup_(close_fdp) int child = -EBADF;

		if (str_eq(d->d_name, ".") || str_eq(d->d_name, ".."))
			continue;
		child = openat(tmp_fd, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (child < 0 || lock_wait(child, LOCK_EX, 0) < 0 ||
		    !is_current(tmp_fd, d->d_name, child))
			continue;
		removed += rm_rf(tmp_fd, d->d_name) == 0;
	}
	return removed;
}
