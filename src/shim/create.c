/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Create: read config.json, start the machine if there's none, mount what the container needs
 * below the shared directory, and make it in the guest. Whatever fails, nothing of it is left and
 * containerd gets the reason.
 */
#include "shim/create.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proto/events.pb-c.h"
#include "sandbox/container.h"
#include "shim/mounts.h"
#include "shim/oom.h"
#include "shim/task.h"
#include "storage/virtiofs.h"

#define FILE_MAX	((size_t)1 << 20)
#define SHM_DEFAULT	((uint64_t)64 << 20)
#define RUNTIME_OPTIONS "runtimeoptions.v1.Options"

/**
 * struct task_create - A Create that is under way
 * @req:	Its request
 * @spec:	config.json, later the one for the guest
 * @member:	It's a container of a CRI pod
 * @texts:	Contents of the small files
 */
struct task_create {
	const Containerd__Task__V2__CreateTaskRequest *req;
	struct json_object *spec;
	bool member;
	struct spec_plan plan;
	struct container_config config;
	char *text;
	char *texts[SPEC_MAX_FILES];
};

void create_free(struct task_create *c)
{
	if (!c)
		return;
	json_object_put(c->spec);
	spec_plan_done(&c->plan);
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

/* ---- what the host provides ---- */

static int note_name(struct task *t, const char *name, struct err *e)
{
	t->names[t->n_names] = strdup(name);
	if (!t->names[t->n_names])
		return err_oom(e);
	t->n_names++;
	return 0;
}

/* Without mounts the spec names the root file system, in the bundle or anywhere. */
static int bind_root(struct task *t, const char *name, struct err *e)
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
	return virtiofs_share_add(t->shim->pod.shared_dir, full, false, name, e);
}

static int share_rootfs(struct task *t, const char *name, struct err *e)
{
	const Containerd__Task__V2__CreateTaskRequest *req = t->create->req;
	int r = note_name(t, name, e);

	if (r < 0)
		return r;
	return req->n_rootfs > 0
		       ? mounts_rootfs(t->shim->pod.shared_dir, name, req->rootfs, req->n_rootfs, e)
		       : bind_root(t, name, e);
}

static int share_volumes(struct task *t, struct err *e)
{
	const struct spec_plan *plan = &t->create->plan;
	int r = 0;

	for (size_t i = 0; r == 0 && i < plan->n_shares; i++) {
		const struct spec_share *s = &plan->shares[i];

		r = note_name(t, s->name, e);
		if (r == 0)
			r = virtiofs_share_add(t->shim->pod.shared_dir, s->source, s->readonly,
					       s->name, e);
	}
	return r;
}

static int read_files(struct task_create *c, struct err *e)
{
	for (size_t i = 0; i < c->plan.n_files; i++) {
		const struct spec_file *f = &c->plan.files[i];
		int r = file_read(AT_FDCWD, f->source, FILE_MAX, &c->texts[i], NULL);

		if (r < 0)
			return err_errno(e, r, "cannot read %s", f->source);
		c->config.files[i] = (struct container_file){ f->name, c->texts[i], 0644 };
	}
	c->config.n_files = c->plan.n_files;
	return 0;
}

static uint64_t shm_size(const char *source)
{
	struct statvfs st;

	if (!source || statvfs(source, &st) < 0 || st.f_blocks == 0)
		return SHM_DEFAULT;
	return (uint64_t)st.f_blocks * st.f_frsize;
}

static int make_spec(struct task *t, const char *rootfs, struct err *e)
{
	struct task_create *c = t->create;
	struct spec_target target = {
		.id = t->id,
		.rootfs = rootfs,
		.terminal = c->req->terminal,
		.member = c->member,
	};
	int r;

	r = spec_rewrite(c->spec, &target, &c->plan, e);
	return r < 0 ? r : json_text(c->spec, "config.json", &c->text, e);
}

/* ---- the container ---- */

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

static void on_created(void *data, const struct err *e)
{
	struct task *t = data;
	struct err err = { 0 };
	int r;

	if (e) {
		fail(t, e);
		return;
	}
	r = container_wait(t->container, on_container_exit, t);
	if (r < 0) {
		err_errno(&err, r, "cannot watch the container");
		fail(t, &err);
		return;
	}
	created(t);
}

static int make(struct task *t, struct err *e)
{
	struct task_create *c = t->create;
	_cleanup_(freep) char *name = str_printf("%s:rootfs", t->id);
	_cleanup_(freep) char *rootfs = str_printf(CONTAINER_SHARED "/%s:rootfs", t->id);
	int r;

	if (!name || !rootfs)
		return err_oom(e);
	r = share_rootfs(t, name, e);
	if (r == 0)
		r = make_spec(t, rootfs, e);
	if (r == 0)
		r = share_volumes(t, e);
	if (r == 0)
		r = read_files(c, e);
	if (r < 0)
		return r;
	c->config.id = t->id;
	c->config.spec = c->text;
	c->config.image_fd = -EBADF;
	c->config.scratch_fd = -EBADF;
	c->config.shared = true;
	c->config.shm = c->plan.shm ? SPEC_SHM : NULL;
	c->config.shm_size = shm_size(c->plan.shm_source);
	c->config.terminal = c->req->terminal;
	c->config.input = *c->req->stdin;
	r = container_create(t->shim->pod.sandbox, &c->config, on_created, t, &t->container);
	return r < 0 ? err_errno(e, r, "cannot create the container in the guest") : 0;
}

/* The machine runs. */
static void go_on(struct task *t)
{
	struct err e = { 0 };

	if (t->sandbox)
		created(t);
	else if (make(t, &e) < 0)
		fail(t, &e);
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
