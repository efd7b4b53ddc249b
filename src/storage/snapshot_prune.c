/* SPDX-License-Identifier: Apache-2.0 */

/* Taking away the files of layers that are gone. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "storage/lock.h"
#include "storage/snapshot_internal.h"
#include "storage/workdir.h"

/* Whether the directories that it was made of are still what they were. */
static bool is_current(int dirfd, const char *key)
{
	_cleanup_(strv_done) struct strv dirs = { 0 };
	_cleanup_(freep) char *text = NULL;
	char now[STR_HASH_SIZE];
	char *save = NULL;

	if (file_read(dirfd, "source", SNAPSHOT_PATHS_MAX, &text, NULL) < 0)
		return false;
	for (char *dir = strtok_r(text, "\n", &save); dir; dir = strtok_r(NULL, "\n", &save))
		if (strv_add(&dirs, dir) < 0)
			return true;
	return dirs.n > 0 && snapshot_key(dirs.v, dirs.n, now, NULL) == 0 && str_eq(now, key);
}

/* Moved away at once under its lock, so that nobody finds half of it. Return: 1 if it was there */
static int remove_entry(const char *store, int store_fd, const char *key)
{
	_cleanup_(workdir_removep) struct workdir *work = NULL;
	char name[80];
	int r;

	snprintf(name, sizeof(name), "rm-%s", key);
	r = workdir_open(store, name, 0, &work, NULL);
	if (r < 0)
		return r;
	return renameat(store_fd, key, work->fd, "entry") < 0 ? -errno : 1;
}

static int prune_entry(const char *store, int store_fd, const char *key, bool all, uint64_t *freed)
{
	_cleanup_(close_fdp) int dirfd = openat(store_fd, key,
						O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(close_fdp) int fd = -EBADF;
	struct stat st = { 0 };
	int r;

	if (dirfd < 0 || (!all && is_current(dirfd, key)))
		return 0;
	fd = openat(dirfd, SNAPSHOT_BLOB, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && (lock_wait(fd, LOCK_EX, 0) < 0 || fstat(fd, &st) < 0))
		return 0;
	r = remove_entry(store, store_fd, key);
	if (r > 0)
		*freed += (uint64_t)st.st_size;
	return r < 0 ? 0 : r;
}

int snapshot_prune(const char *cache, bool all, uint64_t *freed)
{
	_cleanup_(freep) char *store = str_printf("%s/snapshots", cache);
	_cleanup_(closedirp) DIR *dir = store ? opendir(store) : NULL;
	struct dirent *d;
	int removed = 0;

	if (!dir)
		return !store ? -ENOMEM : errno == ENOENT ? 0 : -errno;
	(void)workdir_sweep(store);
	while ((d = readdir(dir)))
		if (strlen(d->d_name) == STR_HASH_SIZE - 1)
			removed += prune_entry(store, dirfd(dir), d->d_name, all, freed);
	return removed;
}
