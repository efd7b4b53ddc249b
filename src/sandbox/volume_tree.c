/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/volume_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define DATA_LINK  "..data"
#define PATH_SIZE  1024
#define OPEN_FLAGS (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

/* ---- a state ---- */

static void entry_done(struct volume_entry *n)
{
	free(n->path);
	free(n->data);
	free(n->target);
}

void volume_tree_done(struct volume_tree *t)
{
	for (size_t i = 0; i < t->n; i++)
		entry_done(&t->v[i]);
	free(t->v);
	*t = (struct volume_tree){ 0 };
}

void volume_tree_drop_data(struct volume_tree *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(TAKE_PTR(t->v[i].data));
}

/* Takes what @n holds, also on failure. */
static int add(struct volume_tree *t, struct volume_entry *n)
{
	struct volume_entry *v;

	if ((t->n & (t->n - 1)) == 0) {
		v = reallocarray(t->v, t->n ? 2 * t->n : 1, sizeof(*v));
		if (!v) {
			entry_done(n);
			return -ENOMEM;
		}
		t->v = v;
	}
	t->v[t->n++] = *n;
	return 0;
}

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct volume_entry *)a)->path,
		      ((const struct volume_entry *)b)->path);
}

static void sort(struct volume_tree *t)
{
	if (t->n > 1)
		qsort(t->v, t->n, sizeof(*t->v), compare);
}

const struct volume_entry *volume_tree_find(const struct volume_tree *t, const char *path)
{
	const struct volume_entry key = { .path = (char *)path };

	return t->n == 0 ? NULL : bsearch(&key, t->v, t->n, sizeof(*t->v), compare);
}

int volume_tree_doubt(struct volume_tree *t, struct volume_tree *next)
{
	struct volume_tree both = *next;
	size_t n = next->n;
	int r = 0;

	*next = (struct volume_tree){ 0 };
	volume_tree_drop_data(&both);
	for (size_t i = 0; r == 0 && i < t->n; i++) {
		const struct volume_tree sorted = { .v = both.v, .n = n };

		if (volume_tree_find(&sorted, t->v[i].path))
			continue;
		r = add(&both, &t->v[i]);
		t->v[i] = (struct volume_entry){ 0 };
	}
	volume_tree_done(t);
	sort(&both);
	for (size_t i = 0; i < both.n; i++)
		both.v[i].unknown = true;
	*t = both;
	return r;
}

/* ---- reading ---- */

/* FNV-1a, 64 bits: tells contents apart that nobody makes alike on purpose. */
static uint64_t hash_bytes(const uint8_t *data, size_t n)
{
	uint64_t h = 0xcbf29ce484222325;

	for (size_t i = 0; i < n; i++)
		h = (h ^ data[i]) * 0x100000001b3;
	return h;
}

static int too_large(const char *path, struct err *e)
{
	err_set(e, -EFBIG, "%s has more than %zu bytes", path, VOLUME_MAX_FILE);
	err_hint(e, "Kubernetes allows 1 MiB for a config map or a secret; larger files belong "
		    "into another kind of volume.");
	return -EFBIG;
}

static int read_data(int fd, const char *path, struct volume_entry *n, struct err *e)
{
	struct stat st;
	ssize_t got;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, -EAGAIN, "%s is no file any more", path);
	if ((uint64_t)st.st_size > VOLUME_MAX_FILE)
		return too_large(path, e);
	/* One more byte, to see that it has grown meanwhile. */
	n->data = malloc((size_t)st.st_size + 1);
	if (!n->data)
		return err_oom(e);
	got = fd_read_full(fd, n->data, (size_t)st.st_size + 1);
	if (got < 0)
		return err_errno(e, (int)got, "cannot read %s", path);
	n->size = MIN((size_t)got, (size_t)st.st_size);
	n->hash = hash_bytes(n->data, n->size);
	return 0;
}

static int read_target(int dir, const char *name, const char *path, struct volume_entry *n,
		       struct err *e)
{
	char target[PATH_MAX];
	ssize_t len = readlinkat(dir, name, target, sizeof(target));

	if (len < 0 || (size_t)len == sizeof(target))
		return err_errno(e, len < 0 ? -errno : -ENAMETOOLONG, "cannot read the link %s",
				 path);
	n->target = strndup(target, (size_t)len);
	return n->target ? 0 : err_oom(e);
}

static int start_entry(struct volume_entry *n, const char *path, const struct stat *st,
		       struct err *e)
{
	*n = (struct volume_entry){
		.path = strdup(path),
		.type = st->st_mode & S_IFMT,
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
	};
	return n->path ? 0 : err_oom(e);
}

/**
 * struct walk - The reading of a directory
 * @dev:	Its file system
 * @data:	What the kubelet's ..data names; "": there is none
 * @sockets:	NULL: it must not have any
 */
struct walk {
	struct volume_tree *t;
	dev_t dev;
	char data[NAME_MAX + 1];
	const struct volume_sockets *sockets;
	struct err *e;
};

/*
 * What isn't published yet (or any more) doesn't belong to it: the kubelet is writing there. So the
 * guest gets a new version in one go.
 */
static bool unpublished(const struct walk *w, const char *path)
{
	return *w->data && str_starts(path, "..") && !str_eq(path, DATA_LINK) &&
	       !str_eq(path, w->data);
}

static int read_directory(struct walk *w, int fd, const char *path, unsigned int depth);

/* A file or link; one that has gone meanwhile is none. */
static int read_leaf(struct walk *w, int dir, const char *name, const char *path,
		     const struct stat *st)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	struct volume_entry n;
	int r = start_entry(&n, path, st, w->e);

	if (r == 0 && S_ISLNK(st->st_mode)) {
		r = read_target(dir, name, path, &n, w->e);
	} else if (r == 0) {
		fd = openat(dir, name, OPEN_FLAGS);
		r = fd < 0 ? err_errno(w->e, -errno, "cannot open %s", path)
			   : read_data(fd, path, &n, w->e);
	}
	if (r < 0) {
		entry_done(&n);
		return r == -ENOENT ? 0 : r;
	}
	w->t->bytes += n.size;
	if (add(w->t, &n) < 0)
		return err_oom(w->e);
	return w->t->bytes > VOLUME_MAX_BYTES
		       ? err_set(w->e, -EFBIG, "it has more than %zu bytes", VOLUME_MAX_BYTES)
		       : 0;
}

/* Takes what @n holds. */
static int offer(struct volume_tree *t, const struct volume_sockets *sockets,
		 struct volume_entry *n, struct err *e)
{
	int r = sockets->offer(sockets->data, n, e);

	if (r <= 0) {
		entry_done(n);
		return r;
	}
	return add(t, n) < 0 ? err_oom(e) : 0;
}

/* Of those in directories below nobody would notice when they come and go. */
static int read_socket(struct walk *w, const char *path, const struct stat *st, unsigned int depth)
{
	struct volume_entry n;
	int r;

	if (depth > 0)
		return 0;
	r = start_entry(&n, path, st, w->e);
	return r < 0 ? r : offer(w->t, w->sockets, &n, w->e);
}

static int read_child(struct walk *w, int dir, const char *name, const char *path,
		      unsigned int depth)
{
	struct stat st;
	int fd;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_errno(w->e, -errno, "cannot read %s", path);
	if (w->t->n == VOLUME_MAX_ENTRIES)
		return err_set(w->e, -EFBIG, "it has more than %d entries", VOLUME_MAX_ENTRIES);
	if (S_ISSOCK(st.st_mode) && w->sockets)
		return read_socket(w, path, &st, depth);
	if (S_ISLNK(st.st_mode) || S_ISREG(st.st_mode))
		return read_leaf(w, dir, name, path, &st);
	if (!S_ISDIR(st.st_mode) || st.st_dev != w->dev)
		return err_set(w->e, -EINVAL, "%s is no directory, file or link of the volume",
			       path);
	fd = openat(dir, name, OPEN_FLAGS | O_DIRECTORY);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(w->e, -errno, "cannot open %s", path);
	return read_directory(w, fd, path, depth + 1);
}

/* Takes @fd. */
static int read_directory(struct walk *w, int fd, const char *path, unsigned int depth)
{
	_cleanup_(closedirp) DIR *dir = fdopendir(fd);
	struct volume_entry n;
	struct dirent *d;
	struct stat st;
	int r;

	if (!dir) {
		close(fd);
		return err_oom(w->e);
	}
	if (depth > VOLUME_MAX_DEPTH)
		return err_set(w->e, -EFBIG, "it has directories more than %d deep",
			       VOLUME_MAX_DEPTH);
	if (fstat(fd, &st) < 0)
		return err_errno(w->e, -errno, "cannot read %s", path);
	r = start_entry(&n, path, &st, w->e);
	if (r == 0)
		r = add(w->t, &n) < 0 ? err_oom(w->e) : 0;
	while (r == 0 && (d = readdir(dir))) {
		char child[PATH_SIZE];

		if (str_eq(d->d_name, ".") || str_eq(d->d_name, ".."))
			continue;
		if (snprintf(child, sizeof(child), "%s%s%s", path, *path ? "/" : "", d->d_name) >=
		    (int)sizeof(child))
			return err_set(w->e, -EFBIG, "a path in it is too long");
		if (depth == 0 && unpublished(w, child))
			continue;
		r = read_child(w, fd, d->d_name, child, depth);
	}
	return r;
}

static void data_link(int fd, char target[NAME_MAX + 1])
{
	ssize_t n = readlinkat(fd, DATA_LINK, target, NAME_MAX);

	target[MAX(n, 0)] = '\0';
}

static int open_top(const char *source, struct err *e)
{
	int fd = open(source, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? err_errno(e, -errno, "cannot open %s", source) : fd;
}

/*
 * The kubelet's ..data names a directory that was complete before. If it still names the same one
 * at the end, then what was read of that directory is complete as well.
 */
int volume_tree_read(struct volume_tree *t, const char *source,
		     const struct volume_sockets *sockets, struct err *e)
{
	_cleanup_(close_fdp) int fd = open_top(source, e);
	_cleanup_(close_fdp) int again = fd < 0 ? -EBADF : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	struct walk w = { .t = t, .sockets = sockets, .e = e };
	char after[NAME_MAX + 1];
	struct stat st;
	int r;

	if (fd < 0)
		return fd;
	if (again < 0 || fstat(fd, &st) < 0)
		return err_errno(e, -errno, "cannot read %s", source);
	w.dev = st.st_dev;
	data_link(fd, w.data);
	r = read_directory(&w, TAKE_FD(fd), "", 0);
	data_link(again, after);
	if (r == 0 && !str_eq(w.data, after))
		r = err_set(e, -EAGAIN, "%s changes", source);
	sort(t);
	return r;
}

int volume_tree_read_file(struct volume_tree *t, const char *source, const char *name, dev_t dev,
			  ino_t ino, struct err *e)
{
	_cleanup_(close_fdp) int fd = open(source, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct volume_entry n;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, -errno, "cannot open %s", source);
	if (st.st_dev != dev || st.st_ino != ino)
		return err_set(e, -ESTALE, "%s is another file now", source);
	r = start_entry(&n, name, &st, e);
	if (r == 0)
		r = read_data(fd, source, &n, e);
	if (r < 0) {
		entry_done(&n);
		return r;
	}
	t->bytes = n.size;
	return add(t, &n) < 0 ? err_oom(e) : 0;
}

int volume_tree_read_socket(struct volume_tree *t, const char *source, const char *name,
			    const struct volume_sockets *sockets, struct err *e)
{
	struct volume_entry n;
	struct stat st;
	int r;

	if (lstat(source, &st) < 0)
		return err_errno(e, -errno, "cannot open %s", source);
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -ENOTSOCK, "%s is no socket any more", source);
	r = start_entry(&n, name, &st, e);
	return r < 0 ? r : offer(t, sockets, &n, e);
}

int volume_tree_read_top(struct volume_tree *t, const char *source, struct err *e)
{
	_cleanup_(close_fdp) int fd = open_top(source, e);
	struct volume_entry n;
	struct stat st;
	int r;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return err_errno(e, -errno, "cannot read %s", source);
	r = start_entry(&n, "", &st, e);
	if (r == 0)
		r = add(t, &n) < 0 ? err_oom(e) : 0;
	return r;
}

/* ---- differences ---- */

static bool same(const struct volume_entry *a, const struct volume_entry *b)
{
	return !a->unknown && a->type == b->type && a->uid == b->uid && a->gid == b->gid &&
	       (a->type == S_IFLNK || a->mode == b->mode) && a->size == b->size &&
	       a->hash == b->hash && a->socket == b->socket && a->messages == b->messages &&
	       (!a->target || !b->target ? a->target == b->target : str_eq(a->target, b->target));
}

/* Whether it goes along with the directory that it is in. */
static bool goes_with_parent(const struct volume_tree *to, const char *path)
{
	const char *slash = strrchr(path, '/');
	_cleanup_(freep) char *parent = slash ? strndup(path, (size_t)(slash - path)) : NULL;

	return parent && !volume_tree_find(to, parent);
}

struct changes {
	Podvm__Agent__V1__VolumeChange *v;
	size_t n;
};

static void put(struct changes *c, const struct volume_entry *n)
{
	Podvm__Agent__V1__VolumeChange *v = &c->v[c->n++];

	podvm__agent__v1__volume_change__init(v);
	v->path = n->path;
	v->mode = n->mode;
	v->uid = n->uid;
	v->gid = n->gid;
	v->data.data = n->data;
	v->data.len = n->size;
	if (n->target)
		v->target = n->target;
	v->socket = n->socket;
	v->messages = n->messages;
	v->kind = n->type == S_IFDIR	? PODVM__AGENT__V1__VOLUME_CHANGE__KIND__DIRECTORY
		  : n->type == S_IFREG	? PODVM__AGENT__V1__VOLUME_CHANGE__KIND__FILE
		  : n->type == S_IFSOCK ? PODVM__AGENT__V1__VOLUME_CHANGE__KIND__SOCKET
					: PODVM__AGENT__V1__VOLUME_CHANGE__KIND__LINK;
}

static void put_removal(struct changes *c, const struct volume_entry *n)
{
	Podvm__Agent__V1__VolumeChange *v = &c->v[c->n++];

	podvm__agent__v1__volume_change__init(v);
	v->path = n->path;
	v->kind = PODVM__AGENT__V1__VOLUME_CHANGE__KIND__REMOVE;
}

/* @pass 0: directories, files and sockets; 1: links that were there; 2: new links */
static void put_pass(struct changes *c, const struct volume_tree *from,
		     const struct volume_tree *to, int pass)
{
	for (size_t i = 0; i < to->n; i++) {
		const struct volume_entry *old = volume_tree_find(from, to->v[i].path);
		int its = to->v[i].type != S_IFLNK ? 0 : old ? 1 : 2;

		if (its == pass && !(old && same(old, &to->v[i])))
			put(c, &to->v[i]);
	}
}

/* What the kubelet keeps for itself has names that begin with two dots. */
static void put_removals(struct changes *c, const struct volume_tree *from,
			 const struct volume_tree *to, bool internal)
{
	for (size_t i = 0; i < from->n; i++)
		if (str_starts(from->v[i].path, "..") == internal &&
		    !volume_tree_find(to, from->v[i].path) &&
		    !goes_with_parent(to, from->v[i].path))
			put_removal(c, &from->v[i]);
}

ssize_t volume_tree_diff(const struct volume_tree *from, const struct volume_tree *to,
			 Podvm__Agent__V1__VolumeChange **ret)
{
	struct changes c = { .v = calloc(from->n + to->n + 1, sizeof(*c.v)) };

	if (!c.v)
		return -ENOMEM;
	for (int pass = 0; pass < 3; pass++)
		put_pass(&c, from, to, pass);
	put_removals(&c, from, to, false);
	put_removals(&c, from, to, true);
	*ret = c.v;
	return (ssize_t)c.n;
}
