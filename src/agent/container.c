/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/container.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/child.h"
#include "agent/crun.h"
#include "agent/mount.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

/* How long killing and cleaning up may take after a failed or for a removed container. */
#define CLEANUP_MS ((uint64_t)60000)

/*
 * Unmounting writes out what is in memory, to disks that may be slow, and there may be dozens of
 * mounts. The host waits for five minutes in all.
 */
#define UNMOUNT_MS ((uint64_t)200000)

struct container *container_find(struct agent *a, const char *id)
{
	struct container *c;

	list_for_each (c, &a->containers, node)
		if (str_eq(c->id, id))
			return c;
	return NULL;
}

struct process *container_init_process(struct container *c)
{
	return list_entry(c->processes.next, struct process, node);
}

struct process *container_process(struct container *c, const char *id)
{
	struct process *p;

	list_for_each (p, &c->processes, node)
		if (str_eq(p->id, id))
			return p;
	return NULL;
}

const char *container_bundle(const struct container *c, char *buf)
{
	snprintf(buf, PATH_LEN, DIR_BUNDLES "/%s", c->id);
	return buf;
}

void container_init_ended(struct container *c)
{
	/* While it's being created, whoever creates it cleans up. */
	if (c->state != CONTAINER_CREATING)
		c->state = CONTAINER_STOPPED;
	c->paused = false;
	/* Processes outlive their init where the PID namespace isn't the container's own. */
	(void)cgroup_kill(c->id);
}

void container_free(struct container *c)
{
	while (!list_empty(&c->processes)) {
		struct process *p = list_entry(c->processes.next, struct process, node);

		if (*p->id)
			c->agent->n_execs--;
		process_free(p);
	}
	oom_unwatch(&c->agent->oom, c->oom_watch);
	list_remove(&c->node);
	c->agent->n_containers--;
	free(c->mounts.v);
	free(c);
}

static int container_new(struct agent *a, const char *id, struct container **ret)
{
	struct container *c = calloc(1, sizeof(*c));
	struct process *p;

	if (!c)
		return -ENOMEM;
	c->agent = a;
	snprintf(c->id, sizeof(c->id), "%s", id);
	c->state = CONTAINER_CREATING;
	c->busy = true;
	c->oom_watch = -EBADF;
	list_init(&c->processes);
	list_append(&a->containers, &c->node);
	a->n_containers++;
	if (process_new(c, "", &p) < 0) {
		container_free(c);
		return -ENOMEM;
	}
	*ret = c;
	return 0;
}

/* ---- taking a container away: used by Remove and by a Create that failed ---- */

/* The host's files for it. */
static int remove_files(const char *id)
{
	char path[sizeof(DIR_FILES) + ID_MAX + 1];

	snprintf(path, sizeof(path), DIR_FILES "/%s", id);
	return rm_rf(AT_FDCWD, path);
}

/* Worker: kill what is left, wait for its end, remove what crun and we made for it. */
static int work_cleanup(void *arg, struct err *e)
{
	const struct container *c = arg;
	char bundle[PATH_LEN];
	_cleanup_(close_fdp) int dir = cgroup_open(c->id);
	int r;

	if (dir >= 0) {
		(void)file_write(dir, "cgroup.kill", "1");
		(void)file_write(dir, "cgroup.freeze", "0");
		r = cgroup_wait(dir, "populated", 0, clock_ms() + CLEANUP_MS / 2);
		if (r < 0)
			return err_errno(e, r, "processes of container %s don't end", c->id);
	}
	r = cgroup_remove(c->id);
	if (r < 0 && r != -ENOENT)
		return err_errno(e, r, "cannot remove the cgroup of container %s", c->id);
	r = crun_forget(c->id);
	if (r == 0)
		r = rm_rf(AT_FDCWD, container_bundle(c, bundle));
	if (r == 0)
		r = remove_files(c->id);
	return r < 0 ? err_errno(e, r, "cannot remove the files of container %s", c->id) : 0;
}

/* ---- create ---- */

/* A call of CreateContainer that is under way. */
struct create {
	struct container *container;
	struct ttrpc_call *call;
	const PB(CreateContainerRequest) * req;
	uint64_t deadline_ms;
	struct err error;
};

static uint64_t remaining(const struct create *op)
{
	uint64_t now = clock_ms();

	return now < op->deadline_ms ? op->deadline_ms - now : 1;
}

/* Everything was taken back. */
static void create_failed(void *data, const struct err *e)
{
	struct create *op = data;

	log_warn("cannot create a container", "container=%s error=\"%s\"", op->container->id,
		 op->error.msg);
	container_free(op->container);
	if (op->call)
		ttrpc_reply_err(op->call, &op->error);
	free(op);
}

static void create_cleaned(void *data, const struct err *e)
{
	struct create *op = data;

	if (e)
		log_error("cannot clean up a container", "container=%s error=\"%s\"",
			  op->container->id, e->msg);
	storage_detach(&op->container->agent->storage, &op->container->mounts, UNMOUNT_MS,
		       create_failed, op);
}

static void create_undo(struct create *op)
{
	struct err e = { 0 };

	/* The host won't wait for that: its deadline is near. Nor is the request needed any more. */
	if (op->error.code == -ETIMEDOUT)
		ttrpc_reply_err(TAKE_PTR(op->call), &op->error);
	if (child_work(&op->container->agent->reaper, "cleaning up", work_cleanup, op->container,
		       CLEANUP_MS, create_cleaned, op, &e) < 0)
		create_cleaned(op, &e);
}

/* The limits of the pod hold only below its cgroup. */
static int check_cgroup(const struct container *c, struct err *e)
{
	_cleanup_(close_fdp) int dir = cgroup_open(c->id);

	return dir < 0 ? err_set(e, -EINVAL, "cgroupsPath of the container is not /pod/%s", c->id)
		       : 0;
}

static void create_finished(void *data, const struct err *e)
{
	struct create *op = data;
	struct container *c = op->container;
	PB(CreateContainerResponse) resp = PODVM__AGENT__V1__CREATE_CONTAINER_RESPONSE__INIT;

	if (e)
		op->error = *e;
	if (e || check_cgroup(c, &op->error) < 0) {
		create_undo(op);
		return;
	}
	c->oom_watch = oom_watch(&c->agent->oom, c->id);
	if (c->oom_watch < 0)
		log_warn("cannot watch for OOM kills", "container=%s", c->id);
	c->busy = false;
	c->state = container_init_process(c)->state == PROCESS_EXITED ? CONTAINER_STOPPED
								      : CONTAINER_CREATED;
	resp.pid = (uint32_t)container_init_process(c)->entry.pid;
	ttrpc_reply(op->call, &resp.base);
	free(op);
}

static int write_bundle(struct create *op, struct err *e)
{
	char bundle[PATH_LEN];
	char path[PATH_LEN + 16];
	int r;

	snprintf(path, sizeof(path), "%s/config.json", container_bundle(op->container, bundle));
	if (mkdir(bundle, 0700) < 0)
		return err_errno(e, -errno, "cannot make the bundle");
	r = file_replace(AT_FDCWD, path, op->req->spec.data, op->req->spec.len, 0600);
	return r < 0 ? err_errno(e, r, "cannot write the bundle") : 0;
}

static int run_crun(struct create *op, struct err *e)
{
	struct process *p = container_init_process(op->container);
	char bundle[PATH_LEN];
	char name[32];
	struct crun_job job = {
		.process = p,
		.bundle = container_bundle(op->container, bundle),
		.columns = op->req->columns,
		.rows = op->req->rows,
		.timeout_ms = remaining(op),
		.done = create_finished,
		.data = op,
	};
	int r;

	snprintf(name, sizeof(name), "console-%llu",
		 (unsigned long long)++op->container->agent->sequence);
	r = streams_open(&p->io, op->req->terminal, op->req->stdin, name, e);
	return r < 0 ? r : crun_start(&job, e);
}

static void create_mounted(void *data, const struct err *e)
{
	struct create *op = data;

	if (e)
		op->error = *e;
	if (e || write_bundle(op, &op->error) < 0 || run_crun(op, &op->error) < 0) {
		error_internal(&op->error);
		create_undo(op);
	}
}

static int check_create(const struct agent *a, const PB(CreateContainerRequest) * req,
			struct err *e)
{
	if (!id_valid(req->container_id))
		return err_set(e, -EINVAL, "invalid container id");
	if (req->spec.len == 0 || req->spec.len > SPEC_MAX)
		return err_set(e, -EINVAL, "a spec has 1 to %zu bytes, not %zu", SPEC_MAX,
			       req->spec.len);
	if (req->n_storages > STORAGES_MAX)
		return err_set(e, -EINVAL, "more than %d storages", STORAGES_MAX);
	for (size_t i = 0; i < req->n_storages; i++) {
		int r = storage_check(req->storages[i], e);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Whether there may be one more container of this name now. */
static bool may_create(struct agent *a, struct ttrpc_call *call, const char *id)
{
	if (a->shutdown) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "the guest is going down");
		return false;
	}
	if (a->n_containers >= CONTAINERS_MAX) {
		ttrpc_reply_error(call, TTRPC_RESOURCE_EXHAUSTED, "there are %d containers",
				  CONTAINERS_MAX);
		return false;
	}
	if (container_find(a, id)) {
		ttrpc_reply_error(call, TTRPC_ALREADY_EXISTS, "container %s exists", id);
		return false;
	}
	return true;
}

HANDLER(serve_create_container)
{
	const PB(CreateContainerRequest) *req = (const void *)msg;
	struct agent *a = data;
	struct create *op;
	struct err e = { 0 };

	if (check_create(a, req, &e) < 0) {
		ttrpc_reply_err(call, &e);
		return;
	}
	if (!may_create(a, call, req->container_id))
		return;
	op = calloc(1, sizeof(*op));
	if (!op || container_new(a, req->container_id, &op->container) < 0) {
		free(op);
		reply_oom(call);
		return;
	}
	op->call = call;
	op->req = req;
	op->deadline_ms = clock_ms() + call_timeout(call);
	/* The guest's memory may have grown since the last container. */
	cgroup_limit_pod();
	storage_attach(&a->storage, req->storages, req->n_storages, op->deadline_ms,
		       &op->container->mounts, create_mounted, op);
}

/* ---- start ---- */

HANDLER(serve_start_container)
{
	const PB(ContainerRequest) *req = (const void *)msg;
	struct container *c = find_container(data, call, req->container_id);
	int r;

	if (!c)
		return;
	if (c->busy || c->state != CONTAINER_CREATED) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION,
				  "container %s is not waiting to be started", c->id);
		return;
	}
	r = crun_release(c->id);
	if (r < 0) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION,
				  "the first process of container %s is gone", c->id);
		return;
	}
	c->state = CONTAINER_RUNNING;
	reply_empty(call);
}

/* ---- remove ---- */

/* A call of RemoveContainer that is under way. */
struct removal {
	struct container *container;
	struct ttrpc_call *call;
};

static void removed(void *data, const struct err *e)
{
	struct removal *op = data;

	log_info("container removed", "container=%s", op->container->id);
	container_free(op->container);
	if (e)
		ttrpc_reply_err(op->call, e);
	else
		reply_empty(op->call);
	free(op);
}

static void remove_cleaned(void *data, const struct err *e)
{
	struct removal *op = data;

	if (e) {
		/* It stays, so that it can be tried again. */
		op->container->busy = false;
		ttrpc_reply_err(op->call, e);
		free(op);
		return;
	}
	storage_detach(&op->container->agent->storage, &op->container->mounts, UNMOUNT_MS, removed,
		       op);
}

HANDLER(serve_remove_container)
{
	const PB(ContainerRequest) *req = (const void *)msg;
	struct container *c = find_container(data, call, req->container_id);
	struct removal *op;
	struct err e = { 0 };

	if (!c)
		return;
	if (c->busy || c->execs > 0) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION,
				  "another operation on container %s is under way", c->id);
		return;
	}
	op = calloc(1, sizeof(*op));
	if (!op) {
		reply_oom(call);
		return;
	}
	op->container = c;
	op->call = call;
	c->busy = true;
	if (child_work(&c->agent->reaper, "cleaning up", work_cleanup, c, CLEANUP_MS,
		       remove_cleaned, op, &e) < 0)
		remove_cleaned(op, &e);
}
