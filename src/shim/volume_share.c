/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/volume_share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/mountinfo.h"
#include "base/str.h"
#include "sandbox/agent_client.h"
#include "shim/create.h"
#include "shim/mounts.h"
#include "shim/volumes_internal.h"
#include "storage/mount_follow.h"
#include "storage/virtiofs.h"

/* A longer path in a share isn't for the guest. */
#define PART_MAX 2048

/**
 * struct pod_share - What is shared
 * @name:	In the shared directory
 * @flags:	What its mount allows, of statvfs()
 * @access:	What the guest may do with it
 * @below:	Something was mounted below it
 * @follows:	It has what is mounted below it as on the host, now and later
 * @follow:	...by this
 * @refs:	How many containers have it
 */
struct pod_share {
	struct list node;
	char *name;
	unsigned long flags;
	enum virtiofs_access access;
	bool below;
	bool follows;
	struct mount_follow *follow;
	unsigned int refs;
};

/* Of the host's mounts. */
struct share_watch {
	int fd;
	struct loop_io *io;
};

/* ---- the host's mounts ---- */

static void on_change(void *data, int events)
{
	struct shim *shim = data;
	_cleanup_(freep) char *text = NULL;
	Podvm__Agent__V1__ForgetFilesRequest req = PODVM__AGENT__V1__FORGET_FILES_REQUEST__INIT;
	struct pod_share *s;
	bool gone = false;

	if (mountinfo_read(&text, NULL) < 0)
		return;
	list_for_each (s, &shim->shares, node)
		gone |= s->follow && mount_follow_update(s->follow, text);
	if (gone && pod_running(&shim->pod))
		(void)agent_call(sandbox_agent(shim->pod.sandbox), "ForgetFiles", &req.base,
				 AGENT_TIMEOUT_MS, agent_ignore, NULL, NULL);
}

static void watch_free(struct share_watch *w)
{
	if (!w)
		return;
	loop_io_free(w->io);
	close_fdp(&w->fd);
	free(w);
}

DEFINE_CLEANUP(watch_freep, struct share_watch *, watch_free)

static int begin_watch(struct shim *shim, struct err *e)
{
	_cleanup_(watch_freep) struct share_watch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return err_oom(e);
	w->fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	r = w->fd < 0 ? -errno
		      : loop_io_new(shim->loop, w->fd, LOOP_CHANGE, on_change, shim, &w->io);
	if (r < 0)
		return err_errno(e, r, "cannot watch the host's mounts");
	shim->share_watch = TAKE_PTR(w);
	return 0;
}

static int follow(struct shim *shim, const char *source, struct pod_share *s, struct err *e)
{
	_cleanup_(freep) char *text = NULL;
	int r = shim->share_watch ? 0 : begin_watch(shim, e);

	if (r == 0)
		r = mount_follow_new(source, shim->pod.shared_dir, s->name,
				     s->access == VIRTIOFS_READONLY_ALL, &s->follow, e);
	if (r == 0)
		r = mountinfo_read(&text, e);
	if (r == 0)
		(void)mount_follow_update(s->follow, text);
	return r;
}

static void share_free(struct pod_share *s)
{
	list_remove(&s->node);
	mount_follow_free(s->follow);
	free(s->name);
	free(s);
}

/* ---- shares ---- */

/*
 * What is mounted below a share appears in the guest when it's used, and would be as read-only as
 * the mount that it's found through. So if it's writable the host alone sees to it that the rest
 * isn't.
 */
static enum virtiofs_access wanted_access(const struct spec_bind *b, bool below)
{
	if (!b->readonly)
		return VIRTIOFS_WRITABLE;
	return b->deep || !below ? VIRTIOFS_READONLY_ALL : VIRTIOFS_READONLY;
}

/* What is to be shared, compared with what is. */
static int look_at(const struct spec_bind *b, int fd, struct pod_share *like, struct err *e)
{
	struct statvfs fs;
	struct stat st;
	int r = mountinfo_has_below(b->source, &like->below, e);

	if (r < 0)
		return r;
	if (fstatvfs(fd, &fs) < 0 || fstat(fd, &st) < 0)
		return err_errno(e, -errno, "cannot share %s", b->source);
	/* No mount of ours allows these. */
	like->flags = fs.f_flag & ~(unsigned long)(ST_NOSUID | ST_NODEV);
	like->follows = b->slave && S_ISDIR(st.st_mode);
	like->access = wanted_access(b, like->below || like->follows);
	return 0;
}

static bool fits(const struct pod_share *s, const struct pod_share *like)
{
	bool alone = !s->below && !s->follows && !like->below && !like->follows;

	return alone && s->flags == like->flags &&
	       (s->access == like->access || s->access == VIRTIOFS_WRITABLE);
}

/* A share that it's in, and where; of what several lead to the outermost is the first, usually. */
static struct pod_share *find(const struct shim *shim, int fd, const struct pod_share *like,
			      char **part)
{
	_cleanup_(freep) char *text = NULL;
	struct pod_share *s;

	if (list_empty(&shim->shares) || mountinfo_read(&text, NULL) < 0)
		return NULL;
	list_for_each (s, &shim->shares, node) {
		_cleanup_(freep) char *path = str_printf("%s/%s", shim->pod.shared_dir, s->name);

		if (!path || !fits(s, like))
			continue;
		(void)mountinfo_inside(fd, path, text, part, NULL);
		if (*part && strlen(*part) < PART_MAX)
			return s;
		free(TAKE_PTR(*part));
	}
	return NULL;
}

static int make(struct shim *shim, const struct spec_bind *b, struct pod_share *s, struct err *e)
{
	const struct virtiofs_source source = {
		.path = b->source,
		.access = s->access,
		.mount_ns = shim->pod.host_mounts,
		.alone = s->follows,
	};
	int r;

	s->name = str_printf("volume:%u", shim->n_shares++);
	if (!s->name)
		return err_oom(e);
	r = virtiofs_share_add_from(&source, shim->pod.shared_dir, s->name, e);
	if (r < 0 || !s->follows)
		return r;
	r = follow(shim, b->source, s, e);
	if (r < 0)
		mounts_remove(shim->pod.shared_dir, s->name);
	return r;
}

static struct pod_share *add(struct shim *shim, const struct spec_bind *b,
			     const struct pod_share *like, struct err *e)
{
	struct pod_share *s = malloc(sizeof(*s));

	if (!s) {
		err_oom(e);
		return NULL;
	}
	*s = *like;
	list_init(&s->node);
	if (make(shim, b, s, e) < 0) {
		share_free(s);
		return NULL;
	}
	list_append(&shim->shares, &s->node);
	return s;
}

static bool has(const struct task *t, const struct pod_share *s)
{
	for (size_t i = 0; i < t->n_names; i++)
		if (str_eq(t->names[i], s->name))
			return true;
	return false;
}

static void drop(struct shim *shim, struct pod_share *s)
{
	if (s->refs > 0)
		return;
	mounts_remove(shim->pod.shared_dir, s->name);
	share_free(s);
}

/* Return: Where the guest has it, borrowed from the Create, NULL: out of memory */
static const char *guest_path(struct task *t, const struct pod_share *s, const char *part)
{
	const struct container_mount none = { 0 };
	struct strv *paths = &t->create->paths;

	if (str_empty(part))
		return strv_addf(paths, CONTAINER_SHARED "/%s", s->name) < 0
			       ? NULL
			       : paths->v[paths->n - 1];
	if (strv_addf(paths, CONTAINER_SHARED "/%s/%s", s->name, part) < 0)
		return NULL;
	return volume_mount_part(t, paths->v[paths->n - 1], &none);
}

int volume_share_bind(struct task *t, const struct spec_bind *b, struct err *e)
{
	_cleanup_(close_fdp) int fd = open(b->source, O_PATH | O_CLOEXEC);
	_cleanup_(freep) char *part = NULL;
	struct pod_share like = { 0 };
	struct pod_share *s;
	const char *path;
	int r = 0;

	if (fd < 0)
		return err_errno(e, -errno, "cannot share %s", b->source);
	if (t->shim->pod.config.share_root == CONFIG_NO)
		r = virtiofs_refuse_root(b->source, e);
	if (r == 0)
		r = look_at(b, fd, &like, e);
	if (r < 0)
		return r;
	if (like.access == VIRTIOFS_READONLY)
		spec_bind_writable(b);
	s = find(t->shim, fd, &like, &part) ?: add(t->shim, b, &like, e);
	if (!s)
		return e->code;
	if (!has(t, s)) {
		r = task_note_share(t, s->name, e);
		s->refs += r == 0;
	}
	path = r == 0 ? guest_path(t, s, part) : NULL;
	if (r == 0 && (!path || spec_bind_to(b, path) < 0))
		r = err_oom(e);
	if (r < 0)
		drop(t->shim, s);
	return r;
}

/* A root file system is its container's alone. */
static void let_go(struct shim *shim, const char *name)
{
	struct pod_share *s;

	list_for_each (s, &shim->shares, node) {
		if (!str_eq(s->name, name))
			continue;
		s->refs--;
		drop(shim, s);
		return;
	}
	mounts_remove(shim->pod.shared_dir, name);
}

/* The last one that follows takes the watch with it. */
static void look_after_watch(struct shim *shim)
{
	struct pod_share *s;

	list_for_each (s, &shim->shares, node)
		if (s->follows)
			return;
	watch_free(TAKE_PTR(shim->share_watch));
}

void volume_shares_done(struct task *t)
{
	while (t->n_names > 0) {
		char *name = t->names[--t->n_names];

		let_go(t->shim, name);
		free(name);
	}
	look_after_watch(t->shim);
}
