/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/socket_list.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/mountinfo.h"
#include "sandbox/volume_tree.h"

#define NAMES_MAX 64

/* ---- paths of a directory ---- */

/* Without any symbolic link. */
static int open_plain(const char *path)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC,
				.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };

	return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
}

static bool leads_to(const char *path, const struct stat *want)
{
	_cleanup_(close_fdp) int fd = open_plain(path);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == want->st_dev &&
	       st.st_ino == want->st_ino;
}

/* Where on its file system it is, and where else that is mounted. */
static int add_names(const char *path, int fd, const struct stat *st, struct strv *ret)
{
	_cleanup_(strv_done) struct strv found = { 0 };
	_cleanup_(freep) char *inside = NULL;
	_cleanup_(freep) char *text = NULL;
	struct statx mount;
	int r;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &mount) < 0 ||
	    !(mount.stx_mask & STATX_MNT_ID))
		return -ENOSYS;
	r = mountinfo_read(&text, NULL);
	if (r < 0)
		return r;
	inside = mountinfo_fs_path(text, mount.stx_mnt_id, path);
	if (!inside)
		return -ENOENT;
	r = mountinfo_paths(text, mount.stx_mnt_id, inside, NAMES_MAX, &found);
	for (size_t i = 0; r == 0 && i < found.n; i++)
		if (!str_eq(found.v[i], path) && leads_to(found.v[i], st))
			r = strv_add(ret, found.v[i]);
	return r;
}

int socket_list_names(const char *path, struct strv *ret, struct err *e)
{
	_cleanup_(freep) char *real = realpath(path, NULL);
	_cleanup_(close_fdp) int fd = real ? open_plain(real) : -EBADF;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, -errno, "cannot open %s", path);
	r = strv_add(ret, real);
	if (r == 0)
		r = add_names(real, fd, &st, ret);
	return r < 0 ? err_errno(e, r, "cannot find the paths of %s", path) : 0;
}

/* ---- patterns ---- */

/* The next word, copied; NULL at the end or when out of memory. */
static char *next_word(const char **list)
{
	const char *word = *list + strspn(*list, " \t");
	size_t len = strcspn(word, " \t");

	*list = word + len;
	return len > 0 ? strndup(word, len) : NULL;
}

bool socket_list_has(const char *list, const struct strv *names, const char *name)
{
	char *next;
	bool found = false;

	while (!found && (next = next_word(&list))) {
		_cleanup_(freep) char *pattern = next;

		for (size_t i = 0; !found && i < names->n; i++) {
			_cleanup_(freep) char *path = str_printf("%s%s%s", names->v[i],
								 name ? "/" : "", name ?: "");

			found = path && fnmatch(pattern, path, FNM_PATHNAME) == 0;
		}
	}
	return found;
}

bool socket_list_has_dir(const char *list, const struct strv *names)
{
	char *next;
	bool found = false;

	while (!found && (next = next_word(&list))) {
		_cleanup_(freep) char *pattern = next;
		char *slash = strrchr(pattern, '/');

		if (!slash)
			continue;
		*slash = '\0';
		for (size_t i = 0; !found && i < names->n; i++)
			found = fnmatch(pattern, names->v[i], FNM_PATHNAME) == 0;
	}
	return found;
}

static int refuse(const char *path, struct err *e)
{
	err_set(e, -EPERM, "%s: the host socket isn't available in the pod", path);
	err_hint(e, "host_sockets in [storage] of podvm.conf lists those that are.");
	return -EPERM;
}

static int leave_out(void *data, struct volume_entry *n, struct err *e)
{
	return 0;
}

/* One with large files in it, or with all that is mounted below /run, stays what it was. */
static bool can_be_copied(const char *dir)
{
	const struct volume_sockets sockets = { leave_out, NULL };
	_cleanup_(volume_tree_done) struct volume_tree t = { 0 };
	struct err e = { 0 };
	char quoted[256];
	char text[256];
	int r = volume_tree_read(&t, dir, &sockets, &e);

	if (r == 0 || r == -EAGAIN)
		return true;
	log_warn("the sockets of a directory aren't available in the pod, because it can't be "
		 "copied",
		 "directory=%s reason=%s", log_quote(quoted, sizeof(quoted), dir),
		 log_quote(text, sizeof(text), e.msg));
	return false;
}

int socket_list_source(const char *list, const char *path, struct err *e)
{
	_cleanup_(strv_done) struct strv names = { 0 };
	struct stat st;
	int r;

	if (stat(path, &st) < 0)
		return err_errno(e, -errno, "cannot mount %s", path);
	if (!S_ISSOCK(st.st_mode) && (!S_ISDIR(st.st_mode) || !*list))
		return 0;
	r = socket_list_names(path, &names, e);
	if (r < 0)
		return r;
	if (S_ISDIR(st.st_mode))
		return socket_list_has_dir(list, &names) && can_be_copied(names.v[0]);
	return socket_list_has(list, &names, NULL) ? 1 : refuse(path, e);
}
