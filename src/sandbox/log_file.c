/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

#define FLAGS (O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC)

static void turn_over(int dirfd, const char *name)
{
	char old[NAME_MAX + 1];

	snprintf(old, sizeof(old), "%.200s.1", name);
	(void)renameat(dirfd, name, dirfd, old);
}

static int open_new(struct log_file *f)
{
	f->fd = openat(f->dirfd, f->name, FLAGS | O_TRUNC, 0600);
	f->size = 0;
	return f->fd < 0 ? -errno : 0;
}

int log_file_open(struct log_file *f, int dirfd, const char *name, uint64_t max)
{
	*f = (struct log_file){ .dirfd = dirfd, .name = name, .max = max };
	return open_new(f);
}

void log_file_add(struct log_file *f, const void *bytes, size_t n)
{
	if (f->fd >= 0 && f->size + n > f->max) {
		close(f->fd);
		turn_over(f->dirfd, f->name);
		(void)open_new(f);
	}
	if (f->fd >= 0 && fd_write_all(f->fd, bytes, n) == 0)
		f->size += n;
}

void log_file_close(struct log_file *f)
{
	close_fdp(&f->fd);
	f->fd = -EBADF;
}

/* Somebody else may be doing it, or have done it since the file was opened. */
static void turn_over_shared(int dirfd, const char *name, int fd)
{
	struct stat ours;
	struct stat named;

	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return;
	if (fstat(fd, &ours) == 0 && fstatat(dirfd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	    ours.st_ino == named.st_ino && ours.st_dev == named.st_dev)
		turn_over(dirfd, name);
}

int log_file_append(int dirfd, const char *name, uint64_t max, const char *line)
{
	_cleanup_(close_fdp) int fd = openat(dirfd, name, FLAGS, 0600);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	r = fd_write_all(fd, line, strlen(line));
	if (r == 0 && (uint64_t)st.st_size + strlen(line) > max)
		turn_over_shared(dirfd, name, fd);
	return r;
}
