/* SPDX-License-Identifier: Apache-2.0 */
/* Containers of a pod in its run directory: containers/ID. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "sandbox/rundir-internal.h"

#define DIRECTORY "containers"

static int open_containers(const struct rundir *rd)
{
	int fd = openat(rd->fd, DIRECTORY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int rundir_open_container(const struct rundir *rd, const char *id)
{
	_cleanup_(close_fdp) int all = open_containers(rd);
	int fd;

	if (all < 0)
		return all;
	if (!name_valid(id, RUNDIR_CONTAINER_LEN))
		return -ENOENT;
	fd = openat(all, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int make_directory(int dirfd, const char *name)
{
	return mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

int rundir_add_container(struct rundir *rd, const struct rundir_state *st, const char *spec)
{
	_cleanup_(close_fdp) int all = -EBADF;
	_cleanup_(close_fdp) int dir = -EBADF;
	int r = make_directory(rd->fd, DIRECTORY);

	if (r < 0)
		return r;
	all = open_containers(rd);
	if (all < 0)
		return all;
	if (!name_valid(st->id, RUNDIR_CONTAINER_LEN))
		return -EINVAL;
	r = make_directory(all, st->id);
	if (r < 0)
		return r;
	dir = rundir_open_container(rd, st->id);
	if (dir < 0)
		return dir;
	r = file_replace(dir, "config.json", spec, strlen(spec), 0600);
	return r < 0 ? r : state_write(dir, st);
}

int rundir_write_container(struct rundir *rd, const struct rundir_state *st)
{
	_cleanup_(close_fdp) int dir = rundir_open_container(rd, st->id);

	return dir < 0 ? dir : state_write(dir, st);
}

int rundir_read_container(int dirfd, struct rundir_state *st)
{
	return state_read(dirfd, "containers", st, NULL);
}

int rundir_remove_container(struct rundir *rd, const char *id)
{
	_cleanup_(close_fdp) int all = open_containers(rd);

	if (all == -ENOENT || !name_valid(id, RUNDIR_CONTAINER_LEN))
		return 0;
	return all < 0 ? all : rm_rf(all, id);
}

int rundir_each_container(const struct rundir *rd,
			  int (*cb)(void *data, int dirfd, const struct rundir_state *st),
			  void *data)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	struct dirent *d;
	int all = open_containers(rd);
	int r = 0;

	if (all < 0)
		return all == -ENOENT ? 0 : all;
	dir = fdopendir(all);
	if (!dir) {
		close(all);
		return -ENOMEM;
	}
	while (r == 0 && (d = readdir(dir))) {
		_cleanup_(close_fdp) int fd = rundir_open_container(rd, d->d_name);
		_cleanup_(rundir_state_done) struct rundir_state st = { 0 };

		/* One that is just being made, or removed, isn't there. */
		if (fd >= 0 && state_read(fd, d->d_name, &st, NULL) == 0)
			r = cb(data, fd, &st);
	}
	return r;
}
