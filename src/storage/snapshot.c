/* SPDX-License-Identifier: Apache-2.0 */

/* Files of layers: found where they are, or put there when they have been made. */

#include "storage/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/log.h"
#include "storage/lock.h"
#include "storage/snapshot_internal.h"
#include "storage/workdir.h"

/* How long another process may take to make the same file. */
#define WAIT_MS (30 * 60 * 1000)

#define HOLD_MS 10000

#define EROFS_MAGIC	   0xe0f5e1e2u
#define EROFS_MAGIC_OFFSET 1024

void snapshot_file_done(struct snapshot_file *file)
{
	if (file->fd >= 0)
		close(TAKE_FD(file->fd));
	free(TAKE_PTR(file->path));
	disk_parts_done(&file->parts);
}

/* ---- files that are there ---- */

/* Return: Descriptor with a shared lock, -ENOENT also when it's just being removed */
static int open_locked(const char *path)
{
	_cleanup_(close_fdp) int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0)
		return errno == ENOTDIR ? -ENOENT : -errno;
	/* Others lock it exclusively only for a moment, to look at it or to remove it. */
	r = lock_wait(fd, LOCK_SH, HOLD_MS);
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r == 0 && st.st_nlink == 0)
		return -ENOENT;
	if (r == 0 && !S_ISREG(st.st_mode))
		r = -EBADMSG;
	return r < 0 ? r : TAKE_FD(fd);
}

/* Its time tells when it was used last. Return: 0, -ENOENT or another negative errno */
static int open_entry(const char *store, const char *key, struct snapshot_file *ret)
{
	_cleanup_(freep) char *dir = str_printf("%s/%s", store, key);
	_cleanup_(close_fdp) int dirfd = -EBADF;
	int r;

	ret->path = dir ? str_printf("%s/" SNAPSHOT_BLOB, dir) : NULL;
	if (!ret->path)
		return -ENOMEM;
	ret->fd = open_locked(ret->path);
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = ret->fd < 0 ? ret->fd : dirfd < 0 ? -errno : 0;
	if (r == 0 && snapshot_key_kind(key) != SNAPSHOT_LAYER)
		r = disk_parts_read(dirfd, SNAPSHOT_PARTS, &ret->parts);
	if (r == 0)
		(void)futimens(dirfd, NULL);
	else
		snapshot_file_done(ret);
	return r;
}

/* ---- making one ---- */

static int sync_path(int dirfd, const char *path)
{
	_cleanup_(close_fdp) int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* Complete, on the disk, and only then with its name. */
static int publish(const struct workdir *work, const char *store, const char *key, struct err *e)
{
	/* Of the mount namespace that the work began in: a file doesn't move between mounts. */
	_cleanup_(close_fdp) int store_fd = openat(work->tmp_fd, "..",
						   O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	static const char *const names[] = { "entry/" SNAPSHOT_BLOB, "entry/source",
					     "entry/" SNAPSHOT_PARTS, "entry" };
	int r = 0;

	if (store_fd < 0)
		return err_errno(e, -errno, "cannot open %s", store);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++) {
		r = sync_path(work->fd, names[i]);
		if (r == -ENOENT && str_eq(names[i], "entry/" SNAPSHOT_PARTS))
			r = 0;
	}
	if (r == 0 && renameat(work->fd, "entry", store_fd, key) < 0)
		r = -errno;
	if (r == 0 && fsync(store_fd) < 0)
		r = -errno;
	return r < 0 ? err_errno(e, r, "cannot put a layer into %s", store) : 0;
}

static int cannot_open(const char *store, int r, struct err *e)
{
	return err_errno(e, r, "cannot open a layer in %s", store);
}

/* Under the lock of the work directory: perhaps another process has made it meanwhile. */
static int open_or_make(const struct workdir *work, const char *store,
			const struct snapshot_recipe *recipe, const char *key, bool *ret_made,
			struct snapshot_file *ret, struct err *e)
{
	_cleanup_(freep) char *dir = str_printf("%s/%s", store, key);
	int r = dir ? open_entry(store, key, ret) : -ENOMEM;

	if (r != -ENOENT)
		return r < 0 ? cannot_open(store, r, e) : 0;
	/* Perhaps somebody has removed half of it. */
	(void)rm_rf(AT_FDCWD, dir);
	r = snapshot_make(work, recipe, key, e);
	if (r == 0)
		r = publish(work, store, key, e);
	if (r < 0)
		return r;
	*ret_made = true;
	r = open_entry(store, key, ret);
	return r < 0 ? cannot_open(store, r, e) : 0;
}

/* Two that want the same do the work once. */
static int enter_work(const char *store, const char *key, struct workdir **ret, struct err *e)
{
	int r = workdir_open(store, key, 0, ret, e);

	if (r != -EWOULDBLOCK)
		return r;
	log_info("waiting for another process that converts the same layer", "key=%s", key);
	return workdir_open(store, key, WAIT_MS, ret, e);
}

static int get(const struct snapshot_cache *cache, const struct snapshot_recipe *recipe,
	       struct snapshot_file *ret, struct err *e)
{
	_cleanup_(freep) char *store = str_printf("%s/snapshots", cache->dir);
	_cleanup_(workdir_removep) struct workdir *work = NULL;
	struct prune_rules rules = cache->rules;
	struct prune_result gone = { 0 };
	char key[SNAPSHOT_KEY_SIZE];
	bool made = false;
	int r;

	if (!store)
		return err_oom(e);
	r = snapshot_key(recipe, key, e);
	if (r < 0 || open_entry(store, key, ret) == 0)
		return r;
	r = enter_work(store, key, &work, e);
	if (r == 0)
		r = open_or_make(work, store, recipe, key, &made, ret, e);
	if (r < 0 || !made)
		return r;
	rules.unneeded = true;
	(void)snapshot_prune(cache->dir, &rules, &gone);
	if (gone.removed > 0)
		log_info("layers were removed from the cache", "files=%zu bytes=%llu", gone.removed,
			 (unsigned long long)gone.freed);
	return 0;
}

int snapshot_image(const struct snapshot_cache *cache, char *const *dirs, size_t n,
		   struct snapshot_file *ret, struct err *e)
{
	const struct snapshot_recipe recipe = {
		.kind = cache->verity ? SNAPSHOT_VERITY : SNAPSHOT_LAYER,
		.paths = dirs,
		.n = n,
	};

	return get(cache, &recipe, ret, e);
}

static int is_erofs(int fd)
{
	uint32_t magic = 0;
	ssize_t n = pread(fd, &magic, sizeof(magic), EROFS_MAGIC_OFFSET);

	return n == (ssize_t)sizeof(magic) && magic == EROFS_MAGIC;
}

int snapshot_blob(const struct snapshot_cache *cache, const char *dir, struct snapshot_file *ret,
		  struct err *e)
{
	const char *slash = strrchr(dir, '/');
	_cleanup_(snapshot_file_done) struct snapshot_file blob = SNAPSHOT_FILE_INIT;
	struct snapshot_recipe recipe = { .kind = SNAPSHOT_BLOB_COPY, .paths = &blob.path, .n = 1 };

	if (!slash)
		return -ENOENT;
	blob.path = str_printf("%.*s/" SNAPSHOT_BLOB, (int)(slash - dir), dir);
	if (!blob.path)
		return err_oom(e);
	blob.fd = open_locked(blob.path);
	if (blob.fd < 0 && blob.fd != -ENOENT)
		return err_errno(e, blob.fd, "cannot open %s", blob.path);
	if (blob.fd < 0 || !is_erofs(blob.fd))
		return -ENOENT;
	if (cache->verity) {
		int r = get(cache, &recipe, ret, e);

		/* That would mean that there is no such file. */
		return r == -ENOENT ? -EOPNOTSUPP : r;
	}
	*ret = blob;
	blob = SNAPSHOT_FILE_INIT;
	return 0;
}

int snapshot_pack(const struct snapshot_cache *cache, const struct snapshot_file *files, size_t n,
		  struct snapshot_file *ret, struct err *e)
{
	struct snapshot_recipe recipe = { .kind = SNAPSHOT_PACK, .n = n, .files = files };
	_cleanup_(strv_done) struct strv paths = { 0 };

	for (size_t i = 0; i < n; i++)
		if (strv_add(&paths, files[i].path) < 0)
			return err_oom(e);
	recipe.paths = paths.v;
	return get(cache, &recipe, ret, e);
}

int snapshot_image_once(const struct snapshot_cache *cache, const char *dir, const char *exclude,
			struct snapshot_file *ret, struct err *e)
{
	_cleanup_(workdir_removep) struct workdir *work = NULL;
	_cleanup_(freep) char *store = str_printf("%s/snapshots", cache->dir);
	char name[24] = "once-";
	int r;

	if (!store)
		return err_oom(e);
	r = random_hex(name + 5, 16);
	if (r < 0)
		return err_errno(e, r, "cannot make a name");
	r = workdir_open(store, name, WAIT_MS, &work, e);
	return r < 0 ? r : snapshot_make_once(work, dir, exclude, cache->verity, ret, e);
}
