/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/create.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "oci/spec.h"
#include "proto/events.pb-c.h"
#include "shim/bootstrap.h"
#include "shim/record.h"
#include "shim/rootfs.h"
#include "shim/sandbox_files.h"
#include "shim/task.h"
#include "shim/volumes.h"

void create_free(struct task_create *c)
{
	if (!c)
		return;
	stages_abort(&c->stages);
	rootfs_free(c->root);
	json_object_put(c->spec);
	spec_plan_done(&c->plan);
	free(c->rootfs);
	free(c->text);
	ttrpc_cancel(c->lookup);
	device_plan_done(&c->devices);
	strv_done(&c->paths);
	free(c);
}

static void fail(struct task *t, const struct err *e)
{
	struct ttrpc_call *call = TAKE_PTR(t->call);

	service_reply_failure(call, "cannot create the container", e);
	task_free(t);
}

void task_give_up(struct task *t)
{
	struct err e = { 0 };

	err_set(&e, -ECANCELED, "given up");
	fail(t, &e);
}

/* containerd was restarted: it doesn't know of the task, and if that's all there is, not of us. */
static void on_client_gone(void *data)
{
	struct task *t = data;
	struct shim *shim = t->shim;

	task_give_up(t);
	if (list_empty(&shim->tasks))
		shim->done = true;
}

static void publish_create(struct task *t)
{
	const Containerd__Task__V2__CreateTaskRequest *req = t->create->req;
	Containerd__Events__TaskCreate event = CONTAINERD__EVENTS__TASK_CREATE__INIT;
	Containerd__Events__TaskIO io = CONTAINERD__EVENTS__TASK_IO__INIT;

	io.stdin = req->stdin;
	io.stdout = req->stdout;
	io.stderr = req->stderr;
	io.terminal = req->terminal;
	event.container_id = t->id;
	event.bundle = t->bundle;
	event.rootfs = req->rootfs;
	event.n_rootfs = req->n_rootfs;
	event.io = &io;
	event.pid = pod_pid(&t->shim->pod);
	events_publish(t->shim->events, "/tasks/create", &event.base);
}

static void created(struct task *t)
{
	Containerd__Task__V2__CreateTaskResponse resp =
		CONTAINERD__TASK__V2__CREATE_TASK_RESPONSE__INIT;

	publish_create(t);
	record_created(t);
	create_free(TAKE_PTR(t->create));
	/* The pages of what was parsed, which is much more than what a pod needs from now on. */
	malloc_trim(0);
	resp.pid = pod_pid(&t->shim->pod);
	ttrpc_reply(TAKE_PTR(t->call), &resp.base);
}

static void on_container_exit(void *data, const struct container_exit *exit, const struct err *e)
{
	struct task *t = data;

	if (exit)
		process_exited(&t->init, exit->status, exit->oom_killed);
	else if (e->code != -ECONNRESET)
		process_exited(&t->init, SHIM_UNKNOWN, false);
}

/* ---- stages ---- */

static int make_spec(void *obj, struct err *e)
{
	struct task *t = obj;
	struct task_create *c = t->create;
	struct spec_target target = {
		.id = t->id,
		.rootfs = c->rootfs,
		.terminal = c->req->terminal,
		.member = c->member,
	};
	int r = spec_rewrite(c->spec, &target, &c->plan, e);

	return r < 0 ? r : oci_seccomp_compile(c->spec, e);
}

static void on_fit(void *data)
{
	struct task *t = data;

	t->create->fit = NULL;
	stages_next(&t->create->stages, NULL);
}

static int fit(void *obj, struct err *e)
{
	struct task *t = obj;
	struct json_object *l = json_get(t->create->spec, "linux", json_type_object);
	struct json_object *resources = l ? json_get(l, "resources", json_type_object) : NULL;

	if (resources)
		size_limits_update(&t->limits, resources);
	return size_fit(t->shim, on_fit, t, &t->create->fit);
}

static void fit_undo(void *obj)
{
	struct task *t = obj;

	size_fit_cancel(TAKE_PTR(t->create->fit));
}

static void on_made(void *data, const struct err *e)
{
	struct task *t = data;

	stages_next(&t->create->stages, e);
}

static int make(void *obj, struct err *e)
{
	struct task *t = obj;
	struct task_create *c = t->create;
	int r = json_text(c->spec, "config.json", &c->text, e);

	if (r < 0)
		return r;
	c->config.id = t->id;
	c->config.spec = c->text;
	c->config.terminal = c->req->terminal;
	c->config.input = *c->req->stdin;
	r = container_create(t->shim->pod.sandbox, &c->config, on_made, t, &t->container);
	return r < 0 ? err_errno(e, r, "cannot create the container in the guest") : STAGE_PENDING;
}

static int watch(void *obj, struct err *e)
{
	struct task *t = obj;
	int r = container_wait(t->container, on_container_exit, t);

	return r < 0 ? err_errno(e, r, "cannot watch the container") : 0;
}

static const struct stage create_stages[] = {
	{ "rootfs", rootfs_prepare, NULL },
	{ "spec", make_spec, NULL },
	{ "volumes", volumes_prepare, volumes_undo },
	{ "size", fit, fit_undo },
	{ "guest", make, NULL },
	{ "watch", watch, NULL },
};

static void on_stages_done(void *obj, const struct err *e)
{
	if (e)
		fail(obj, e);
	else
		created(obj);
}

/* The machine runs. */
static void go_on(struct task *t)
{
	struct err e = { 0 };
	int r;

	if (t->sandbox) {
		created(t);
		return;
	}
	r = stages_run(&t->create->stages, t->shim->loop, create_stages, ARRAY_SIZE(create_stages),
		       0, on_stages_done, t);
	if (r < 0) {
		err_errno(&e, r, "cannot begin");
		fail(t, &e);
	}
}

void task_pod_started(struct shim *shim, const struct err *e)
{
	struct task *t;
	struct task *tmp;

	list_for_each_safe (t, tmp, &shim->tasks, node) {
		if (!t->create)
			continue;
		if (e)
			fail(t, e);
		else
			go_on(t);
	}
}

/* ---- the request ---- */

static int start_pod(struct task *t, struct err *e)
{
	_cleanup_(spec_pod_done) struct spec_pod spec = { 0 };
	struct pod *pod = &t->shim->pod;
	_cleanup_(freep) char *config = NULL;
	struct pod_request request = {
		.spec = &spec,
		.sandbox = t->sandbox,
		.bundle = t->bundle,
	};
	int r;

	/* CRI-O gives options here only. */
	r = bootstrap_options(t->create->req->options, &config, e);
	request.config_file = t->shim->config_file ? t->shim->config_file : config;
	if (r == 0)
		r = spec_pod_from_config(t->create->spec, t->sandbox, &spec, e);
	if (r == 0)
		r = pod_prepare(pod, &request, e);
	return r < 0 ? r : pod_start(pod, e);
}

/* What needs no machine begins at once, whether that runs or is about to. */
static int begin_rootfs(struct task *t, struct err *e)
{
	return t->sandbox ? 0 : rootfs_begin(t, e);
}

static int read_spec(struct task *t, struct err *e)
{
	struct task_create *c = t->create;
	const char *type;
	int r;

	r = spec_read(t->bundle, t->shim->crio, &c->spec, e);
	if (r == 0 && t->shim->box)
		r = sandbox_files_mount(c->spec, t->shim->box->bundle, e);
	if (r == 0)
		r = procio_paths_set(&t->init.paths, c->req->stdin, c->req->stdout, c->req->stderr,
				     c->req->terminal, e);
	if (r < 0)
		return r;
	record_names(t, c->spec);
	type = spec_annotation(c->spec, SPEC_CONTAINER_TYPE);
	t->sandbox = type && str_eq(type, "sandbox");
	c->member = type && str_eq(type, "container");
	return 0;
}

/* One more container. Of a pod that has a sandbox, that one stands for all. */
static int join_pod(struct task *t, struct err *e)
{
	int r = t->create->member ? 0 : pod_note_bundle(&t->shim->pod, t->bundle, e);

	return r < 0 ? r : begin_rootfs(t, e);
}

static int begin(struct task *t, struct err *e)
{
	int r = read_spec(t, e);

	if (r < 0)
		return r;
	switch (t->shim->pod.state) {
	case POD_NONE:
		r = start_pod(t, e);
		return r < 0 ? r : begin_rootfs(t, e);
	case POD_PREPARED:
		return err_set(e, -ENOTCONN, "the machine of the pod hasn't been started");
	case POD_STARTING:
		return join_pod(t, e);
	case POD_RUNNING:
		r = join_pod(t, e);
		if (r == 0)
			go_on(t);
		return r;
	case POD_STOPPING:
	case POD_GONE:
		break;
	}
	return err_set(e, -ENOTCONN, "the machine of the pod has ended");
}

void task_create(struct shim *shim, struct ttrpc_call *call,
		 const Containerd__Task__V2__CreateTaskRequest *req)
{
	struct task *t = task_new(shim, req->id, req->bundle);
	struct err e = { 0 };

	if (t)
		t->create = calloc(1, sizeof(*t->create));
	if (!t || !t->create) {
		if (t)
			task_free(t);
		ttrpc_reply_error(call, TTRPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	t->create->req = req;
	t->call = call;
	ttrpc_call_on_cancel(call, on_client_gone, t);
	if (begin(t, &e) < 0)
		fail(t, &e);
}
