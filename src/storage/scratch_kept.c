/* SPDX-License-Identifier: Apache-2.0 */

/* Scratch disks with a name, for containers that may be started again. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "storage/lock.h"
#include "storage/scratch_internal.h"

/* How long a machine that is ending may hold it. */
#define LOCK_MS 10000

/* ext4's superblock, and what matters of it here: little-endian halves of words. */
#define SUPER_OFFSET 1024
#define SUPER_MAGIC  0x38
#define SUPER_STATE  0x3a
#define EXT4_MAGIC   0xef53
#define EXT4_VALID   1

static unsigned int half(const uint8_t *super, size_t at)
{
	return super[at] | (unsigned int)super[at + 1] << 8;
}

/*
 * Whether it was unmounted, and found in order until then. The guest writes what is read here: when
 * it lies it harms its own files only, so nothing else of the file system is looked at.
 */
static bool is_clean(int fd)
{
	uint8_t super[64];

	return pread(fd, super, sizeof(super), SUPER_OFFSET) == (ssize_t)sizeof(super) &&
	       half(super, SUPER_MAGIC) == EXT4_MAGIC && half(super, SUPER_STATE) == EXT4_VALID;
}

/* Return: 0 when it's ours alone now */
static int lock(int fd, const char *dir, struct err *e)
{
	int r = lock_wait(fd, LOCK_EX, LOCK_MS);

	if (r == -ETIMEDOUT) {
		err_set(e, -EBUSY, "another machine has the writable layer in %s", dir);
		err_hint(e, "A snapshot can be used by one container at a time.");
		return -EBUSY;
	}
	return r < 0 ? err_errno(e, r, "cannot lock the writable layer in %s", dir) : 0;
}

/* Return: Descriptor, -ENOENT when there is none that can be used, or a negative errno */
static int open_old(int dirfd, const char *dir, struct err *e)
{
	_cleanup_(close_fdp) int fd = openat(dirfd, SCRATCH_KEPT,
					     O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0)
		return errno == ENOENT ? -ENOENT
				       : err_errno(e, -errno, "cannot open %s/" SCRATCH_KEPT, dir);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != 0 || st.st_nlink > 1)
		return err_set(e, -EINVAL, "%s/" SCRATCH_KEPT " is no writable layer of ours", dir);
	r = lock(fd, dir, e);
	if (r < 0)
		return r;
	if (is_clean(fd))
		return TAKE_FD(fd);
	log_warn("a container's writable layer was not unmounted, it starts with an empty one",
		 "directory=%s", dir);
	return unlinkat(dirfd, SCRATCH_KEPT, 0) < 0
		       ? err_errno(e, -errno, "cannot remove %s/" SCRATCH_KEPT, dir)
		       : -ENOENT;
}

static int make_new(int dirfd, const char *dir, const char *templates, uint64_t size, struct err *e)
{
	_cleanup_(close_fdp) int fd = scratch_create_in(templates, dirfd, size, e);
	char path[64];

	if (fd < 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0 ||
	    linkat(AT_FDCWD, path, dirfd, SCRATCH_KEPT, AT_SYMLINK_FOLLOW) < 0)
		return err_errno(e, -errno, "cannot make %s/" SCRATCH_KEPT, dir);
	return TAKE_FD(fd);
}

int scratch_open_kept(const char *dir, const char *templates, uint64_t size, struct err *e)
{
	_cleanup_(close_fdp) int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd;

	if (dirfd < 0)
		return err_errno(e, -errno, "cannot open %s", dir);
	fd = open_old(dirfd, dir, e);
	return fd == -ENOENT ? make_new(dirfd, dir, templates, size, e) : fd;
}

bool scratch_is_kept(const char *dir)
{
	_cleanup_(close_fdp) int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	return dirfd >= 0 && fstatat(dirfd, SCRATCH_KEPT, &st, AT_SYMLINK_NOFOLLOW) == 0;
}
