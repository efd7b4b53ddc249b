/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/mount_follow.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mountinfo.h"
#include "base/str.h"
#include "storage/virtiofs.h"

/* Each costs us a descriptor. */
#define MOUNTS_MAX 512

/**
 * struct copy - Of a mount of the host
 * @text:	That mount: its number alone may be another one's later
 * @fd:		The copy, < 0: there is none
 * @seen:	The host still has it
 */
struct copy {
	struct list node;
	char *text;
	int fd;
	bool seen;
};

/**
 * struct mount_follow - A share
 * @source:	On the host, without links
 * @skip:	Directory with all shares
 * @top:	The share
 * @full:	There are too many, and that was logged
 */
struct mount_follow {
	char *source;
	char *skip;
	int top;
	bool readonly;
	bool full;
	struct list copies;
	size_t n;
};

static void copy_free(struct mount_follow *f, struct copy *c)
{
	list_remove(&c->node);
	f->n--;
	close_fdp(&c->fd);
	free(c->text);
	free(c);
}

void mount_follow_free(struct mount_follow *f)
{
	if (!f)
		return;
	while (!list_empty(&f->copies))
		copy_free(f, list_entry(f->copies.next, struct copy, node));
	close_fdp(&f->top);
	free(f->source);
	free(f->skip);
	free(f);
}

DEFINE_CLEANUP(mount_follow_freep, struct mount_follow *, mount_follow_free)

int mount_follow_new(const char *source, const char *dir, const char *name, bool readonly,
		     struct mount_follow **ret, struct err *e)
{
	_cleanup_(mount_follow_freep) struct mount_follow *f = calloc(1, sizeof(*f));
	_cleanup_(freep) char *path = str_printf("%s/%s", dir, name);

	if (!f || !path)
		return err_oom(e);
	list_init(&f->copies);
	f->readonly = readonly;
	f->top = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	f->source = realpath(source, NULL);
	f->skip = realpath(dir, NULL);
	if (f->top < 0 || !f->source || !f->skip)
		return err_errno(e, -errno, "cannot follow the mounts below %s", source);
	*ret = TAKE_PTR(f);
	return 0;
}

/* ---- one of them ---- */

/* Return: A detached copy of a mount, which may be hidden by another one, or a negative errno */
static int clone_mount(const struct mount_follow *f, uint64_t id, const char *point)
{
	_cleanup_(close_fdp) int fd = open(point, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct statx st;

	if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) < 0)
		return -errno;
	if (!(st.stx_mask & STATX_MNT_ID) || st.stx_mnt_id != id)
		return -ESTALE;
	return virtiofs_clone_mounts(fd, f->readonly ? VIRTIOFS_READONLY_ALL : VIRTIOFS_WRITABLE,
				     true);
}

static int attach(const struct mount_follow *f, int copy, const char *part)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	_cleanup_(close_fdp) int target = (int)syscall(SYS_openat2, f->top, part, &how,
						       sizeof(how));

	if (target < 0)
		return -errno;
	return move_mount(copy, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) <
			       0
		       ? -errno
		       : 0;
}

/* The path below the source of something that is mounted there. */
static const char *part_of(const struct mount_follow *f, const char *point)
{
	size_t n = strlen(f->source);

	return point + n + (f->source[n - 1] != '/');
}

/* Where there was none it's not tried again. */
static int make_copy(struct mount_follow *f, const struct mountinfo_line *mount)
{
	_cleanup_(freep) char *text = strndup(mount->text, mount->len);
	struct copy *c = text ? malloc(sizeof(*c)) : NULL;
	char quoted[256];
	int r;

	if (!c)
		return -ENOMEM;
	*c = (struct copy){ .text = TAKE_PTR(text),
			    .fd = clone_mount(f, mount->id, mount->point),
			    .seen = true };
	list_append(&f->copies, &c->node);
	f->n++;
	r = c->fd < 0 ? c->fd : attach(f, c->fd, part_of(f, mount->point));
	if (r == -ESTALE) {
		/* It may be seen when what hides it has gone. */
		copy_free(f, c);
	} else if (r < 0) {
		log_warn("a mount of the host isn't seen in the pod", "mount=%s error=\"%s\"",
			 log_quote(quoted, sizeof(quoted), mount->point), strerror(-r));
		close_fdp(&c->fd);
		c->fd = -EBADF;
	}
	return 0;
}

/* It's detached by the place of its descriptor: no path leads to it for sure. */
static void detach(const struct copy *c)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", c->fd);
	(void)umount2(path, MNT_DETACH);
}

/* ---- all of them ---- */

static struct copy *find(const struct mount_follow *f, const struct mountinfo_line *mount)
{
	struct copy *c;

	list_for_each (c, &f->copies, node)
		if (strlen(c->text) == mount->len && memcmp(c->text, mount->text, mount->len) == 0)
			return c;
	return NULL;
}

static int note(void *data, const struct mountinfo_line *mount)
{
	struct copy *c = find(data, mount);

	if (c)
		c->seen = true;
	return 0;
}

static bool is_ours(const struct mount_follow *f, const char *point)
{
	size_t n = strlen(f->skip);

	return strncmp(point, f->skip, n) == 0 && (point[n] == '/' || !point[n]);
}

static int add(void *data, const struct mountinfo_line *mount)
{
	struct mount_follow *f = data;

	if (is_ours(f, mount->point) || find(f, mount))
		return 0;
	if (f->n < MOUNTS_MAX)
		return make_copy(f, mount);
	if (!f->full)
		log_warn("more mounts of the host than a pod can see", "maximum=%d", MOUNTS_MAX);
	f->full = true;
	return 0;
}

/* Return: Whether there were any */
static bool drop_unseen(struct mount_follow *f)
{
	bool gone = false;
	struct copy *c;
	struct copy *tmp;

	list_for_each_safe (c, tmp, &f->copies, node) {
		if (c->seen)
			continue;
		gone |= c->fd >= 0;
		if (c->fd >= 0)
			detach(c);
		copy_free(f, c);
	}
	return gone;
}

/* What has gone goes first: it would take along what comes to its place. */
bool mount_follow_update(struct mount_follow *f, const char *mountinfo)
{
	bool gone = false;
	struct copy *c;
	int r;

	list_for_each (c, &f->copies, node)
		c->seen = false;
	r = mountinfo_each_below(mountinfo, f->source, note, f);
	if (r == 0)
		gone = drop_unseen(f);
	if (r == 0)
		r = mountinfo_each_below(mountinfo, f->source, add, f);
	if (r < 0)
		log_warn("out of memory for mounts of the host");
	return gone;
}
