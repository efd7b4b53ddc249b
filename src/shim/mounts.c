/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "shim/loopdev.h"
#include "shim/mount_format.h"

/* mount(2) takes one page of options, with its NUL. */
#define OPTIONS_MAX 4095

static const struct {
	const char *name;
	unsigned long set;
	unsigned long clear;
} flag_options[] = {
	{ "bind", MS_BIND, 0 },
	{ "rbind", MS_BIND | MS_REC, 0 },
	{ "ro", MS_RDONLY, 0 },
	{ "rw", 0, MS_RDONLY },
	{ "nosuid", MS_NOSUID, 0 },
	{ "suid", 0, MS_NOSUID },
	{ "nodev", MS_NODEV, 0 },
	{ "dev", 0, MS_NODEV },
	{ "noexec", MS_NOEXEC, 0 },
	{ "exec", 0, MS_NOEXEC },
	{ "noatime", MS_NOATIME, 0 },
	{ "atime", 0, MS_NOATIME },
	{ "nodiratime", MS_NODIRATIME, 0 },
	{ "diratime", 0, MS_NODIRATIME },
	{ "relatime", MS_RELATIME, 0 },
	{ "norelatime", 0, MS_RELATIME },
	{ "strictatime", MS_STRICTATIME, 0 },
	{ "sync", MS_SYNCHRONOUS, 0 },
	{ "dirsync", MS_DIRSYNC, 0 },
	{ "defaults", 0, 0 },
};

int mounts_private(int *ret_host, struct err *e)
{
	_cleanup_(close_fdp) int host = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

	if (host < 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_errno(e, -errno, "cannot get a mount namespace of our own");
	*ret_host = TAKE_FD(host);
	return 0;
}

int mounts_prepare(const char *dir, struct err *e)
{
	int r = mkdir_p(dir, 0700);

	if (r < 0)
		return err_errno(e, r, "cannot make %s", dir);
	if (mount(dir, dir, NULL, MS_BIND, NULL) < 0 || mount(NULL, dir, NULL, MS_SHARED, NULL) < 0)
		return err_errno(e, -errno, "cannot mount %s", dir);
	return 0;
}

static bool parse_flag(const char *option, unsigned long *flags)
{
	for (size_t i = 0; i < ARRAY_SIZE(flag_options); i++) {
		if (!str_eq(option, flag_options[i].name))
			continue;
		*flags = (*flags & ~flag_options[i].clear) | flag_options[i].set;
		return true;
	}
	return false;
}

/* What mount(2) is given of the options. */
struct options {
	struct buf data;
	unsigned long flags;
	bool loop; /* the source is a file, which becomes a device */
};

static int parse_options(const Containerd__Types__Mount *m, struct options *o, struct err *e)
{
	int r = 0;

	o->data.limit = OPTIONS_MAX;
	for (size_t i = 0; r == 0 && i < m->n_options; i++) {
		const char *text = m->options[i];

		if (str_starts(text, "X-containerd."))
			return err_set(e, -EOPNOTSUPP, "the mount option %s isn't supported", text);
		if (str_eq(text, "loop"))
			o->loop = true;
		else if (!parse_flag(text, &o->flags))
			r = buf_printf(&o->data, "%s%s", buf_len(&o->data) ? "," : "", text);
	}
	if (r == -ENOBUFS)
		return err_set(e, -E2BIG,
			       "the image has too many layers: more than %d bytes of mount options",
			       OPTIONS_MAX);
	if (r < 0 || !buf_cstr(&o->data))
		return err_oom(e);
	if (str_eq(m->type, "bind"))
		o->flags |= MS_BIND;
	return 0;
}

static void options_done(struct options *o)
{
	buf_done(&o->data);
}

static int mount_one(const char *target, const Containerd__Types__Mount *m, struct err *e)
{
	_cleanup_(options_done) struct options o = { 0 };
	_cleanup_(close_fdp) int loop = -EBADF;
	const char *source = m->source;
	char device[LOOPDEV_PATH_MAX];
	char quoted[256];
	int r;

	log_quote(quoted, sizeof(quoted), m->source);
	if (*m->target && !str_eq(m->target, "/"))
		return err_set(e, -EOPNOTSUPP, "a mount below the root file system's top");
	r = parse_options(m, &o, e);
	if (r == 0 && o.loop) {
		loop = loopdev_attach(m->source, o.flags & MS_RDONLY, device, e);
		r = MIN(loop, 0);
		source = device;
	}
	if (r < 0)
		return r;
	if (mount(source, target, m->type, o.flags, buf_cstr(&o.data)) < 0)
		return err_errno(e, -errno, "cannot mount %s as %s", quoted, m->type);
	/* The first call of a bind ignores all other flags. */
	if ((o.flags & MS_BIND) && (o.flags & MS_RDONLY) &&
	    mount(NULL, target, NULL, (o.flags & ~(unsigned long)MS_REC) | MS_REMOUNT, NULL) < 0)
		return err_errno(e, -errno, "cannot make %s read-only", quoted);
	return 0;
}

/* ---- mounts that name each other ---- */

/* "PATH", "PATH:MODE" or "PATH:MODE:UID:GID" */
static int make_directory(const char *text, struct err *e)
{
	char path[PATH_MAX];
	unsigned int mode = 0700;
	unsigned int uid = 0;
	unsigned int gid = 0;
	size_t len = strcspn(text, ":");

	if (len >= sizeof(path) ||
	    (text[len] && sscanf(text + len, ":%o:%u:%u", &mode, &uid, &gid) < 1))
		return err_set(e, -EINVAL, "a directory for a mount isn't understood");
	snprintf(path, sizeof(path), "%.*s", (int)len, text);
	if (mkdir(path, 0700) < 0)
		return errno == EEXIST ? 0 : err_errno(e, -errno, "cannot make %s", path);
	if (chown(path, uid, gid) < 0 || chmod(path, mode & 07777) < 0)
		return err_errno(e, -errno, "cannot make %s", path);
	return 0;
}

static int mount_formatted(const char *target, const Containerd__Types__Mount *m,
			   const struct strv *points, struct err *e)
{
	_cleanup_(strv_done) struct strv options = { 0 };
	Containerd__Types__Mount overlay = *m;
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->n_options; i++) {
		_cleanup_(freep) char *option = NULL;

		r = mount_format(m->options[i], points->v, points->n, &option);
		if (r < 0)
			return err_errno(e, r, "cannot mount what is formatted");
		if (str_starts(option, MOUNT_FORMAT_MKDIR))
			r = make_directory(option + strlen(MOUNT_FORMAT_MKDIR), e);
		else if (strv_add(&options, option) < 0)
			r = err_oom(e);
	}
	overlay.type = (char *)"overlay";
	overlay.options = options.v;
	overlay.n_options = options.n;
	return r < 0 ? r : mount_one(target, &overlay, e);
}

static int mount_lower(const char *path, const Containerd__Types__Mount *m, struct strv *points,
		       struct err *e)
{
	int r = mkdir_p(path, 0700);

	if (r < 0)
		return err_errno(e, r, "cannot make %s", path);
	return strv_add(points, path) < 0 ? err_oom(e) : mount_one(path, m, e);
}

/* The last one is an overlay of the others, which keeps them when they're not to be seen any more. */
static int mount_stack(const char *dir, const char *target, Containerd__Types__Mount *const *list,
		       size_t n, struct err *e)
{
	_cleanup_(freep) char *lower = str_printf("%s/../lower", dir);
	_cleanup_(strv_done) struct strv points = { 0 };
	int r = lower ? 0 : err_oom(e);

	for (size_t i = 0; r == 0 && i < n - 1; i++) {
		_cleanup_(freep) char *path = str_printf("%s/%zu", lower, i);

		r = path ? mount_lower(path, list[i], &points, e) : err_oom(e);
	}
	if (r == 0)
		r = mount_formatted(target, list[n - 1], &points, e);
	for (size_t i = 0; i < points.n; i++) {
		(void)umount2(points.v[i], MNT_DETACH | UMOUNT_NOFOLLOW);
		(void)rmdir(points.v[i]);
	}
	if (lower)
		(void)rmdir(lower);
	return r;
}

int mounts_rootfs(const char *dir, const char *name, Containerd__Types__Mount *const *list,
		  size_t n, struct err *e)
{
	_cleanup_(freep) char *target = str_printf("%s/%s", dir, name);
	int r = 0;

	if (!target)
		return err_oom(e);
	if (mkdir(target, 0755) < 0)
		return err_errno(e, -errno, "cannot make %s", target);
	if (str_eq(list[n - 1]->type, MOUNT_FORMAT_OVERLAY)) {
		r = mount_stack(dir, target, list, n, e);
		n = 0;
	}
	for (size_t i = 0; r == 0 && i < n; i++)
		r = mount_one(target, list[i], e);
	if (r < 0)
		mounts_remove(dir, name);
	return r;
}

void mounts_remove(const char *dir, const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		;
	if (rmdir(path) < 0 && errno == ENOTDIR)
		(void)unlink(path);
}

void mounts_end(const char *dir)
{
	(void)umount2(dir, MNT_DETACH | UMOUNT_NOFOLLOW);
}
