/* SPDX-License-Identifier: Apache-2.0 */

/* Taking away files of layers: of those that are gone, and what the rules want. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fd.h"
#include "storage/lock.h"
#include "storage/snapshot_internal.h"
#include "storage/workdir.h"

/* Whether what it was made of is still what it was. */
static bool is_current(int dirfd, const char *key)
{
	struct snapshot_recipe recipe = { .kind = (enum snapshot_kind)snapshot_key_kind(key) };
	_cleanup_(strv_done) struct strv paths = { 0 };
	_cleanup_(freep) char *text = NULL;
	char now[SNAPSHOT_KEY_SIZE];
	char *save = NULL;

	if (file_read(dirfd, "source", SNAPSHOT_PATHS_MAX, &text, NULL) < 0)
		return false;
	for (char *path = strtok_r(text, "\n", &save); path; path = strtok_r(NULL, "\n", &save))
		if (strv_add(&paths, path) < 0)
			return true;
	recipe.paths = paths.v;
	recipe.n = paths.n;
	return paths.n > 0 && snapshot_key(&recipe, now, NULL) == 0 && str_eq(now, key);
}

/* Return: Descriptor with the exclusive lock, or a negative errno: -EWOULDBLOCK, it's in use */
static int lock_entry(int dirfd)
{
	_cleanup_(close_fdp) int fd = openat(dirfd, SNAPSHOT_BLOB,
					     O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int r = fd < 0 ? -errno : lock_wait(fd, LOCK_EX, 0);

	return r < 0 ? r : TAKE_FD(fd);
}

/* Moved away at once under its lock, so that nobody finds half of it. Return: 0 or an errno */
static int remove_entry(const char *store, int store_fd, const char *key)
{
	_cleanup_(close_fdp) int dirfd = openat(store_fd, key,
						O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	/* Until it's gone: who waits for it has to see that. */
	_cleanup_(close_fdp) int fd = dirfd < 0 ? -errno : lock_entry(dirfd);
	_cleanup_(workdir_removep) struct workdir *work = NULL;
	char name[96];
	int r;

	if (dirfd < 0 || (fd < 0 && fd != -ENOENT))
		return fd;
	snprintf(name, sizeof(name), "rm-%s", key);
	r = workdir_open(store, name, 0, &work, NULL);
	if (r < 0)
		return r;
	return renameat(store_fd, key, work->fd, "entry") < 0 ? -errno : 0;
}

static void look_at(struct prune_item *it, int store_fd, const char *key)
{
	_cleanup_(close_fdp) int dirfd = openat(store_fd, key,
						O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(close_fdp) int fd = -EBADF;
	struct stat st;

	if (dirfd < 0)
		return;
	snprintf(it->name, sizeof(it->name), "%.*s", SNAPSHOT_KEY_SIZE, key);
	fd = lock_entry(dirfd);
	it->in_use = fd == -EWOULDBLOCK;
	it->unneeded = !is_current(dirfd, key);
	if (fstatat(dirfd, SNAPSHOT_BLOB, &st, AT_SYMLINK_NOFOLLOW) == 0)
		it->bytes = (uint64_t)st.st_size;
	/* What is in use now will have been used until now. */
	if (it->in_use)
		(void)futimens(dirfd, NULL);
	if (fstat(dirfd, &st) == 0)
		it->used = st.st_mtim.tv_sec;
}

static int list(const char *store, struct prune_item **ret, size_t *ret_n)
{
	_cleanup_(closedirp) DIR *dir = opendir(store);
	struct prune_item *items = NULL;
	struct dirent *d;
	size_t n = 0;

	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((d = readdir(dir))) {
		struct prune_item *v;

		if (snapshot_key_kind(d->d_name) < 0)
			continue;
		v = reallocarray(items, n + 1, sizeof(*v));
		if (!v) {
			free(items);
			return -ENOMEM;
		}
		items = v;
		v[n] = (struct prune_item){ 0 };
		look_at(&v[n], dirfd(dir), d->d_name);
		n += v[n].name[0] != '\0';
	}
	*ret = items;
	*ret_n = n;
	return 0;
}

int snapshot_prune(const char *cache, const struct prune_rules *rules, struct prune_result *result)
{
	_cleanup_(freep) char *store = str_printf("%s/snapshots", cache);
	_cleanup_(freep) struct prune_item *items = NULL;
	_cleanup_(close_fdp) int store_fd = -EBADF;
	size_t n = 0;
	int r;

	if (!store)
		return -ENOMEM;
	r = list(store, &items, &n);
	store_fd = open(store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r < 0 || store_fd < 0)
		return r;
	if (!rules->dry_run)
		(void)workdir_sweep(store);
	prune_choose(rules, items, n, time(NULL));
	for (size_t i = 0; i < n; i++)
		if (items[i].goes &&
		    (rules->dry_run || remove_entry(store, store_fd, items[i].name) == 0))
			prune_tell(rules, items[i].name, items[i].bytes, result);
	return 0;
}
