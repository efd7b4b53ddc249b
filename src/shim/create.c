/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/create.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "proto/events.pb-c.h"
#include "shim/oom.h"
#include "shim/rootfs.h"
#include "shim/task.h"
#include "shim/volumes.h"

#define RUNTIME_OPTIONS "runtimeoptions.v1.Options"

void create_free(struct task_create *c)
{
	if (!c)
		return;
	stages_abort(&c->stages);
	json_object_put(c->spec);
	spec_plan_done(&c->plan);
	free(c->rootfs);
	free(c->text);
	for (size_t i = 0; i < ARRAY_SIZE(c->texts); i++)
		free(c->texts[i]);
	free(c);
}

static void fail(struct task *t, const struct err *e)
{
	struct ttrpc_call *call = TAKE_PTR(t->call);

	service_reply_failure(call, "cannot create the container", e);
	task_free(t);
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
	create_free(TAKE_PTR(t->create));
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
	int r;

	r = spec_rewrite(c->spec, &target, &c->plan, e);
	return r < 0 ? r : json_text(c->spec, "config.json", &c->text, e);
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
	int r;

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
	{ "volumes", volumes_prepare, NULL },
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

static void on_pod_started(void *data, const struct err *e)
{
	struct shim *shim = data;
	struct task *t;
	struct task *tmp;

	if (!e)
		oom_watch(shim);
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

/* The file that `ConfigPath` of the runtime's options names; "" for none. */
static int config_file(const Containerd__Types__Any *options, char **ret, struct err *e)
{
	Containerd__Types__RuntimeOptions *o;
	int r = 0;

	if (!options || !str_eq(options->type_url, RUNTIME_OPTIONS))
		return 0;
	o = containerd__types__runtime_options__unpack(NULL, options->value.len,
						       options->value.data);
	if (!o)
		return err_set(e, -EBADMSG, "the runtime options are malformed");
	if (*o->config_path)
		r = str_set(ret, o->config_path) < 0 ? err_oom(e) : 0;
	containerd__types__runtime_options__free_unpacked(o, NULL);
	return r;
}

static int start_pod(struct task *t, struct err *e)
{
	_cleanup_(freep) char *file = NULL;
	struct pod_request request = {
		.namespace = t->shim->namespace,
		.id = t->shim->pod_id,
		.spec = t->create->spec,
		.sandbox = t->sandbox,
	};
	int r = config_file(t->create->req->options, &file, e);

	request.config_file = file;
	return r < 0 ? r : pod_start(&t->shim->pod, &request, on_pod_started, e);
}

static int begin(struct task *t, struct err *e)
{
	struct task_create *c = t->create;
	const char *type;
	int r;

	r = spec_read(t->bundle, &c->spec, e);
	if (r == 0)
		r = procio_paths_set(&t->init.paths, c->req->stdin, c->req->stdout, c->req->stderr,
				     c->req->terminal, e);
	if (r < 0)
		return r;
	type = spec_annotation(c->spec, SPEC_CONTAINER_TYPE);
	t->sandbox = type && str_eq(type, "sandbox");
	c->member = type && str_eq(type, "container");
	switch (t->shim->pod.state) {
	case POD_NONE:
		return start_pod(t, e);
	case POD_STARTING:
		return 0;
	case POD_RUNNING:
		go_on(t);
		return 0;
	case POD_STOPPING:
	case POD_GONE:
		break;
	}
	return err_set(e, -ENOTCONN, "the machine of the pod has ended");
}

static struct task *task_new(struct shim *shim, const Containerd__Task__V2__CreateTaskRequest *req)
{
	struct task *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	list_init(&t->node);
	list_init(&t->execs);
	t->shim = shim;
	t->create = calloc(1, sizeof(*t->create));
	if (process_init(&t->init, t, "") < 0 || str_set(&t->id, req->id) < 0 ||
	    str_set(&t->bundle, req->bundle) < 0 || !t->create) {
		task_free(t);
		return NULL;
	}
	t->create->req = req;
	list_append(&shim->tasks, &t->node);
	return t;
}

void task_create(struct shim *shim, struct ttrpc_call *call,
		 const Containerd__Task__V2__CreateTaskRequest *req)
{
	struct task *t = task_new(shim, req);
	struct err e = { 0 };

	if (!t) {
		ttrpc_reply_error(call, TTRPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	t->call = call;
	if (begin(t, &e) < 0)
		fail(t, &e);
}
