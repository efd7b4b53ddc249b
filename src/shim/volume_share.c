/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/volume_share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/mountinfo.h"
#include "base/str.h"
#include "shim/create.h"
#include "shim/mounts.h"
#include "storage/virtiofs.h"

/**
 * struct pod_share - What is shared
 * @name:	In the shared directory
 * @source:	On the host
 * @id:		What that was
 * @access:	What the guest may do with it
 * @below:	Something was mounted below it
 * @refs:	How many containers have it
 */
struct pod_share {
	struct list node;
	char *name;
	char *source;
	struct statx id;
	enum virtiofs_access access;
	bool below;
	unsigned int refs;
};

static void share_free(struct pod_share *s)
{
	list_remove(&s->node);
	free(s->name);
	free(s->source);
	free(s);
}

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

static bool is_same(const struct statx *a, const struct statx *b)
{
	return a->stx_dev_major == b->stx_dev_major && a->stx_dev_minor == b->stx_dev_minor &&
	       a->stx_ino == b->stx_ino && a->stx_mnt_id == b->stx_mnt_id;
}

static struct pod_share *find(struct shim *shim, const struct pod_share *like)
{
	struct pod_share *s;

	if (like->below)
		return NULL;
	list_for_each (s, &shim->shares, node)
		if (!s->below && str_eq(s->source, like->source) && is_same(&s->id, &like->id) &&
		    (s->access == like->access || s->access == VIRTIOFS_WRITABLE))
			return s;
	return NULL;
}

static struct pod_share *add(struct task *t, const struct pod_share *like, struct err *e)
{
	struct shim *shim = t->shim;
	struct pod_share *s = calloc(1, sizeof(*s));
	int r;

	if (!s) {
		err_oom(e);
		return NULL;
	}
	list_init(&s->node);
	s->id = like->id;
	s->access = like->access;
	s->below = like->below;
	s->name = str_printf("volume:%u", shim->n_shares++);
	r = !s->name || str_set(&s->source, like->source) < 0 ? err_oom(e) : 0;
	if (r == 0)
		r = virtiofs_share_add_from(shim->pod.host_mounts, shim->pod.shared_dir, s->source,
					    s->access, s->name, e);
	if (r < 0) {
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

int volume_share_bind(struct task *t, const struct spec_bind *b, struct err *e)
{
	struct pod_share like = { .source = (char *)b->source };
	_cleanup_(freep) char *path = NULL;
	struct pod_share *s;
	int r = 0;

	if (t->shim->pod.config.share_root == CONFIG_NO)
		r = virtiofs_refuse_root(b->source, e);
	if (r == 0)
		r = mountinfo_has_below(b->source, &like.below, e);
	if (r < 0)
		return r;
	if (statx(AT_FDCWD, b->source, 0, STATX_BASIC_STATS | STATX_MNT_ID, &like.id) < 0)
		return err_errno(e, -errno, "cannot share %s", b->source);
	like.access = wanted_access(b, like.below);
	if (like.access == VIRTIOFS_READONLY)
		spec_bind_writable(b);
	s = find(t->shim, &like) ?: add(t, &like, e);
	if (!s)
		return e->code;
	if (!has(t, s)) {
		r = task_note_share(t, s->name, e);
		s->refs += r == 0;
	}
	path = str_printf(CONTAINER_SHARED "/%s", s->name);
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

void volume_shares_done(struct task *t)
{
	while (t->n_names > 0) {
		char *name = t->names[--t->n_names];

		let_go(t->shim, name);
		free(name);
	}
}
