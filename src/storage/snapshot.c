/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "storage/lock.h"
#include "storage/snapshot_internal.h"
#include "storage/workdir.h"

/* How long another process may take to make the same file. */
#define WAIT_MS (30 * 60 * 1000)

/* What a disk has left when it counts as full. */
#define SPACE_LEFT ((uint64_t)16 << 20)

/* mount(2) takes one page of options. */
#define OPTIONS_MAX 4095

#define EROFS_MAGIC	   0xe0f5e1e2u
#define EROFS_MAGIC_OFFSET 1024

/* ---- files that are there ---- */

/* Return: Descriptor with a shared lock, -ENOENT also when it's just being removed */
static int open_locked(int dirfd, const char *path)
{
	_cleanup_(close_fdp) int fd = openat(dirfd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0)
		return errno == ENOTDIR ? -ENOENT : -errno;
	r = lock_wait(fd, LOCK_SH, 0);
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r == -EWOULDBLOCK || (r == 0 && st.st_nlink == 0))
		return -ENOENT;
	if (r == 0 && !S_ISREG(st.st_mode))
		r = -EBADMSG;
	return r < 0 ? r : TAKE_FD(fd);
}

int snapshot_blob(const char *dir)
{
	const char *slash = strrchr(dir, '/');
	_cleanup_(freep) char *path = NULL;
	_cleanup_(close_fdp) int fd = -EBADF;
	uint32_t magic = 0;

	if (!slash)
		return -ENOENT;
	path = str_printf("%.*s/" SNAPSHOT_BLOB, (int)(slash - dir), dir);
	if (!path)
		return -ENOMEM;
	fd = open_locked(AT_FDCWD, path);
	if (fd < 0)
		return fd;
	if (pread(fd, &magic, sizeof(magic), EROFS_MAGIC_OFFSET) != (ssize_t)sizeof(magic) ||
	    magic != EROFS_MAGIC)
		return -ENOENT;
	return TAKE_FD(fd);
}

static int open_entry(const char *store, const char *key)
{
	_cleanup_(freep) char *path = str_printf("%s/%s/" SNAPSHOT_BLOB, store, key);

	return path ? open_locked(AT_FDCWD, path) : -ENOMEM;
}

/* ---- making one ---- */

static int check_space(const struct workdir *work, uint64_t need, struct err *e)
{
	struct statvfs st;
	uint64_t left;

	if (fstatvfs(work->fd, &st) < 0)
		return err_errno(e, -errno, "cannot look at %s", work->path);
	left = (uint64_t)st.f_bavail * st.f_frsize;
	if (left >= need + SPACE_LEFT)
		return 0;
	err_set(e, -ENOSPC, "no space in %s: %llu MiB are free, about %llu MiB are needed",
		work->path, (unsigned long long)(left >> 20),
		(unsigned long long)((need + SPACE_LEFT) >> 20));
	err_hint(e, "Free some, e.g. with: podvm image prune --all");
	return -ENOSPC;
}

/* Colons separate directories there, and a backslash takes their meaning away. */
static int add_lower(struct buf *options, const char *dir)
{
	int r = buf_printf(options, buf_len(options) ? ":" : "lowerdir=");

	for (; r == 0 && *dir; dir++)
		r = buf_printf(options, strchr("\\:,", *dir) ? "\\%c" : "%c", *dir);
	return r;
}

static int mount_joined(const char *target, char *const *dirs, size_t n, struct err *e)
{
	_cleanup_(buf_done) struct buf options = { .limit = OPTIONS_MAX };
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_lower(&options, dirs[i]);
	if (r == -ENOBUFS)
		return err_set(e, -EOPNOTSUPP, "%zu layers are too many to be joined", n);
	if (r < 0 || !buf_cstr(&options))
		return err_oom(e);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_errno(e, -errno, "cannot get a mount namespace");
	if (mkdir(target, 0700) < 0)
		return err_errno(e, -errno, "cannot make %s", target);
	if (mount("overlay", target, "overlay", MS_RDONLY, buf_cstr(&options)) < 0)
		return err_errno(e, -errno, "cannot join %zu layers", n);
	return 0;
}

static int make_file(const struct workdir *work, char *const *dirs, size_t n, const char *key,
		     const struct snapshot_tree *tree, struct err *e)
{
	_cleanup_(freep) char *file = str_printf("%s/entry/" SNAPSHOT_BLOB, work->path);
	_cleanup_(freep) char *joined = str_printf("%s/joined", work->path);
	_cleanup_(freep) char *digest = str_printf("sha256:%s", key);
	int r = 0;

	if (!file || !joined || !digest)
		return err_oom(e);
	if (n > 1)
		r = mount_joined(joined, dirs, n, e);
	if (r == 0)
		r = erofs_make(n > 1 ? joined : dirs[0], file,
			       &(struct erofs_options){ .digest = digest, .sparse = tree->sparse },
			       e);
	if (n > 1)
		(void)umount2(joined, MNT_DETACH);
	return r;
}

static int write_source(const struct workdir *work, char *const *dirs, size_t n, struct err *e)
{
	_cleanup_(buf_done) struct buf text = { .limit = SNAPSHOT_PATHS_MAX };
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = buf_printf(&text, "%s\n", dirs[i]);
	if (r == 0)
		r = file_replace(work->fd, "entry/source", buf_head(&text), buf_len(&text), 0600);
	return r < 0 ? err_errno(e, r, "cannot write in %s", work->path) : 0;
}

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
	int r;

	if (store_fd < 0)
		return err_errno(e, -errno, "cannot open %s", store);
	r = sync_path(work->fd, "entry/" SNAPSHOT_BLOB);
	if (r == 0)
		r = sync_path(work->fd, "entry/source");
	if (r == 0)
		r = sync_path(work->fd, "entry");
	if (r == 0 && renameat(work->fd, "entry", store_fd, key) < 0)
		r = -errno;
	if (r == 0 && fsync(store_fd) < 0)
		r = -errno;
	return r < 0 ? err_errno(e, r, "cannot put a layer into %s", store) : 0;
}

static int scan(const struct workdir *work, char *const *dirs, size_t n, struct snapshot_tree *tree,
		struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = snapshot_scan(dirs[i], tree, e);
	return r < 0 ? r : check_space(work, tree->bytes, e);
}

static int build(const struct workdir *work, const char *store, char *const *dirs, size_t n,
		 const char *key, struct err *e)
{
	struct snapshot_tree tree = { 0 };
	uint64_t began = clock_ms();
	int r;

	r = scan(work, dirs, n, &tree, e);
	if (r == 0 && mkdirat(work->fd, "entry", 0700) < 0)
		r = err_errno(e, -errno, "cannot work in %s", work->path);
	if (r == 0)
		r = make_file(work, dirs, n, key, &tree, e);
	if (r == 0)
		r = write_source(work, dirs, n, e);
	if (r == 0)
		r = publish(work, store, key, e);
	if (r < 0)
		return r;
	log_info("a layer was converted", "layers=%zu bytes=%llu ms=%llu first=%s", n,
		 (unsigned long long)tree.bytes, (unsigned long long)(clock_ms() - began), dirs[0]);
	return 0;
}

/* Under the lock of the work directory: perhaps another process has made it meanwhile. */
static int open_or_build(const struct workdir *work, const char *store, char *const *dirs, size_t n,
			 const char *key, bool *ret_built, struct err *e)
{
	int fd = open_entry(store, key);
	int r;

	if (fd != -ENOENT)
		return fd < 0 ? err_errno(e, fd, "cannot open a layer in %s", store) : fd;
	r = build(work, store, dirs, n, key, e);
	if (r < 0)
		return r;
	*ret_built = true;
	fd = open_entry(store, key);
	return fd < 0 ? err_errno(e, fd, "cannot open a layer in %s", store) : fd;
}

static int make(const char *cache, const char *store, char *const *dirs, size_t n, const char *key,
		struct err *e)
{
	_cleanup_(workdir_removep) struct workdir *work = NULL;
	uint64_t freed = 0;
	bool built = false;
	int fd;
	int r;

	r = workdir_open(store, key, WAIT_MS, &work, e);
	if (r < 0)
		return r;
	fd = open_or_build(work, store, dirs, n, key, &built, e);
	if (fd >= 0 && built)
		(void)snapshot_prune(cache, false, &freed);
	return fd;
}

int snapshot_image(const char *cache, char *const *dirs, size_t n, struct err *e)
{
	_cleanup_(freep) char *store = str_printf("%s/snapshots", cache);
	char key[STR_HASH_SIZE];
	int fd;
	int r;

	if (!store)
		return err_oom(e);
	r = snapshot_key(dirs, n, key, e);
	if (r < 0)
		return r;
	fd = open_entry(store, key);
	if (fd >= 0)
		return fd;
	return make(cache, store, dirs, n, key, e);
}

int snapshot_image_once(const char *cache, const char *dir, const char *exclude, struct err *e)
{
	_cleanup_(workdir_removep) struct workdir *work = NULL;
	_cleanup_(freep) char *store = str_printf("%s/snapshots", cache);
	_cleanup_(freep) char *file = NULL;
	struct snapshot_tree tree = { 0 };
	char name[24] = "once-";
	int fd;
	int r;

	if (!store)
		return err_oom(e);
	r = random_hex(name + 5, 16);
	if (r < 0)
		return err_errno(e, r, "cannot make a name");
	r = workdir_open(store, name, WAIT_MS, &work, e);
	if (r < 0)
		return r;
	file = str_printf("%s/" SNAPSHOT_BLOB, work->path);
	if (!file)
		return err_oom(e);
	r = scan(work, (char *const *)&dir, 1, &tree, e);
	if (r == 0)
		r = erofs_make(dir, file,
			       &(struct erofs_options){ .exclude = exclude, .sparse = tree.sparse },
			       e);
	if (r < 0)
		return r;
	fd = openat(work->fd, SNAPSHOT_BLOB, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? err_errno(e, -errno, "cannot open the layer in %s", work->path) : fd;
}
