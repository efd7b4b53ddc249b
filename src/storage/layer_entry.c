/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/layer_entry.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define WHITEOUT      ".wh."
#define WHITEOUT_META ".wh..wh."
#define WHITEOUT_OPQ  ".wh..wh..opq"

static int entry_error(int code, const char *what, const char *path, struct err *e)
{
	char quoted[160];

	return err_errno(e, code, "%s %s", what, log_quote(quoted, sizeof(quoted), path));
}

static int entry_refused(const char *why, const char *path, struct err *e)
{
	char quoted[160];

	return err_set(e, -EBADMSG, "entry %s %s", log_quote(quoted, sizeof(quoted), path), why);
}

int layer_limit(struct err *e, const char *what, uint64_t limit, const char *unit)
{
	err_set(e, -EFBIG, "limit of %s exceeded: more than %llu %s", what,
		(unsigned long long)limit, unit);
	err_hint(e, "The image is larger than podvm accepts, or made to fill the disk.");
	return -EFBIG;
}

int layer_archive_error(const struct layer_job *job, struct err *e)
{
	const char *text = archive_error_string(job->tar);
	char quoted[200];

	if (job->source_error < 0)
		return job->source_error;
	log_quote(quoted, sizeof(quoted), text ? text : "unknown error");
	return err_set(e, -EBADMSG, "broken archive: %s", quoted);
}

/* Permissions and time of what has just been made; after the owner, which clears setuid. */
static int set_metadata(int fd, struct archive_entry *entry)
{
	struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ .tv_sec = archive_entry_mtime(entry),
		  .tv_nsec = archive_entry_mtime_nsec(entry) },
	};

	if (fchmod(fd, archive_entry_perm(entry)) < 0 || futimens(fd, times) < 0)
		return -errno;
	return 0;
}

static int owner(struct archive_entry *entry, uid_t *uid, gid_t *gid)
{
	int64_t u = archive_entry_uid(entry);
	int64_t g = archive_entry_gid(entry);

	if (u < 0 || u >= UINT32_MAX || g < 0 || g >= UINT32_MAX)
		return -ERANGE;
	*uid = (uid_t)u;
	*gid = (gid_t)g;
	return 0;
}

static bool keep_xattr(const char *name, bool is_file)
{
	if (str_starts(name, "user.overlay."))
		return false;
	return str_starts(name, "user.") || (is_file && str_eq(name, "security.capability"));
}

/* Only of files and directories: others can't have `user.*`. */
static int set_xattrs(struct layer_job *job, int fd, struct archive_entry *entry, bool is_file,
		      const char *path, struct err *e)
{
	size_t total = 0;
	const char *name;
	const void *value;
	size_t size;

	archive_entry_xattr_reset(entry);
	while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
		total += strlen(name) + size;
		if (total > job->target->limits.xattrs)
			return layer_limit(e, "extended attributes", job->target->limits.xattrs,
					   "bytes at one file");
		if (keep_xattr(name, is_file) && fsetxattr(fd, name, value, size, 0) < 0)
			return entry_error(-errno, "cannot set an extended attribute of", path, e);
	}
	return 0;
}

static int finish_open(struct layer_job *job, int fd, struct archive_entry *entry, bool is_file,
		       const char *path, struct err *e)
{
	uid_t uid;
	gid_t gid;
	int r;

	r = owner(entry, &uid, &gid);
	if (r == 0 && fchown(fd, uid, gid) < 0)
		r = -errno;
	if (r < 0)
		return entry_error(r, "cannot set the owner of", path, e);
	r = set_xattrs(job, fd, entry, is_file, path, e);
	if (r < 0)
		return r;
	r = set_metadata(fd, entry);
	return r < 0 ? entry_error(r, "cannot set mode and time of", path, e) : 0;
}

static int write_at(int fd, const char *data, size_t n, off_t offset)
{
	while (n > 0) {
		ssize_t w = pwrite(fd, data, n, offset);

		if (w < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		data += w;
		n -= (size_t)w;
		offset += w;
	}
	return 0;
}

/* The data of a file; holes stay holes. */
static int copy_data(struct layer_job *job, int fd, int64_t size, const char *path, struct err *e)
{
	const void *data;
	int64_t end = 0;
	int64_t offset;
	size_t n;
	int r;

	while ((r = archive_read_data_block(job->tar, &data, &n, &offset)) == ARCHIVE_OK) {
		if (offset < end || offset > size || (int64_t)n > size - offset)
			return entry_refused("has data outside of its size", path, e);
		if (offset > end)
			job->target->sparse = true;
		r = write_at(fd, data, n, offset);
		if (r < 0)
			return entry_error(r, "cannot write", path, e);
		end = offset + (int64_t)n;
	}
	if (r != ARCHIVE_EOF)
		return layer_archive_error(job, e);
	if (end < size) {
		job->target->sparse = true;
		if (ftruncate(fd, size) < 0)
			return entry_error(-errno, "cannot write", path, e);
	}
	return 0;
}

static int make_file(struct layer_job *job, const char *name, struct archive_entry *entry,
		     const char *path, struct err *e)
{
	_cleanup_(close_fdp) int fd = openat(job->tree.parent_fd, name,
					     O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
					     0600);
	const struct layer_limits *limits = &job->target->limits;
	int64_t size = archive_entry_size(entry);
	int r;

	if (fd < 0)
		return errno == EEXIST ? -EEXIST : entry_error(-errno, "cannot make", path, e);
	if (size < 0)
		return entry_refused("has no size", path, e);
	if ((uint64_t)size > limits->bytes - job->target->file_bytes)
		return layer_limit(e, "file sizes", limits->bytes, "bytes");
	job->target->file_bytes += (uint64_t)size;
	r = copy_data(job, fd, size, path, e);
	return r < 0 ? r : finish_open(job, fd, entry, /* is_file= */ true, path, e);
}

static int make_dir(struct layer_job *job, int dirfd, const char *name, struct archive_entry *entry,
		    const char *path, struct err *e)
{
	_cleanup_(close_fdp) int fd = -EBADF;

	if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
		return entry_error(-errno, "cannot make", path, e);
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOTDIR || errno == ELOOP
			       ? -EEXIST
			       : entry_error(-errno, "cannot open", path, e);
	return finish_open(job, fd, entry, /* is_file= */ false, path, e);
}

static bool same_object(int dir_a, const char *a, int dir_b, const char *b)
{
	struct stat sa;
	struct stat sb;

	return fstatat(dir_a, a, &sa, AT_SYMLINK_NOFOLLOW) == 0 &&
	       fstatat(dir_b, b, &sb, AT_SYMLINK_NOFOLLOW) == 0 && sa.st_ino == sb.st_ino;
}

/* A link to the object itself, even if that is a symbolic link; the parent may be one. */
static int make_hard_link(struct layer_job *job, const char *name, const char *target,
			  const char *path, struct err *e)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	char clean[TREE_PATH_MAX + 1];
	const char *last;
	char *slash;
	int r;

	r = tree_clean_name(&job->tree, target, clean, e);
	if (r < 0)
		return r;
	if (!*clean)
		return entry_refused("is a hard link to the root directory", path, e);
	slash = strrchr(clean, '/');
	if (slash)
		*slash = '\0';
	last = slash ? slash + 1 : clean;
	fd = open_in_root(job->tree.root_fd, slash ? clean : ".", O_PATH | O_DIRECTORY, 0);
	if (fd < 0)
		return entry_error(fd, "cannot find the hard link target of", path, e);
	if (linkat(fd, last, job->tree.parent_fd, name, 0) == 0)
		return 0;
	if (errno == EEXIST)
		return same_object(fd, last, job->tree.parent_fd, name) ? 0 : -EEXIST;
	return entry_error(-errno, "cannot find the hard link target of", path, e);
}

/* Symbolic links, fifos and devices: there is no descriptor to work on. */
static int make_special(struct layer_job *job, const char *name, struct archive_entry *entry,
			const char *path, struct err *e)
{
	struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ .tv_sec = archive_entry_mtime(entry),
		  .tv_nsec = archive_entry_mtime_nsec(entry) },
	};
	mode_t type = archive_entry_filetype(entry);
	const char *target = archive_entry_symlink(entry);
	int dirfd = job->tree.parent_fd;
	uid_t uid;
	gid_t gid;
	int r;

	if (type == AE_IFLNK && str_empty(target))
		return entry_refused("is a symbolic link to nothing", path, e);
	r = type == AE_IFLNK ? symlinkat(target, dirfd, name)
			     : mknodat(dirfd, name, type | 0600, archive_entry_rdev(entry));
	if (r < 0)
		return errno == EEXIST ? -EEXIST : entry_error(-errno, "cannot make", path, e);
	r = owner(entry, &uid, &gid);
	if (r == 0 && fchownat(dirfd, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	if (r == 0 && type != AE_IFLNK && fchmodat(dirfd, name, archive_entry_perm(entry), 0) < 0)
		r = -errno;
	if (r == 0 && utimensat(dirfd, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	return r < 0 ? entry_error(r, "cannot set owner, mode and time of", path, e) : 0;
}

/* Return: as layer_entry_apply(), and -EEXIST (without a message) when something is in the way. */
static int make_object(struct layer_job *job, const char *name, struct archive_entry *entry,
		       const char *path, struct err *e)
{
	const char *hard = archive_entry_hardlink(entry);

	if (hard)
		return make_hard_link(job, name, hard, path, e);
	switch (archive_entry_filetype(entry)) {
	case AE_IFREG:
		return make_file(job, name, entry, path, e);
	case AE_IFDIR:
		return make_dir(job, job->tree.parent_fd, name, entry, path, e);
	case AE_IFLNK:
	case AE_IFIFO:
	case AE_IFCHR:
	case AE_IFBLK:
		return make_special(job, name, entry, path, e);
	default:
		return entry_refused("is of an unknown type", path, e);
	}
}

static int whiteout(struct layer_job *job, const char *name, const char *path, struct err *e)
{
	const char *hidden = name + strlen(WHITEOUT);
	int r;

	if (str_eq(name, WHITEOUT_OPQ))
		r = tree_hide_all(&job->tree);
	else if (str_starts(name, WHITEOUT_META))
		return 0; /* bookkeeping of AUFS */
	else if (!*hidden || str_eq(hidden, ".") || str_eq(hidden, ".."))
		return entry_refused("is not a valid whiteout", path, e);
	else
		r = tree_hide(&job->tree, hidden);
	return r < 0 ? entry_error(r, "cannot apply the whiteout", path, e) : 0;
}

static int add(struct layer_job *job, const char *name, struct archive_entry *entry,
	       const char *path, struct err *e)
{
	int r = make_object(job, name, entry, path, e);

	if (r == -EEXIST) {
		r = rm_rf(job->tree.parent_fd, name);
		if (r == 0)
			r = make_object(job, name, entry, path, e);
		if (r == -EEXIST)
			return entry_error(r, "cannot replace", path, e);
	}
	if (r == 0 && tree_made(&job->tree, name) < 0)
		return err_oom(e);
	return r;
}

int layer_entry_apply(struct layer_job *job, struct archive_entry *entry, struct err *e)
{
	char path[TREE_PATH_MAX + 1];
	const char *base;
	const char *name;
	bool remove;
	int r;

	if (!archive_entry_pathname(entry))
		return err_set(e, -EBADMSG, "an entry has no name");
	r = tree_clean_name(&job->tree, archive_entry_pathname(entry), path, e);
	if (r < 0)
		return r;
	if (!*path) {
		if (archive_entry_filetype(entry) != AE_IFDIR || archive_entry_hardlink(entry))
			return entry_refused("replaces the root directory", "/", e);
		tree_leave(&job->tree);
		return make_dir(job, job->tree.root_fd, ".", entry, "/", e);
	}
	base = strrchr(path, '/');
	remove = str_starts(base ? base + 1 : path, WHITEOUT);
	r = tree_enter(&job->tree, path, /* make= */ !remove, &name, e);
	if (remove)
		return r == -ENOENT ? 0 : r < 0 ? r : whiteout(job, name, path, e);
	return r < 0 ? r : add(job, name, entry, path, e);
}
