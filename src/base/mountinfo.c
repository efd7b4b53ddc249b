/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mountinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define MOUNTINFO_MAX ((size_t)16 << 20)

int mountinfo_read(char **ret, struct err *e)
{
	int r = file_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, ret, NULL);

	return r < 0 ? err_errno(e, r, "cannot read mountinfo") : 0;
}

/* The next field of a line of mountinfo; @p is moved behind it. */
static const char *next_field(const char **p, size_t *len)
{
	const char *field = *p;

	*len = strcspn(field, " \n");
	*p = field + *len + (field[*len] == ' ');
	return field;
}

/* Spaces and the like are written as \ooo. */
static char *unescape(const char *text, size_t len)
{
	char *out = malloc(len + 1);
	size_t n = 0;

	for (size_t i = 0; out && i < len; i++) {
		unsigned int c;

		if (text[i] == '\\' && len - i >= 4 && sscanf(text + i + 1, "%3o", &c) == 1) {
			out[n++] = (char)c;
			i += 3;
		} else {
			out[n++] = text[i];
		}
	}
	if (out)
		out[n] = '\0';
	return out;
}

/* The nth field of a line: id, parent, device, root, mount point, ... */
static const char *nth_field(const char *line, int n, size_t *len)
{
	const char *field = line;

	while (n-- > 0)
		field = next_field(&line, len);
	return field;
}

/* The nth field of a line, as it was before it was escaped. */
static char *copy_field(const char *line, int n)
{
	size_t len = 0;
	const char *field = nth_field(line, n, &len);

	return unescape(field, len);
}

static const char *next_line(const char *line)
{
	line += strcspn(line, "\n");
	return line + (*line == '\n');
}

static bool is_below(const char *path, const char *dir)
{
	size_t len = str_eq(dir, "/") ? 0 : strlen(dir);

	return strncmp(path, dir, len) == 0 && path[len] == '/' && path[len + 1];
}

int mountinfo_each_below(const char *mountinfo, const char *path,
			 int (*cb)(void *data, const struct mountinfo_line *mount), void *data)
{
	int r = 0;

	for (const char *line = mountinfo; r == 0 && *line; line = next_line(line)) {
		size_t len = 0;
		const char *field = nth_field(line, 5, &len);
		_cleanup_(freep) char *point = unescape(field, len);
		const struct mountinfo_line mount = {
			.id = strtoull(line, NULL, 10),
			.point = point,
			.text = line,
			.len = (size_t)(field - line) + len,
		};

		if (!point)
			r = -ENOMEM;
		else if (is_below(point, path))
			r = cb(data, &mount);
	}
	return r;
}

static int found(void *data, const struct mountinfo_line *mount)
{
	return 1;
}

int mountinfo_below(const char *mountinfo, const char *path)
{
	return mountinfo_each_below(mountinfo, path, found, NULL);
}

int mountinfo_has_below(const char *source, bool *ret, struct err *e)
{
	_cleanup_(freep) char *path = realpath(source, NULL);
	_cleanup_(freep) char *text = NULL;
	int r = path ? mountinfo_read(&text, e) : err_errno(e, -errno, "cannot find %s", source);

	if (r < 0)
		return r;
	r = mountinfo_below(text, path);
	if (r < 0)
		return err_oom(e);
	*ret = r > 0;
	return 0;
}

char *mountinfo_fs_path(const char *mountinfo, uint64_t id, const char *path)
{
	for (const char *line = mountinfo; *line; line = next_line(line)) {
		size_t root_len = 0;
		size_t point_len = 0;
		const char *root = nth_field(line, 4, &root_len);
		const char *field = nth_field(line, 5, &point_len);
		_cleanup_(freep) char *top = NULL;
		_cleanup_(freep) char *point = NULL;

		if (strtoull(line, NULL, 10) != id || root_len == 0 || *root != '/')
			continue;
		top = unescape(root, root_len);
		point = unescape(field, point_len);
		if (!top || !point || (!str_eq(path, point) && !is_below(path, point)))
			return NULL;
		return str_printf("%s%s", str_eq(top, "/") ? "" : top,
				  path + (str_eq(point, "/") ? 0 : strlen(point)));
	}
	return NULL;
}

int mountinfo_locate(int fd, char path[PATH_MAX], uint64_t *id, struct err *e)
{
	char link[32];
	struct statx st;
	ssize_t n;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) < 0 || !(st.stx_mask & STATX_MNT_ID))
		return err_errno(e, -errno, "cannot find out about a mount");
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, PATH_MAX);
	if (n < 0 || n == PATH_MAX)
		return err_errno(e, n < 0 ? -errno : -ENAMETOOLONG, "cannot find a path");
	path[n] = '\0';
	*id = st.stx_mnt_id;
	return 0;
}

/* Where on its file system something is. */
static int fs_path(int fd, const char *mountinfo, char **ret, struct err *e)
{
	char path[PATH_MAX];
	uint64_t id;
	int r = mountinfo_locate(fd, path, &id, e);

	if (r < 0)
		return r;
	*ret = mountinfo_fs_path(mountinfo, id, path);
	return *ret ? 0 : err_set(e, -ENOENT, "cannot find the mount of %s", path);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Is it really there? What is in between may be links. */
static bool is_there(int top, const char *name, const struct stat *want)
{
	_cleanup_(close_fdp) int fd = open_in_root(top, name, O_PATH | O_NOFOLLOW, 0);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && same_file(&st, want);
}

int mountinfo_inside(int fd, const char *dir, const char *mountinfo, char **ret, struct err *e)
{
	_cleanup_(close_fdp) int top = open(dir, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(freep) char *whole = NULL;
	_cleanup_(freep) char *part = NULL;
	struct stat top_st;
	struct stat st;
	size_t n;
	int r;

	*ret = NULL;
	if (top < 0 || fstat(top, &top_st) < 0 || fstat(fd, &st) < 0 || st.st_dev != top_st.st_dev)
		return 0;
	r = fs_path(top, mountinfo, &whole, e);
	if (r == 0)
		r = fs_path(fd, mountinfo, &part, e);
	if (r < 0)
		return r;
	n = strlen(whole);
	if (strncmp(part, whole, n) != 0 || (part[n] && part[n] != '/'))
		return 0;
	if (part[n] ? !is_there(top, part + n + 1, &st) : !same_file(&top_st, &st))
		return 0;
	*ret = strdup(part[n] ? part + n + 1 : "");
	return *ret ? 0 : err_oom(e);
}

/* Where a mount shows a file of its file system, if it does. */
static int add_path(const char *line, const char *fs_path, struct strv *ret)
{
	_cleanup_(freep) char *top = copy_field(line, 4);
	_cleanup_(freep) char *point = copy_field(line, 5);
	const char *rest;

	if (!top || !point)
		return -ENOMEM;
	if (!str_eq(fs_path, top) && !is_below(fs_path, top))
		return 0;
	rest = fs_path + (str_eq(top, "/") ? 0 : strlen(top));
	if (str_eq(rest, "/"))
		return strv_add(ret, point);
	return strv_addf(ret, "%s%s", str_eq(point, "/") ? "" : point, rest);
}

int mountinfo_paths(const char *mountinfo, uint64_t id, const char *fs_path, size_t max,
		    struct strv *ret)
{
	size_t device_len = 0;
	const char *device = NULL;
	int r = 0;

	if (!*fs_path)
		fs_path = "/";
	for (const char *line = mountinfo; *line; line = next_line(line))
		if (strtoull(line, NULL, 10) == id)
			device = nth_field(line, 3, &device_len);
	for (const char *line = mountinfo; device && *line && r == 0 && ret->n < max;
	     line = next_line(line)) {
		size_t len = 0;
		const char *field = nth_field(line, 3, &len);

		if (len == device_len && memcmp(field, device, len) == 0)
			r = add_path(line, fs_path, ret);
	}
	return r;
}

/* The fields behind the optional ones: file system, source, options. */
static const char *behind_dash(const char *line)
{
	const char *end = line + strcspn(line, "\n");
	const char *dash = strstr(line, " - ");

	return dash && dash < end ? dash + strlen(" - ") : NULL;
}

int mountinfo_find(const char *mountinfo, uint64_t id, struct mountinfo *ret)
{
	*ret = (struct mountinfo){ 0 };
	for (const char *line = mountinfo; *line; line = next_line(line)) {
		const char *fs = behind_dash(line);

		if (strtoull(line, NULL, 10) != id || !fs)
			continue;
		ret->point = copy_field(line, 5);
		ret->fstype = copy_field(fs, 1);
		ret->options = copy_field(fs, 3);
		return ret->point && ret->fstype && ret->options ? 0 : -ENOMEM;
	}
	return -ENOENT;
}

void mountinfo_done(struct mountinfo *m)
{
	free(m->point);
	free(m->fstype);
	free(m->options);
	*m = (struct mountinfo){ 0 };
}
