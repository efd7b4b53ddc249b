/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

/* Dangling symbolic links that are followed to make the directories they point to. */
#define MAX_LINKS 40

void tree_init(struct tree *t, int root_fd, size_t max_path, size_t max_depth, uint64_t max_objects)
{
	*t = (struct tree){
		.root_fd = root_fd,
		.max_path = MIN(max_path, (size_t)TREE_PATH_MAX),
		.max_depth = max_depth,
		.objects_left = max_objects,
		.parent_fd = -EBADF,
	};
}

/* The old modification time, and the access time as it is. */
static void restore_mtime(int fd, const struct timespec *mtime)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, *mtime };

	(void)futimens(fd, times);
}

void tree_leave(struct tree *t)
{
	if (t->parent_fd < 0)
		return;
	restore_mtime(t->parent_fd, &t->parent_mtime);
	close(TAKE_FD(t->parent_fd));
}

void tree_done(struct tree *t)
{
	tree_leave(t);
	free(TAKE_PTR(t->made));
	t->n_made = t->made_size = 0;
}

static int refuse(int code, const char *name, const char *why, struct err *e)
{
	char quoted[160];

	log_quote(quoted, sizeof(quoted), name);
	if (code == -EBADMSG || code == -ENAMETOOLONG)
		return err_set(e, code, "entry %s %s", quoted, why);
	return err_errno(e, code, "entry %s %s", quoted, why);
}

int tree_clean_name(const struct tree *t, const char *name, char *out, struct err *e)
{
	size_t depth = 0;
	size_t len = 0;

	for (const char *p = name; *p;) {
		size_t n = strcspn(p, "/");

		if (n == 2 && p[0] == '.' && p[1] == '.')
			return refuse(-EBADMSG, name, "leads out of the image (\"..\")", e);
		if (n > 0 && !(n == 1 && p[0] == '.')) {
			if (len + (len > 0) + n > t->max_path || depth == t->max_depth)
				return refuse(-ENAMETOOLONG, name, "has a too long name", e);
			if (len > 0)
				out[len++] = '/';
			memcpy(out + len, p, n);
			len += n;
			depth++;
		}
		p += n + (p[n] == '/');
	}
	out[len] = '\0';
	return 0;
}

/* Length and depth of the real path of a directory below the root. */
static int real_place(const struct tree *t, int fd, size_t *len, size_t *depth)
{
	char link[64];
	char root[PATH_MAX];
	char path[PATH_MAX];
	ssize_t root_len;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", t->root_fd);
	root_len = readlink(link, root, sizeof(root));
	if (root_len < 0)
		return -errno;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path));
	if (n < 0)
		return -errno;
	if (n < root_len)
		return -EXDEV;
	*len = (size_t)(n - root_len);
	*depth = 0;
	for (ssize_t i = root_len; i < n; i++)
		*depth += path[i] == '/';
	return 0;
}

static int inode_times(int fd, uint64_t *ino, struct timespec *mtime)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*ino = st.st_ino;
	*mtime = st.st_mtim;
	return 0;
}

static int make_dirs(struct tree *t, const char *path, unsigned int links, int *ret_fd);

/* @name exists in @dirfd but not as a directory: make what a dangling symbolic link points to. */
static int make_link_target(struct tree *t, int dirfd, const char *dir, const char *name,
			    unsigned int links)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	_cleanup_(freep) char *path = NULL;
	char target[TREE_PATH_MAX];
	ssize_t n = readlinkat(dirfd, name, target, sizeof(target));

	if (n < 0)
		return errno == EINVAL ? -ENOTDIR : -errno;
	if (links == 0)
		return -ELOOP;
	path = str_printf("%s/%.*s", target[0] == '/' ? "" : dir, (int)n, target);
	if (!path)
		return -ENOMEM;
	if (strlen(path) > t->max_path)
		return -ENAMETOOLONG;
	return make_dirs(t, path, links - 1, &fd);
}

/* One missing directory; the time of the one that holds it stays. */
static int make_dir(struct tree *t, int dirfd, const char *dir, const char *name,
		    unsigned int links)
{
	static const struct timespec epoch[2];
	struct timespec mtime = { 0 };
	uint64_t ino;
	size_t depth;
	size_t len;
	int r;

	r = inode_times(dirfd, &ino, &mtime);
	if (r == 0)
		r = real_place(t, dirfd, &len, &depth);
	if (r < 0)
		return r;
	if (depth >= t->max_depth || len + strlen(name) > t->max_path)
		return -ENAMETOOLONG;
	if (t->objects_left == 0)
		return -EDQUOT;
	if (mkdirat(dirfd, name, 0755) < 0)
		return errno == EEXIST ? make_link_target(t, dirfd, dir, name, links) : -errno;
	t->objects_left--;
	if (fchmodat(dirfd, name, 0755, 0) < 0 || utimensat(dirfd, name, epoch, 0) < 0)
		return -errno;
	restore_mtime(dirfd, &mtime);
	return 0;
}

/* Open the directory @path and make what is missing of it. */
static int make_dirs(struct tree *t, const char *path, unsigned int links, int *ret_fd)
{
	_cleanup_(close_fdp) int dirfd = open_in_root(t->root_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	_cleanup_(freep) char *copy = strdup(path);
	size_t end;

	if (!copy)
		return -ENOMEM;
	for (size_t start = 0; dirfd >= 0 && path[start]; start = end + (path[end] == '/')) {
		int fd;
		int r;

		end = start + strcspn(path + start, "/");
		if (end == start)
			continue;
		copy[end] = '\0';
		fd = open_in_root(t->root_fd, copy, O_RDONLY | O_DIRECTORY, 0);
		if (fd == -ENOENT) {
			_cleanup_(freep) char *dir = strndup(path, start);

			r = dir ? make_dir(t, dirfd, dir, copy + start, links) : -ENOMEM;
			if (r < 0)
				return r;
			fd = open_in_root(t->root_fd, copy, O_RDONLY | O_DIRECTORY, 0);
		}
		copy[end] = path[end];
		close(dirfd);
		dirfd = fd;
	}
	if (dirfd < 0)
		return dirfd;
	*ret_fd = TAKE_FD(dirfd);
	return 0;
}

static int open_parent(struct tree *t, const char *path, bool make, int *ret_fd)
{
	int fd = open_in_root(t->root_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY, 0);

	if (fd == -ENOENT && make)
		return make_dirs(t, path, MAX_LINKS, ret_fd);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

int tree_enter(struct tree *t, const char *path, bool make, const char **ret_name, struct err *e)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	_cleanup_(close_fdp) int fd = -EBADF;
	int r;

	*ret_name = slash ? slash + 1 : path;
	if (t->parent_fd < 0 || strlen(t->parent) != len || memcmp(t->parent, path, len) != 0) {
		tree_leave(t);
		memcpy(t->parent, path, len);
		t->parent[len] = '\0';
		r = open_parent(t, t->parent, make, &fd);
		if (r == -ENOENT && !make)
			return r;
		if (r == 0)
			r = inode_times(fd, &t->parent_ino, &t->parent_mtime);
		if (r == 0)
			r = real_place(t, fd, &t->parent_len, &t->parent_depth);
		if (r < 0)
			return refuse(r, path, "cannot be put in its directory", e);
		t->parent_fd = TAKE_FD(fd);
	}
	if (t->parent_depth >= t->max_depth || t->parent_len + strlen(*ret_name) > t->max_path)
		return refuse(-ENAMETOOLONG, path, "lies too deep", e);
	return 0;
}

static uint64_t name_hash(uint64_t dir_ino, const char *name)
{
	uint64_t h = 0xcbf29ce484222325 ^ (dir_ino * 0x9e3779b97f4a7c15);

	for (const char *p = name; *p; p++)
		h = (h ^ (uint8_t)*p) * 0x100000001b3;
	h = (h ^ (h >> 32)) * 0x9e3779b97f4a7c15;
	h ^= h >> 29;
	return h ? h : 1;
}

/* The slot that has the hash, or the free one where it belongs. */
static uint64_t *made_slot(uint64_t *slots, size_t size, uint64_t hash)
{
	size_t i = hash & (size - 1);

	while (slots[i] && slots[i] != hash)
		i = (i + 1) & (size - 1);
	return &slots[i];
}

static int made_grow(struct tree *t)
{
	size_t size = t->made_size ? 2 * t->made_size : 1024;
	uint64_t *slots = calloc(size, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < t->made_size; i++)
		if (t->made[i])
			*made_slot(slots, size, t->made[i]) = t->made[i];
	free(t->made);
	t->made = slots;
	t->made_size = size;
	return 0;
}

int tree_made(struct tree *t, const char *name)
{
	uint64_t hash = name_hash(t->parent_ino, name);
	uint64_t *slot;

	if (2 * t->n_made >= t->made_size && made_grow(t) < 0)
		return -ENOMEM;
	slot = made_slot(t->made, t->made_size, hash);
	t->n_made += *slot == 0;
	*slot = hash;
	return 0;
}

static bool is_made(const struct tree *t, uint64_t dir_ino, const char *name)
{
	return t->made_size && *made_slot(t->made, t->made_size, name_hash(dir_ino, name)) != 0;
}

/* Takes fd. */
static int open_dir(int fd, DIR **ret)
{
	if (fd < 0)
		return -errno;
	*ret = fdopendir(fd);
	if (!*ret) {
		close(fd);
		return -ENOMEM;
	}
	return 0;
}

static int hide_children(struct tree *t, DIR *dir);

static int hide(struct tree *t, int parent_fd, uint64_t dir_ino, const char *name)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	bool made = is_made(t, dir_ino, name);
	struct stat st;
	int r;

	if (fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISDIR(st.st_mode))
		return made || unlinkat(parent_fd, name, 0) == 0 ? 0 : -errno;
	r = open_dir(openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
		     &dir);
	if (r == 0)
		r = hide_children(t, dir);
	if (r < 0)
		return r;
	if (!made && unlinkat(parent_fd, name, AT_REMOVEDIR) == 0)
		return 0;
	/* It is this layer's, or holds something of this layer. */
	restore_mtime(dirfd(dir), &st.st_mtim);
	return made || errno == ENOTEMPTY || errno == EEXIST ? 0 : -errno;
}

static int hide_children(struct tree *t, DIR *dir)
{
	struct dirent *d;
	struct stat st;

	if (fstat(dirfd(dir), &st) < 0)
		return -errno;
	while ((d = readdir(dir))) {
		int r;

		if (str_eq(d->d_name, ".") || str_eq(d->d_name, ".."))
			continue;
		r = hide(t, dirfd(dir), st.st_ino, d->d_name);
		if (r < 0)
			return r;
	}
	return 0;
}

int tree_hide(struct tree *t, const char *name)
{
	return hide(t, t->parent_fd, t->parent_ino, name);
}

int tree_hide_all(struct tree *t)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	int r = open_dir(openat(t->parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), &dir);

	return r < 0 ? r : hide_children(t, dir);
}
