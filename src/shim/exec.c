/* SPDX-License-Identifier: Apache-2.0 */
/* Execs: further processes of a container. */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "proto/events.pb-c.h"
#include "sandbox/agent_client.h"
#include "shim/process.h"
#include "shim/task.h"

/* Of the text of a process specification; the agent's limit. */
#define SPEC_MAX ((size_t)1 << 20)

int exec_add(struct task *t, const char *id, struct process **ret)
{
	struct process *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	if (process_init(p, t, id) < 0) {
		exec_free(p);
		return -ENOMEM;
	}
	list_append(&t->execs, &p->node);
	*ret = p;
	return 0;
}

int exec_set(struct process *p, const Containerd__Task__V2__ExecProcessRequest *req, struct err *e)
{
	_cleanup_(json_putp) struct json_object *process = NULL;
	int r;

	if (!req->spec || req->spec->value.len > SPEC_MAX)
		return err_set(e, -EINVAL, "the process specification is missing or too large");
	r = json_parse((const char *)req->spec->value.data, req->spec->value.len, "process",
		       &process, e);
	if (r == 0 && spec_clean_process(process, req->terminal) < 0)
		r = err_oom(e);
	if (r == 0)
		r = json_text(process, "process", &p->spec, e);
	return r < 0 ? r
		     : procio_paths_set(&p->paths, req->stdin, req->stdout, req->stderr,
					req->terminal, e);
}

void exec_publish_added(const struct process *p)
{
	Containerd__Events__TaskExecAdded event = CONTAINERD__EVENTS__TASK_EXEC_ADDED__INIT;

	event.container_id = p->task->id;
	event.exec_id = p->id;
	events_publish(p->task->shim->events, "/tasks/exec-added", &event.base);
}

void exec_free(struct process *p)
{
	process_done(p);
	free(p);
}

static struct ttrpc_client *agent(struct process *p)
{
	return sandbox_agent(p->task->shim->pod.sandbox);
}

/* ---- start ---- */

static void on_waited(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	const Podvm__Agent__V1__WaitResponse *resp = (const void *)msg;
	struct process *p = data;

	p->waiting = NULL;
	if (resp)
		process_exited(p, resp->exit_status, resp->oom_killed);
	else if (e->code != -ECONNRESET)
		process_exited(p, SHIM_UNKNOWN, false);
}

static void publish_started(struct process *p, uint32_t pid)
{
	Containerd__Events__TaskExecStarted event = CONTAINERD__EVENTS__TASK_EXEC_STARTED__INIT;

	event.container_id = p->task->id;
	event.exec_id = p->id;
	event.pid = pid;
	events_publish(p->task->shim->events, "/tasks/exec-started", &event.base);
}

/* It never ran: no exit is told, and it can only be deleted. */
static void failed(struct process *p, const struct err *e)
{
	struct ttrpc_call *call = TAKE_PTR(p->call);

	procio_done(&p->io);
	p->state = PROCESS_STOPPED;
	p->exit_status = SHIM_UNKNOWN;
	service_reply_failure(call, "cannot start the exec", e);
}

static void on_started(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	Podvm__Agent__V1__ProcessRequest req = PODVM__AGENT__V1__PROCESS_REQUEST__INIT;
	Podvm__Agent__V1__SignalRequest sig = PODVM__AGENT__V1__SIGNAL_REQUEST__INIT;
	struct process *p = data;
	struct err err = { 0 };
	int r;

	p->pending = NULL;
	if (e) {
		failed(p, e);
		return;
	}
	req.container_id = p->task->id;
	req.exec_id = p->id;
	r = process_open(p, &err);
	if (r == 0) {
		r = agent_call(agent(p), "Wait", &req.base, 0, on_waited, p, &p->waiting);
		if (r < 0)
			err_errno(&err, r, "cannot watch the process");
	}
	if (r < 0) {
		/* It runs, but nobody could follow it. */
		sig.container_id = p->task->id;
		sig.exec_id = p->id;
		sig.signal = SIGKILL;
		(void)agent_call(agent(p), "Signal", &sig.base, AGENT_TIMEOUT_MS, agent_ignore,
				 NULL, NULL);
		failed(p, &err);
		return;
	}
	publish_started(p, pod_pid(&p->task->shim->pod));
	service_reply_start(p->task->shim, TAKE_PTR(p->call));
	process_started(p);
}

void exec_start(struct process *p, struct ttrpc_call *call)
{
	Podvm__Agent__V1__ExecRequest req = PODVM__AGENT__V1__EXEC_REQUEST__INIT;
	struct err e = { 0 };
	int r;

	req.container_id = p->task->id;
	req.exec_id = p->id;
	req.process.data = (uint8_t *)p->spec;
	req.process.len = strlen(p->spec);
	req.terminal = p->paths.terminal;
	req.stdin = *p->paths.stdin;
	req.columns = p->columns;
	req.rows = p->rows;
	p->call = call;
	p->state = PROCESS_STARTING;
	r = agent_call(agent(p), "Exec", &req.base, AGENT_TIMEOUT_MS, on_started, p, &p->pending);
	if (r < 0) {
		err_errno(&e, r, "cannot call the guest");
		failed(p, &e);
	}
}

/* ---- delete ---- */

static void on_finished(struct process *p)
{
	Podvm__Agent__V1__ProcessRequest req = PODVM__AGENT__V1__PROCESS_REQUEST__INIT;

	if (pod_running(&p->task->shim->pod)) {
		req.container_id = p->task->id;
		req.exec_id = p->id;
		(void)agent_call(agent(p), "RemoveProcess", &req.base, AGENT_TIMEOUT_MS,
				 agent_ignore, NULL, NULL);
	}
	service_reply_delete(p, TAKE_PTR(p->call));
	exec_free(p);
	malloc_trim(0);
}

void exec_delete(struct process *p, struct ttrpc_call *call)
{
	p->call = call;
	process_finish(p, on_finished);
}
