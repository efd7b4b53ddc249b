/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/task.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "proto/events.pb-c.h"
#include "sandbox/agent_client.h"
#include "sandbox/container.h"
#include "shim/create.h"
#include "shim/record.h"
#include "shim/volume_share.h"
#include "shim/volumes.h"

struct task *task_find(struct shim *shim, const char *id)
{
	struct task *t;

	list_for_each (t, &shim->tasks, node)
		if (str_eq(t->id, id))
			return t;
	return NULL;
}

struct process *task_exec(struct task *t, const char *exec_id)
{
	struct process *p;

	if (!*exec_id)
		return &t->init;
	list_for_each (p, &t->execs, node)
		if (str_eq(p->id, exec_id))
			return p;
	return NULL;
}

struct task *task_new(struct shim *shim, const char *id, const char *bundle)
{
	struct task *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	list_init(&t->node);
	list_init(&t->execs);
	t->shim = shim;
	if (process_init(&t->init, t, "") < 0 || str_set(&t->id, id) < 0 ||
	    str_set(&t->bundle, bundle) < 0) {
		task_free(t);
		return NULL;
	}
	list_append(&shim->tasks, &t->node);
	return t;
}

int task_note_share(struct task *t, const char *name, struct err *e)
{
	t->names[t->n_names] = strdup(name);
	if (!t->names[t->n_names])
		return err_oom(e);
	t->n_names++;
	t->create->config.shares = (const char *const *)t->names;
	t->create->config.n_shares = t->n_names;
	return 0;
}

void task_free(struct task *t)
{
	list_remove(&t->node);
	if (t->shim->box == t)
		t->shim->box = NULL;
	while (!list_empty(&t->execs))
		exec_free(list_entry(t->execs.next, struct process, node));
	process_done(&t->init);
	create_free(t->create);
	volumes_task_freed(t);
	container_free(t->container);
	volume_shares_done(t);
	free(t->id);
	free(t->bundle);
	rundir_state_done(&t->record);
	free(t);
}

void task_publish_oom(struct task *t)
{
	Containerd__Events__TaskOOM event = CONTAINERD__EVENTS__TASK_OOM__INIT;

	if (t->oom_told)
		return;
	t->oom_told = true;
	event.container_id = t->id;
	events_publish(t->shim->events, "/tasks/oom", &event.base);
	record_oom(t);
}

/* ---- start ---- */

static void publish_start(struct task *t)
{
	Containerd__Events__TaskStart event = CONTAINERD__EVENTS__TASK_START__INIT;

	event.container_id = t->id;
	event.pid = pod_pid(&t->shim->pod);
	events_publish(t->shim->events, "/tasks/start", &event.base);
}

static void started(struct task *t)
{
	publish_start(t);
	record_started(t);
	service_reply_start(t->shim, TAKE_PTR(t->call));
	process_started(&t->init);
}

/* What never ran stays created, unless its first process has ended. */
static void start_failed(struct task *t, const struct err *e)
{
	procio_done(&t->init.io);
	service_reply_failure(TAKE_PTR(t->call), "cannot start the container", e);
	t->init.state = PROCESS_CREATED;
	if (t->init.exited)
		process_lost(&t->init);
}

static void on_started(void *data, const struct err *e)
{
	struct task *t = data;

	if (e)
		start_failed(t, e);
	else
		started(t);
}

void task_start(struct task *t, struct ttrpc_call *call)
{
	struct err e = { 0 };
	int r;

	t->call = call;
	t->init.state = PROCESS_STARTING;
	if (t->sandbox) {
		started(t);
		return;
	}
	r = process_open(&t->init, &e);
	if (r == 0) {
		r = container_start(t->container, on_started, t);
		if (r < 0)
			err_errno(&e, r, "cannot call the guest");
	}
	if (r < 0)
		start_failed(t, &e);
}

/* ---- the machine's end ---- */

static void deleted(struct task *t);

static void lose(struct task *t)
{
	struct process *p;
	struct process *tmp;

	/* Calls to the agent have failed and were answered before this. */
	list_for_each_safe (p, tmp, &t->execs, node)
		if (p->state == PROCESS_RUNNING)
			process_lost(p);
	process_lost(&t->init);
}

void task_pod_ended(struct shim *shim, const struct err *e)
{
	struct task *t;
	struct task *tmp;
	char text[1024];

	if (e)
		log_error("the machine of the pod is lost", "sandbox=%s error=%s hint=%s",
			  shim->pod.rundir.id, log_quote(text, sizeof(text), e->msg),
			  *e->hint ? "console" : "none");
	volumes_pod_ended(shim);
	/* The machine's own end comes last. */
	list_for_each_safe (t, tmp, &shim->tasks, node)
		if (!t->create && !t->sandbox)
			lose(t);
	list_for_each_safe (t, tmp, &shim->tasks, node)
		if (!t->create && t->sandbox)
			lose(t);
	list_for_each_safe (t, tmp, &shim->tasks, node)
		if (t->ends_pod)
			deleted(t);
}

/* ---- delete ---- */

static void publish_delete(const struct task *t)
{
	Containerd__Events__TaskDelete event = CONTAINERD__EVENTS__TASK_DELETE__INIT;
	Containerd__Types__Timestamp at;

	service_timestamp(&at, t->init.exited_ns);
	event.container_id = t->id;
	event.pid = pod_pid(&t->shim->pod);
	event.exit_status = t->init.exit_status;
	event.exited_at = &at;
	event.id = t->id;
	events_publish(t->shim->events, "/tasks/delete", &event.base);
}

static void deleted(struct task *t)
{
	struct ttrpc_call *call = TAKE_PTR(t->call);

	publish_delete(t);
	record_deleted(t);
	service_reply_delete(&t->init, call);
	task_free(t);
}

static void on_removed(void *data, const struct err *e)
{
	struct task *t = data;
	char text[512];

	if (e && e->code != -ECONNRESET)
		log_warn("the guest could not remove a container", "container=%s error=%s", t->id,
			 log_quote(text, sizeof(text), e->msg));
	deleted(t);
}

/* A container that is all there is of the pod: what's left of it in the guest goes with that. */
static bool is_whole_pod(const struct task *t)
{
	const struct list *tasks = &t->shim->tasks;

	return !t->sandbox && tasks->next == &t->node && tasks->prev == &t->node;
}

static void on_finished(struct process *p)
{
	struct task *t = p->task;

	if (t->container && pod_running(&t->shim->pod) && is_whole_pod(t)) {
		t->ends_pod = true;
		pod_stop(&t->shim->pod, AGENT_TIMEOUT_MS);
		return;
	}
	if (!t->container || !pod_running(&t->shim->pod) ||
	    container_remove(t->container, on_removed, t) < 0)
		deleted(t);
}

void task_delete(struct task *t, struct ttrpc_call *call)
{
	t->call = call;
	t->deleting = true;
	process_finish(&t->init, on_finished);
}
