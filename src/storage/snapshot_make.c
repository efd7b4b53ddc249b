/* SPDX-License-Identifier: Apache-2.0 */

/* Making the files of layers: from directories, from files, and from several files. */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "storage/copy.h"
#include "storage/snapshot_internal.h"
#include "storage/workdir.h"

/* What a disk has left when it counts as full. */
#define SPACE_LEFT ((uint64_t)16 << 20)

/* mount(2) takes one page of options. */
#define OPTIONS_MAX 4095

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

/* ---- of directories ---- */

/* Short names for directories, since all have to fit into one page. */
static int make_links(const struct workdir *work, char *const *dirs, size_t n, struct buf *options)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	char name[24];
	int r = 0;

	if (mkdirat(work->fd, "links", 0700) < 0)
		return -errno;
	fd = openat(work->fd, "links", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (size_t i = 0; r == 0 && i < n; i++) {
		snprintf(name, sizeof(name), "%zu", i);
		r = symlinkat(dirs[i], fd, name) < 0 ? -errno : 0;
		if (r == 0)
			r = buf_printf(options, "%s%s", i ? ":" : "lowerdir=", name);
	}
	return r < 0 ? r : TAKE_FD(fd);
}

static int mount_joined(const struct workdir *work, const char *target, char *const *dirs, size_t n,
			struct err *e)
{
	_cleanup_(buf_done) struct buf options = { .limit = OPTIONS_MAX };
	_cleanup_(close_fdp) int links = make_links(work, dirs, n, &options);
	_cleanup_(close_fdp) int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (links == -ENOBUFS)
		return err_set(e, -EOPNOTSUPP, "%zu layers are too many to be joined", n);
	if (links < 0 || here < 0)
		return err_errno(e, links < 0 ? links : -errno, "cannot work in %s", work->path);
	if (!buf_cstr(&options))
		return err_oom(e);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_errno(e, -errno, "cannot get a mount namespace");
	if (mkdir(target, 0700) < 0 || fchdir(links) < 0)
		return err_errno(e, -errno, "cannot make %s", target);
	r = mount("overlay", target, "overlay", MS_RDONLY, buf_cstr(&options)) < 0 ? -errno : 0;
	if (fchdir(here) < 0 && r == 0)
		r = -errno;
	return r < 0 ? err_errno(e, r, "cannot join %zu layers", n) : 0;
}

static int make_erofs(const struct workdir *work, char *const *dirs, size_t n, const char *file,
		      const struct erofs_options *options, struct err *e)
{
	_cleanup_(freep) char *joined = str_printf("%s/joined", work->path);
	int r = 0;

	if (!joined)
		return err_oom(e);
	if (n > 1)
		r = mount_joined(work, joined, dirs, n, e);
	if (r == 0)
		r = erofs_make(n > 1 ? joined : dirs[0], file, options, e);
	if (n > 1)
		(void)umount2(joined, MNT_DETACH);
	return r;
}

static int scan(const struct workdir *work, char *const *dirs, size_t n, struct snapshot_tree *tree,
		struct err *e)
{
	int r = 0;

	tree->limits = SNAPSHOT_LIMITS;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = snapshot_scan(dirs[i], tree, e);
	return r < 0 ? r : check_space(work, tree->bytes, e);
}

static int add_tree(const char *file, struct disk_parts *parts, struct err *e)
{
	struct disk_part part = { 0 };
	int r = verity_append(file, &part, e);

	if (r < 0)
		return r;
	return disk_parts_add(parts, &part) < 0 ? err_oom(e) : 0;
}

static int make_layer(const struct workdir *work, const struct snapshot_recipe *recipe,
		      const char *key, const char *file, struct disk_parts *parts, struct err *e)
{
	_cleanup_(freep) char *digest = str_printf("sha256:%s", key);
	struct snapshot_tree tree = { 0 };
	int r;

	if (!digest)
		return err_oom(e);
	r = scan(work, recipe->paths, recipe->n, &tree, e);
	if (r < 0)
		return r;
	log_info("a layer is being converted", "layers=%zu files=%llu bytes=%llu first=%s",
		 recipe->n, (unsigned long long)tree.entries, (unsigned long long)tree.bytes,
		 recipe->paths[0]);
	r = make_erofs(work, recipe->paths, recipe->n, file,
		       &(struct erofs_options){ .digest = digest, .sparse = tree.sparse }, e);
	return r < 0 || recipe->kind == SNAPSHOT_LAYER ? r : add_tree(file, parts, e);
}

int snapshot_make_once(const struct workdir *work, const char *dir, const char *exclude,
		       bool verity, struct snapshot_file *ret, struct err *e)
{
	_cleanup_(freep) char *file = str_printf("%s/" SNAPSHOT_BLOB, work->path);
	struct snapshot_tree tree = { 0 };
	int r;

	if (!file)
		return err_oom(e);
	r = scan(work, (char *const *)&dir, 1, &tree, e);
	if (r == 0)
		r = erofs_make(dir, file,
			       &(struct erofs_options){ .exclude = exclude, .sparse = tree.sparse },
			       e);
	if (r == 0 && verity)
		r = add_tree(file, &ret->parts, e);
	if (r < 0)
		return r;
	ret->fd = openat(work->fd, SNAPSHOT_BLOB, O_RDONLY | O_CLOEXEC);
	return ret->fd < 0 ? err_errno(e, -errno, "cannot open the layer in %s", work->path) : 0;
}

/* ---- of files ---- */

/* Puts a file at the end of another. Its parts, or all of it, become parts of that. */
static int add_file(int out, const struct snapshot_file *file, struct disk_parts *parts,
		    struct err *e)
{
	static const struct disk_part whole;
	const struct disk_part *v = file->parts.n ? file->parts.v : &whole;
	off_t start = lseek(out, 0, SEEK_END);
	uint64_t size;
	struct stat st;
	int r;

	if (start < 0 || fstat(file->fd, &st) < 0)
		return err_errno(e, -errno, "cannot copy %s", file->path);
	size = ((uint64_t)st.st_size + PART_BLOCK - 1) / PART_BLOCK * PART_BLOCK;
	r = file_append(out, file->fd, (uint64_t)st.st_size);
	if (r == 0 && ftruncate(out, start + (off_t)size) < 0)
		r = -errno;
	for (size_t i = 0; r == 0 && i < MAX(file->parts.n, 1); i++) {
		struct disk_part part = v[i];

		part.offset += (uint64_t)start;
		if (part.size == 0)
			part.size = size;
		r = disk_parts_add(parts, &part);
	}
	return r < 0 ? err_errno(e, r, "cannot copy %s", file->path) : 0;
}

static int create_file(const char *file, struct err *e)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? err_errno(e, -errno, "cannot make %s", file) : fd;
}

static int copy_blob(const struct workdir *work, const struct snapshot_recipe *recipe,
		     const char *file, struct disk_parts *parts, struct err *e)
{
	_cleanup_(close_fdp) int in = open(recipe->paths[0], O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(close_fdp) int out = create_file(file, e);
	struct stat st;
	int r;

	if (out < 0)
		return out;
	if (in < 0 || fstat(in, &st) < 0)
		return err_errno(e, -errno, "cannot open %s", recipe->paths[0]);
	r = check_space(work, (uint64_t)st.st_size, e);
	if (r < 0)
		return r;
	r = file_append(out, in, (uint64_t)st.st_size);
	return r < 0 ? err_errno(e, r, "cannot copy %s", recipe->paths[0])
		     : add_tree(file, parts, e);
}

static int pack_files(const struct workdir *work, const struct snapshot_recipe *recipe,
		      const char *file, struct disk_parts *parts, struct err *e)
{
	_cleanup_(close_fdp) int out = create_file(file, e);
	uint64_t need = 0;
	struct stat st;
	int r = out < 0 ? out : 0;

	for (size_t i = 0; r == 0 && i < recipe->n; i++)
		if (fstat(recipe->files[i].fd, &st) == 0)
			need += (uint64_t)st.st_size;
	if (r == 0)
		r = check_space(work, need, e);
	for (size_t i = 0; r == 0 && i < recipe->n; i++)
		r = add_file(out, &recipe->files[i], parts, e);
	if (r == 0 && parts->n > PARTS_MAX)
		r = err_set(e, -EOPNOTSUPP, "%zu parts are too many for a disk", parts->n);
	return r;
}

/* ---- any ---- */

/* What tells whether it's still that of today, and what is in it. */
static int write_notes(const struct workdir *work, const struct snapshot_recipe *recipe,
		       const struct disk_parts *parts, struct err *e)
{
	_cleanup_(buf_done) struct buf text = { .limit = SNAPSHOT_PATHS_MAX };
	int r = 0;

	for (size_t i = 0; r == 0 && i < recipe->n; i++)
		r = buf_printf(&text, "%s\n", recipe->paths[i]);
	if (r == 0)
		r = file_replace(work->fd, "entry/source", buf_head(&text), buf_len(&text), 0600);
	if (r == 0 && parts->n > 0)
		r = disk_parts_write(work->fd, "entry/" SNAPSHOT_PARTS, parts);
	return r < 0 ? err_errno(e, r, "cannot write in %s", work->path) : 0;
}

int snapshot_make(const struct workdir *work, const struct snapshot_recipe *recipe, const char *key,
		  struct err *e)
{
	_cleanup_(freep) char *file = str_printf("%s/entry/" SNAPSHOT_BLOB, work->path);
	_cleanup_(disk_parts_done) struct disk_parts parts = { 0 };
	uint64_t began = clock_ms();
	struct stat st;
	int r;

	if (!file)
		return err_oom(e);
	if (mkdirat(work->fd, "entry", 0700) < 0)
		return err_errno(e, -errno, "cannot work in %s", work->path);
	if (recipe->kind == SNAPSHOT_PACK)
		r = pack_files(work, recipe, file, &parts, e);
	else if (recipe->kind == SNAPSHOT_BLOB_COPY)
		r = copy_blob(work, recipe, file, &parts, e);
	else
		r = make_layer(work, recipe, key, file, &parts, e);
	if (r == 0)
		r = write_notes(work, recipe, &parts, e);
	if (r == 0 && stat(file, &st) < 0)
		r = err_errno(e, -errno, "cannot open %s", file);
	if (r < 0)
		return r;
	log_info("a layer was converted", "layers=%zu bytes=%llu ms=%llu first=%s", recipe->n,
		 (unsigned long long)st.st_size, (unsigned long long)(clock_ms() - began),
		 recipe->paths[0]);
	return 0;
}
