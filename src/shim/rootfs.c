/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/rootfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "sandbox/disks.h"
#include "shim/create.h"
#include "shim/mounts.h"
#include "shim/rootfs_work.h"
#include "shim/task.h"
#include "storage/scratch.h"
#include "storage/virtiofs.h"

/* A large image is copied, perhaps by another process that we wait for. */
#define WORK_MS ((uint64_t)3600 * 1000)

/* Disks of the machine that are left for others, such as volumes. */
#define RESERVED_DISKS 4

/**
 * struct rootfs - A root file system that is prepared
 * @job:	For the child
 * @work:	The child, NULL: there is none
 * @done:	It has ended, with @result or @e
 * @awaited:	The stage waits for it
 */
struct rootfs {
	struct rootfs_job job;
	struct work *work;
	bool done;
	bool awaited;
	struct work_result result;
	struct err e;
};

void rootfs_free(struct rootfs *r)
{
	if (!r)
		return;
	work_free(r->work);
	for (size_t i = 0; i < r->result.n_fds; i++)
		close(r->result.fds[i]);
	rootfs_plan_done(&r->job.plan);
	if (r->job.found)
		munmap(r->job.found, sizeof(*r->job.found));
	free(r);
}

/* ---- shared by virtiofs ---- */

static int share(struct task *t, const char *source, enum virtiofs_access access, const char *name,
		 struct err *e)
{
	const struct pod *pod = &t->shim->pod;
	const struct virtiofs_source s = { .path = source,
					   .access = access,
					   .mount_ns = pod->host_mounts };

	return virtiofs_share_add_from(&s, pod->shared_dir, name, e);
}

static int share_mount(struct task *t, const Containerd__Types__Mount *m, const char *name,
		       struct err *e)
{
	enum virtiofs_access access = VIRTIOFS_WRITABLE;

	for (size_t i = 0; i < m->n_options; i++)
		if (str_eq(m->options[i], "ro"))
			access = VIRTIOFS_READONLY;
	return share(t, m->source, access, name, e);
}

/* Without mounts the spec names the root file system, in the bundle or anywhere. */
static int share_named(struct task *t, const char *name, struct err *e)
{
	struct json_object *root = json_get(t->create->spec, "root", json_type_object);
	struct json_object *path = root ? json_get(root, "path", json_type_string) : NULL;
	const char *text = path ? json_object_get_string(path) : "";
	_cleanup_(freep) char *full = NULL;

	if (!*text)
		return err_set(e, -EINVAL, "config.json has no root.path");
	full = *text == '/' ? strdup(text) : str_printf("%s/%s", t->bundle, text);
	if (!full)
		return err_oom(e);
	return share(t, full, VIRTIOFS_WRITABLE, name, e);
}

static int share_rootfs(struct task *t, struct err *e)
{
	const Containerd__Task__V2__CreateTaskRequest *req = t->create->req;
	_cleanup_(freep) char *name = str_printf("%s:rootfs", t->id);
	int r;

	t->create->rootfs = str_printf(CONTAINER_SHARED "/%s:rootfs", t->id);
	if (!name || !t->create->rootfs)
		return err_oom(e);
	r = task_note_share(t, name, e);
	if (r < 0)
		return r;
	if (req->n_rootfs == 0)
		return share_named(t, name, e);
	if (req->n_rootfs == 1 && str_eq(req->rootfs[0]->type, "bind"))
		return share_mount(t, req->rootfs[0], name, e);
	return mounts_rootfs(t->shim->pod.shared_dir, name, req->rootfs, req->n_rootfs, e);
}

/* ---- as disks ---- */

static bool root_is_readonly(struct json_object *spec)
{
	struct json_object *root = json_get(spec, "root", json_type_object);
	struct json_object *ro = root ? json_get(root, "readonly", json_type_boolean) : NULL;

	return ro && json_object_get_boolean(ro);
}

static int plug_rootfs(struct task *t, struct err *e)
{
	struct rootfs *r = t->create->root;
	const struct rootfs_plan *plan = &r->job.plan;
	struct container_config *c = &t->create->config;
	const struct disk_part *parts = r->job.found->parts;
	size_t n = r->result.n_fds - r->job.scratch;

	t->create->rootfs = str_printf(CONTAINER_ROOTFS, t->id);
	if (!t->create->rootfs)
		return err_oom(e);
	for (size_t i = 0; i < n; i++) {
		c->disks[i] = (struct container_disk){
			.fd = r->result.fds[i],
			.fstype = plan->kind == ROOTFS_DISK ? plan->fstype : "erofs",
			.writable = plan->kind == ROOTFS_DISK && !plan->readonly,
			.parts = parts,
			.n_parts = r->job.found->n_parts[i],
		};
		parts += r->job.found->n_parts[i];
	}
	c->n_disks = n;
	if (r->job.scratch) {
		c->scratch = CONTAINER_SCRATCH_DISK;
		c->scratch_fd = r->result.fds[n];
		c->scratch_unsafe = t->shim->pod.config.scratch_cache == CONFIG_CACHE_UNSAFE;
	} else if (plan->kind == ROOTFS_LAYERS && plan->upper) {
		c->scratch = CONTAINER_SCRATCH_MEMORY;
	}
	log_debug("the root file system is on disks", "container=%s disks=%zu scratch=%s", t->id, n,
		  r->job.scratch ? "yes" : "no");
	return 0;
}

static bool has_disk_already(const struct rootfs *r)
{
	return r->job.plan.upper && scratch_is_kept(r->job.plan.upper);
}

/* What the guest can't check isn't used when it has to be checked. */
static int refuse_unchecked(const char *why, struct err *e)
{
	err_set(e, -EOPNOTSUPP, "the root file system can't be checked by dm-verity: %s", why);
	err_hint(e, "Use the snapshotter overlayfs or erofs, or image.verity = no in podvm.conf.");
	return -EOPNOTSUPP;
}

/* The child has ended, or there was none. */
static int finish(struct task *t, struct err *e)
{
	struct rootfs *r = t->create->root;
	bool verity = t->shim->pod.config.verity;
	char text[512];

	if (r->done && !r->e.code)
		return plug_rootfs(t, e);
	if (!r->done) {
		if (verity)
			return refuse_unchecked(r->job.plan.why, e);
		log_debug("the root file system is shared", "container=%s reason=\"%s\"", t->id,
			  r->job.plan.why);
		return share_rootfs(t, e);
	}
	if (r->e.code == -EBUSY || has_disk_already(r) || verity) {
		*e = r->e;
		return e->code;
	}
	log_warn("the root file system is shared, it can't be put on disks",
		 "container=%s error=%s hint=\"%s\"", t->id,
		 log_quote(text, sizeof(text), r->e.msg), r->e.hint);
	return share_rootfs(t, e);
}

static void on_worked(void *data, struct work_result *result, const struct err *e)
{
	struct task *t = data;
	struct rootfs *r = t->create->root;
	struct err err = { 0 };

	r->done = true;
	if (e) {
		r->e = *e;
	} else {
		r->result = *result;
		result->n_fds = 0;
	}
	if (r->awaited)
		stages_next(&t->create->stages, finish(t, &err) < 0 ? &err : NULL);
}

/*
 * How many disks the root file system may have: the later the container, the fewer, so that there
 * is room for more. Return: 0 when it has to be shared
 */
static size_t room_for_disks(const struct pod *pod)
{
	size_t room = pod_running(pod) ? disks_room(pod->sandbox) : VMM_MAX_DISKS;

	if (room < RESERVED_DISKS + 4)
		return 0;
	/* One for the writable disk, one for what is prepared in the upper directory. */
	return MAX((room - RESERVED_DISKS) / 2, 3) - 2;
}

static int fill_job(const struct task *t, struct rootfs_job *job)
{
	const struct config *config = &t->shim->pod.config;
	const Containerd__Task__V2__CreateTaskRequest *req = t->create->req;

	job->max_disks = room_for_disks(&t->shim->pod);
	job->scratch_size = config->scratch_size;
	job->cache = (struct snapshot_cache){
		.dir = config->cache,
		.verity = config->verity,
		.rules = { .max_bytes = config->cache_size, .max_age = config->cache_age / 1000 },
	};
	job->found = mmap(NULL, sizeof(*job->found), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (job->found == MAP_FAILED)
		job->found = NULL;
	if (!job->found || rootfs_plan(req->rootfs, req->n_rootfs, &job->plan) < 0)
		return -ENOMEM;
	job->scratch = job->plan.kind == ROOTFS_LAYERS && job->plan.upper &&
		       !root_is_readonly(t->create->spec);
	return 0;
}

int rootfs_begin(struct task *t, struct err *e)
{
	const struct config *config = &t->shim->pod.config;
	struct rootfs *r = calloc(1, sizeof(*r));

	t->create->root = r;
	if (!r || fill_job(t, &r->job) < 0)
		return err_oom(e);
	if (config->rootfs == CONFIG_ROOTFS_VIRTIOFS && !has_disk_already(r)) {
		r->job.plan.kind = ROOTFS_SHARED;
		r->job.plan.why = "the configuration says so";
	} else if (r->job.max_disks == 0) {
		r->job.plan.kind = ROOTFS_SHARED;
		r->job.plan.why = "the machine has no room for more disks";
	} else if (config->verity && r->job.plan.kind == ROOTFS_DISK) {
		r->job.plan.kind = ROOTFS_SHARED;
		r->job.plan.why = "it's a block device";
	}
	if (r->job.plan.kind == ROOTFS_SHARED)
		return 0;
	return work_new(t->shim->loop, "preparing the root file system", rootfs_work, &r->job,
			WORK_MS, on_worked, t, &r->work, e);
}

int rootfs_prepare(void *obj, struct err *e)
{
	struct task *t = obj;
	struct rootfs *r = t->create->root;

	if (!r->work || r->done)
		return finish(t, e);
	r->awaited = true;
	return STAGE_PENDING;
}
