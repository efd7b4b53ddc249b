/* SPDX-License-Identifier: Apache-2.0 */
/* Pausing, resuming and changing the limits of a container. */
#include <stdlib.h>

#include "agent/cgroup.h"
#include "agent/child.h"
#include "agent/container.h"
#include "agent/crun.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "base/fd.h"

#define FREEZE_MS ((uint64_t)10000)

/* A call that is under way. */
struct control {
	struct container *container;
	struct ttrpc_call *call;
	bool paused; /* state after success */
};

static void finished(void *data, const struct err *e)
{
	struct control *op = data;

	op->container->busy = false;
	if (e) {
		ttrpc_reply_err(op->call, e);
	} else {
		op->container->paused = op->paused;
		reply_empty(op->call);
	}
	free(op);
}

/* An operation on a running container that is free for one, or NULL and the call is answered. */
static struct control *begin(struct container *c, struct ttrpc_call *call)
{
	struct control *op;

	if (c->busy || (c->state != CONTAINER_RUNNING && c->state != CONTAINER_CREATED)) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION,
				  c->busy ? "another operation on this container is under way"
					  : "the container is not running");
		return NULL;
	}
	op = calloc(1, sizeof(*op));
	if (!op) {
		reply_oom(call);
		return NULL;
	}
	op->container = c;
	op->call = call;
	op->paused = c->paused;
	c->busy = true;
	return op;
}

/* Worker: freeze or thaw, and wait until every process has seen it. */
static int work_freeze(void *arg, struct err *e)
{
	const struct control *op = arg;
	_cleanup_(close_fdp) int dir = cgroup_open(op->container->id);
	int r;

	r = dir < 0 ? dir : file_write(dir, "cgroup.freeze", op->paused ? "1" : "0");
	if (r == 0)
		r = cgroup_wait(dir, "frozen", op->paused, clock_ms() + FREEZE_MS - FREEZE_MS / 8);
	/* Half frozen is nothing that anyone asked for. */
	if (r < 0 && op->paused && dir >= 0)
		(void)file_write(dir, "cgroup.freeze", "0");
	return r < 0 ? err_errno(e, r, "cannot %s the container", op->paused ? "pause" : "resume")
		     : 0;
}

static void set_paused(struct container *c, struct ttrpc_call *call, bool paused)
{
	struct control *op = begin(c, call);
	struct err e = { 0 };

	if (!op)
		return;
	op->paused = paused;
	if (child_work(&c->agent->reaper, "freezing", work_freeze, op, FREEZE_MS, finished, op,
		       &e) < 0)
		finished(op, &e);
}

HANDLER(serve_pause_container)
{
	const PB(ContainerRequest) *req = (const void *)msg;
	struct container *c = find_container(data, call, req->container_id);

	if (c && c->execs > 0)
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION,
				  "a process of the container is being started");
	else if (c)
		set_paused(c, call, true);
}

HANDLER(serve_resume_container)
{
	const PB(ContainerRequest) *req = (const void *)msg;
	struct container *c = find_container(data, call, req->container_id);

	if (c)
		set_paused(c, call, false);
}

HANDLER(serve_update_container)
{
	const PB(UpdateContainerRequest) *req = (const void *)msg;
	struct container *c = find_container(data, call, req->container_id);
	struct control *op;
	struct err e = { 0 };

	if (!c)
		return;
	if (req->resources.len == 0 || req->resources.len > SPEC_MAX) {
		ttrpc_reply_error(call, TTRPC_INVALID_ARGUMENT, "invalid size of the resources");
		return;
	}
	op = begin(c, call);
	if (!op)
		return;
	cgroup_limit_pod();
	if (crun_update(c, req->resources.data, req->resources.len, call_timeout(call), finished,
			op, &e) < 0)
		finished(op, &e);
}
