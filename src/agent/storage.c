/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/storage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/child.h"
#include "agent/device.h"
#include "agent/dm.h"
#include "agent/mount.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define UNDO_MS ((uint64_t)60000)

struct storage_mount {
	struct list node;
	unsigned int refs;
	char *point;
	char *key;  /* everything that was asked for, to compare */
	char *name; /* for statistics, "": they don't tell of it */
	int lun;    /* of a SCSI disk, else -1 */
	char *dm;   /* name of the dm-verity device, NULL: there is none */
	bool readonly;
};

enum job_kind { JOB_ATTACH, JOB_DETACH };

/*
 * struct storage_job - A request
 * @mounts:	ATTACH: one per storage, found or made; DETACH: those to let go of
 * @fresh:	ATTACH: whether mounts[i] is to be mounted; DETACH: to be unmounted
 */
struct storage_job {
	struct list node;
	struct storage *st;
	enum job_kind kind;
	Podvm__Agent__V1__Storage *const *list;
	struct storage_mount **mounts;
	bool *fresh;
	size_t n;
	uint64_t timeout_ms;  /* of DETACH, and of what undoes an ATTACH */
	uint64_t deadline_ms; /* of ATTACH */
	struct storage_set *set;
	child_done done;
	void *data;
};

void storage_init(struct storage *st, struct reaper *reaper)
{
	st->reaper = reaper;
	list_init(&st->mounts);
	list_init(&st->jobs);
}

static void mount_free(struct storage_mount *m)
{
	free(m->point);
	free(m->key);
	free(m->name);
	free(m->dm);
	free(m);
}

DEFINE_CLEANUP(mount_freep, struct storage_mount *, mount_free)

static void job_free(struct storage_job *job)
{
	/* What was never entered into the table isn't owned by it. */
	for (size_t i = 0; job->mounts && i < job->n; i++)
		if (job->mounts[i] && list_empty(&job->mounts[i]->node))
			mount_free(job->mounts[i]);
	free(job->mounts);
	free(job->fresh);
	free(job);
}

void storage_free(struct storage *st)
{
	struct storage_mount *m;
	struct storage_mount *tmp;

	list_for_each_safe (m, tmp, &st->mounts, node) {
		list_remove(&m->node);
		mount_free(m);
	}
}

static char *make_key(const Podvm__Agent__V1__Storage *s)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	int r;

	r = buf_printf(&b, "%s\n%s\n%s\n%u %llu %llu", s->driver, s->source, s->fstype, s->part,
		       (unsigned long long)s->offset, (unsigned long long)s->size);
	if (r == 0 && s->verity)
		r = buf_printf(&b, "\n%llu ", (unsigned long long)s->verity->data_size);
	for (size_t i = 0; r == 0 && s->verity && i < s->verity->root_hash.len; i++)
		r = buf_printf(&b, "%02x", s->verity->root_hash.data[i]);
	for (size_t i = 0; r == 0 && i < s->n_options; i++)
		r = buf_printf(&b, "\n%s", s->options[i]);
	return r == 0 && buf_cstr(&b) ? strdup(buf_cstr(&b)) : NULL;
}

static struct storage_mount *mount_new(const Podvm__Agent__V1__Storage *s)
{
	_cleanup_(mount_freep) struct storage_mount *m = calloc(1, sizeof(*m));
	char dm[DM_NAME_MAX];
	uint64_t lun;

	if (!m)
		return NULL;
	list_init(&m->node);
	m->point = strdup(s->mount_point);
	m->key = make_key(s);
	m->name = strdup(s->name);
	m->lun = -1;
	for (size_t i = 0; i < s->n_options; i++)
		m->readonly |= str_eq(s->options[i], "ro");
	if (str_eq(s->driver, "scsi") && parse_u64(s->source, 16383, &lun) == 0)
		m->lun = (int)lun;
	if (storage_verity_name(s, dm)) {
		m->dm = strdup(dm);
		if (!m->dm)
			return NULL;
	}
	return m->point && m->key && m->name ? TAKE_PTR(m) : NULL;
}

static struct storage_mount *find(struct storage *st, const char *point)
{
	struct storage_mount *m;

	list_for_each (m, &st->mounts, node)
		if (str_eq(m->point, point))
			return m;
	return NULL;
}

/* Which of the storages are there already, and which are to be mounted? */
static int plan_attach(struct storage_job *job, struct err *e)
{
	for (size_t i = 0; i < job->n; i++) {
		struct storage_mount *there = find(job->st, job->list[i]->mount_point);
		_cleanup_(mount_freep) struct storage_mount *m = mount_new(job->list[i]);

		if (!m)
			return err_oom(e);
		if (there && !str_eq(there->key, m->key))
			return err_set(e, -EEXIST, "something else is mounted on %s", m->point);
		for (size_t k = 0; k < i; k++)
			if (str_eq(job->mounts[k]->point, m->point))
				return err_set(e, -EINVAL, "%s is to be mounted twice", m->point);
		job->fresh[i] = !there;
		job->mounts[i] = there ? there : TAKE_PTR(m);
	}
	return 0;
}

/* A disk may have several parts, which others use. */
static bool disk_is_used(const struct storage *st, int lun)
{
	const struct storage_mount *m;

	list_for_each (m, &st->mounts, node)
		if (m->lun == lun && m->refs > 0)
			return true;
	return false;
}

static void release(const struct storage_mount *m)
{
	int r;

	(void)unmount_point(m->point);
	if (!m->dm)
		return;
	r = dm_remove(m->dm);
	if (r < 0)
		log_warn("a dm-verity device stays", "name=%s error=\"%s\"", m->dm, strerror(-r));
}

/*
 * Unmount those of the first @n that are ours to unmount, last one first, and then tell the kernel
 * to forget their disks, so that the host may unplug them.
 */
static void undo(const struct storage_job *job, size_t n)
{
	for (size_t i = n; i-- > 0;)
		if (job->fresh[i])
			release(job->mounts[i]);
	for (size_t i = n; i-- > 0;)
		if (job->fresh[i] && job->mounts[i]->lun >= 0 &&
		    !disk_is_used(job->st, job->mounts[i]->lun))
			(void)device_scsi_remove((unsigned int)job->mounts[i]->lun);
}

/* Worker: mount what is fresh, all or nothing. */
static int work_attach(void *arg, struct err *e)
{
	const struct storage_job *job = arg;
	uint64_t now = clock_ms();
	/* Give up on a device early enough to say so. */
	uint64_t left = job->deadline_ms > now ? job->deadline_ms - now : 0;
	uint64_t deadline = now + left - left / 8;

	for (size_t i = 0; i < job->n; i++) {
		int r = job->fresh[i] ? mount_storage(job->list[i], deadline, e) : 0;

		if (r < 0) {
			undo(job, i + 1);
			return r;
		}
	}
	return 0;
}

/* Worker: unmount what nobody uses any more, last one first. */
static int work_detach(void *arg, struct err *e)
{
	const struct storage_job *job = arg;

	undo(job, job->n);
	return 0;
}

static void start_next(struct storage *st);

static void job_end(struct storage_job *job, const struct err *e)
{
	struct storage *st = job->st;
	child_done done = job->done;
	void *data = job->data;

	st->running = NULL;
	list_remove(&job->node);
	job_free(job);
	if (done)
		done(data, e);
	start_next(st);
}

/* The worker was killed in the middle: another one takes away what it may have mounted. */
static int queue_undo(struct storage_job *failed)
{
	struct storage_job *job = calloc(1, sizeof(*job));

	if (!job)
		return -ENOMEM;
	job->st = failed->st;
	job->kind = JOB_DETACH;
	job->mounts = TAKE_PTR(failed->mounts);
	job->fresh = TAKE_PTR(failed->fresh);
	job->n = failed->n;
	job->timeout_ms = failed->timeout_ms;
	list_append(&job->st->jobs, &job->node);
	return 0;
}

static void attached(void *data, const struct err *e)
{
	struct storage_job *job = data;

	if (e) {
		if (e->code == -ETIMEDOUT || e->code == -ECHILD)
			(void)queue_undo(job);
		job_end(job, e);
		return;
	}
	for (size_t i = 0; i < job->n; i++) {
		job->mounts[i]->refs++;
		if (job->fresh[i])
			list_append(&job->st->mounts, &job->mounts[i]->node);
	}
	job->set->v = TAKE_PTR(job->mounts);
	job->set->n = job->n;
	job_end(job, NULL);
}

static void detached(void *data, const struct err *e)
{
	struct storage_job *job = data;

	if (e)
		log_warn("cannot unmount", "error=\"%s\"", e->msg);
	for (size_t i = 0; i < job->n; i++)
		if (job->fresh[i])
			list_remove(&job->mounts[i]->node); /* freed with the job */
		else
			job->mounts[i] = NULL;
	job_end(job, e);
}

static bool any_fresh(const struct storage_job *job)
{
	for (size_t i = 0; i < job->n; i++)
		if (job->fresh[i])
			return true;
	return false;
}

static void start_attach(struct storage_job *job)
{
	uint64_t now = clock_ms();
	struct err e = { 0 };
	int r;

	if (now >= job->deadline_ms)
		r = err_set(&e, -ETIMEDOUT, "there was no time left to mount anything");
	else
		r = plan_attach(job, &e);
	/* For the worker to know it. */
	(void)device_scsi_host();
	if (r == 0 && any_fresh(job))
		r = child_work(job->st->reaper, "mounting", work_attach, job,
			       job->deadline_ms - now, attached, job, &e);
	else if (r == 0)
		attached(job, NULL);
	if (r < 0)
		job_end(job, &e);
}

static void start_detach(struct storage_job *job)
{
	struct err e = { 0 };

	/* Only now: a request before this one may have come to share a mount. */
	for (size_t i = 0; i < job->n; i++)
		if (job->mounts[i]->refs > 0)
			job->fresh[i] = --job->mounts[i]->refs == 0;
	if (!any_fresh(job))
		detached(job, NULL);
	else if (child_work(job->st->reaper, "unmounting", work_detach, job, job->timeout_ms,
			    detached, job, &e) < 0)
		detached(job, &e);
}

static void start_next(struct storage *st)
{
	struct storage_job *job;

	if (st->running || list_empty(&st->jobs))
		return;
	job = list_entry(st->jobs.next, struct storage_job, node);
	st->running = job;
	if (job->kind == JOB_ATTACH)
		start_attach(job);
	else
		start_detach(job);
}

static void enqueue(struct storage_job *job)
{
	list_append(&job->st->jobs, &job->node);
	start_next(job->st);
}

static struct storage_job *job_new(struct storage *st, enum job_kind kind, uint64_t timeout_ms,
				   child_done done, void *data)
{
	struct storage_job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	list_init(&job->node);
	job->st = st;
	job->kind = kind;
	job->timeout_ms = timeout_ms;
	job->done = done;
	job->data = data;
	return job;
}

void storage_attach(struct storage *st, Podvm__Agent__V1__Storage *const *list, size_t n,
		    uint64_t deadline_ms, struct storage_set *set, child_done done, void *data)
{
	struct storage_job *job = job_new(st, JOB_ATTACH, UNDO_MS, done, data);
	struct err e = { 0 };

	if (job) {
		job->list = list;
		job->deadline_ms = deadline_ms;
		job->set = set;
		job->n = n;
		job->mounts = calloc(n + 1, sizeof(struct storage_mount *));
		job->fresh = calloc(n + 1, sizeof(bool));
	}
	if (!job || !job->mounts || !job->fresh) {
		if (job)
			job_free(job);
		err_oom(&e);
		done(data, &e);
		return;
	}
	enqueue(job);
}

void storage_detach(struct storage *st, struct storage_set *set, uint64_t timeout_ms,
		    child_done done, void *data)
{
	struct storage_job *job = job_new(st, JOB_DETACH, timeout_ms, done, data);
	struct err e = { 0 };

	if (job)
		job->fresh = calloc(set->n + 1, sizeof(bool));
	if (!job || !job->fresh) {
		if (job)
			job_free(job);
		err_oom(&e);
		done(data, &e);
		return;
	}
	job->mounts = TAKE_PTR(set->v);
	job->n = set->n;
	set->n = 0;
	enqueue(job);
}

const char *storage_named(const struct storage_set *set, size_t *i, const char **point)
{
	while (*i < set->n) {
		const struct storage_mount *m = set->v[(*i)++];

		*point = m->point;
		if (*m->name)
			return m->name;
	}
	return NULL;
}

void storage_unmount_writable(struct storage *st)
{
	for (struct list *l = st->mounts.prev; l != &st->mounts; l = l->prev) {
		const struct storage_mount *m = list_entry(l, struct storage_mount, node);

		if (!m->readonly)
			(void)unmount_point(m->point);
	}
}
