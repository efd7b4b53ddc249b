/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/volume_root.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

/* ---- directories ---- */

static int make_one(int parent, const char *name, const Podvm__Agent__V1__DirectoryMode *mode)
{
	if (mkdirat(parent, name, 0755) < 0)
		return errno == EEXIST ? 0 : -errno;
	if (!mode)
		return 0;
	if (fchownat(parent, name, mode->uid, mode->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fchmodat(parent, name, mode->mode & 07777, 0) < 0)
		return -errno;
	return 0;
}

/* Return: Descriptor of a part of a path, which is made if it's missing */
static int enter(int root, int parent, const char *path, const char *name, int flags,
		 const Podvm__Agent__V1__DirectoryMode *mode)
{
	int fd = open_in_root(root, path, flags, 0);
	int r;

	if (fd != -ENOENT)
		return fd;
	r = make_one(parent, name, mode);
	return r < 0 ? r : open_in_root(root, path, flags, 0);
}

/* Make a directory and those above it in a mounted file system, which may be a container's. */
static int make_directory(int root, const char *path, const Podvm__Agent__V1__DirectoryMode *mode)
{
	_cleanup_(freep) char *copy = strdup(path);
	_cleanup_(close_fdp) int parent = open_in_root(root, "/", O_PATH | O_DIRECTORY, 0);
	char *name = copy;

	if (!copy)
		return -ENOMEM;
	while (parent >= 0 && name && *(name += strspn(name, "/"))) {
		char *end = strchr(name, '/');
		int fd;

		if (end)
			*end = '\0';
		fd = enter(root, parent, copy, name, O_PATH | (mode && !end ? 0 : O_DIRECTORY),
			   mode);
		close(parent);
		parent = fd;
		if (end)
			*end = '/';
		name = end;
	}
	return parent < 0 ? parent : 0;
}

int volume_root_directories(const Podvm__Agent__V1__Storage *s, int root, struct err *e)
{
	for (size_t i = 0; i < s->n_directories; i++) {
		int r = make_directory(root, s->directories[i], s->directory_mode);

		if (r < 0)
			return err_errno(e, r, "cannot make %.256s", s->directories[i]);
	}
	return 0;
}

/* ---- group ---- */

#define FILE_BITS 0660U
#define DIR_BITS  (FILE_BITS | S_ISGID | 0110U)

static unsigned int wanted_mode(const struct stat *st)
{
	unsigned int mode = st->st_mode & 07777;

	if (S_ISDIR(st->st_mode))
		return mode | DIR_BITS;
	return S_ISREG(st->st_mode) ? mode | FILE_BITS : mode;
}

static bool has_group(const struct stat *st, gid_t gid)
{
	return st->st_gid == gid && (st->st_mode & 07777) == wanted_mode(st);
}

static int give(const FTSENT *entry, gid_t gid)
{
	const struct stat *st = entry->fts_statp;

	if (has_group(st, gid))
		return 0;
	if (lchown(entry->fts_accpath, (uid_t)-1, gid) < 0)
		return -errno;
	/* Changing the owner takes bits away. */
	if (S_ISLNK(st->st_mode) || chmod(entry->fts_accpath, wanted_mode(st)) == 0)
		return 0;
	return -errno;
}

static int give_all(FTS *fts, gid_t gid, struct err *e)
{
	FTSENT *entry;
	int r;

	while ((errno = 0, entry = fts_read(fts))) {
		if (entry->fts_info == FTS_D)
			continue;
		if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR ||
		    entry->fts_info == FTS_NS)
			return err_errno(e, -entry->fts_errno, "cannot read %.256s",
					 entry->fts_path);
		r = give(entry, gid);
		if (r < 0)
			return err_errno(e, r, "cannot give %.256s to group %u", entry->fts_path,
					 gid);
	}
	return errno ? err_errno(e, -errno, "cannot read the volume") : 0;
}

int volume_root_group(const Podvm__Agent__V1__FsGroup *group, int root, struct err *e)
{
	/* The dot: the link itself is no directory. */
	char path[32];
	char *const paths[] = { path, NULL };
	struct stat st;
	FTS *fts;
	int r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/.", root);
	if (fstat(root, &st) < 0)
		return err_errno(e, -errno, "cannot read the volume");
	/* The root directory comes last, so it has the group only when all the others do. */
	if (group->on_root_mismatch && has_group(&st, group->gid))
		return 0;
	fts = fts_open(paths, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, NULL);
	if (!fts)
		return err_errno(e, -errno, "cannot read the volume");
	r = give_all(fts, group->gid, e);
	fts_close(fts);
	return r;
}
