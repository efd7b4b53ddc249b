/* SPDX-License-Identifier: Apache-2.0 */

/* Scratch disks with a name: of containers that may be started again, and volumes of pods. */

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

/**
 * struct kept - A kind of disk
 * @name:	Of the file
 * @what:	For messages
 * @hint:	When another machine has it
 * @journal:	It's used again after a crash
 */
struct kept {
	const char *name;
	const char *what;
	const char *hint;
	bool journal;
};

static const struct kept layer_kind = {
	.name = SCRATCH_KEPT,
	.what = "writable layer",
	.hint = "A snapshot can be used by one container at a time.",
};

static const struct kept volume_kind = {
	.name = SCRATCH_VOLUME,
	.what = "disk of the volume",
	.hint = "It goes when the pod's former machine has ended.",
	.journal = true,
};

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
static int lock(int fd, const char *dir, const struct kept *k, struct err *e)
{
	int r = lock_wait(fd, LOCK_EX, LOCK_MS);

	if (r == -ETIMEDOUT) {
		err_set(e, -EBUSY, "another machine has the %s in %s", k->what, dir);
		err_hint(e, "%s", k->hint);
		return -EBUSY;
	}
	return r < 0 ? err_errno(e, r, "cannot lock the %s in %s", k->what, dir) : 0;
}

/* Return: Descriptor, -ENOENT when there is none that can be used, or a negative errno */
static int open_old(int dirfd, const char *dir, const struct kept *k, struct err *e)
{
	_cleanup_(close_fdp) int fd = openat(dirfd, k->name,
					     O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0)
		return errno == ENOENT ? -ENOENT
				       : err_errno(e, -errno, "cannot open %s/%s", dir, k->name);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != 0 || st.st_nlink > 1)
		return err_set(e, -EINVAL, "%s/%s is no %s of ours", dir, k->name, k->what);
	r = lock(fd, dir, k, e);
	if (r < 0)
		return r;
	if (k->journal || is_clean(fd))
		return TAKE_FD(fd);
	log_warn("a container's writable layer was not unmounted, it starts with an empty one",
		 "directory=%s", dir);
	return unlinkat(dirfd, k->name, 0) < 0
		       ? err_errno(e, -errno, "cannot remove %s/%s", dir, k->name)
		       : -ENOENT;
}

static int make_new(int dirfd, const char *dir, const char *templates, uint64_t size,
		    const struct kept *k, struct err *e)
{
	_cleanup_(close_fdp) int fd = scratch_create_in(templates, dirfd, size, k->journal, e);
	char path[64];

	if (fd < 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0 ||
	    linkat(AT_FDCWD, path, dirfd, k->name, AT_SYMLINK_FOLLOW) < 0)
		return err_errno(e, -errno, "cannot make %s/%s", dir, k->name);
	return TAKE_FD(fd);
}

static int open_kept(const char *dir, const char *templates, uint64_t size, const struct kept *k,
		     struct err *e)
{
	_cleanup_(close_fdp) int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd;

	if (dirfd < 0)
		return err_errno(e, -errno, "cannot open %s", dir);
	fd = open_old(dirfd, dir, k, e);
	return fd == -ENOENT ? make_new(dirfd, dir, templates, size, k, e) : fd;
}

int scratch_open_kept(const char *dir, const char *templates, uint64_t size, struct err *e)
{
	return open_kept(dir, templates, size, &layer_kind, e);
}

int scratch_open_volume(const char *dir, const char *templates, uint64_t size, struct err *e)
{
	return open_kept(dir, templates, size, &volume_kind, e);
}

bool scratch_is_kept(const char *dir)
{
	_cleanup_(close_fdp) int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	return dirfd >= 0 && fstatat(dirfd, SCRATCH_KEPT, &st, AT_SYMLINK_NOFOLLOW) == 0;
}
