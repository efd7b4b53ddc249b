/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/service.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "proto/events.pb-c.h"
#include "sandbox/agent_client.h"
#include "shim/sandbox_service.h"
#include "shim/stats.h"
#include "shim/task.h"

/* Time for the guest to take a signal. It may be emulated, on a busy host. */
#define SIGNAL_TIMEOUT_MS 20000

#define T(name) Containerd__Task__V2__##name
#define HANDLER(name) \
	static void name(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)

void service_reply_empty(struct ttrpc_call *call)
{
	Containerd__Types__Empty resp = CONTAINERD__TYPES__EMPTY__INIT;

	ttrpc_reply(call, &resp.base);
}

void service_timestamp(Containerd__Types__Timestamp *ret, uint64_t ns)
{
	containerd__types__timestamp__init(ret);
	ret->seconds = (int64_t)(ns / 1000000000);
	ret->nanos = (int32_t)(ns % 1000000000);
}

void service_reply_wait(const struct process *p, struct ttrpc_call *call)
{
	T(WaitResponse) resp = CONTAINERD__TASK__V2__WAIT_RESPONSE__INIT;
	Containerd__Types__Timestamp at;

	if (ttrpc_call_method(call)->output == &containerd__types__empty__descriptor) {
		service_reply_empty(call);
		return;
	}
	service_timestamp(&at, p->exited_ns);
	resp.exit_status = p->exit_status;
	resp.exited_at = &at;
	ttrpc_reply(call, &resp.base);
}

void service_reply_start(const struct shim *shim, struct ttrpc_call *call)
{
	T(StartResponse) resp = CONTAINERD__TASK__V2__START_RESPONSE__INIT;

	resp.pid = pod_pid(&shim->pod);
	ttrpc_reply(call, &resp.base);
}

void service_reply_delete(const struct process *p, struct ttrpc_call *call)
{
	T(DeleteResponse) resp = CONTAINERD__TASK__V2__DELETE_RESPONSE__INIT;
	Containerd__Types__Timestamp at;

	service_timestamp(&at, p->exited_ns);
	resp.pid = pod_pid(&p->task->shim->pod);
	resp.exit_status = p->exit_status;
	resp.exited_at = &at;
	ttrpc_reply(call, &resp.base);
}

void service_reply_failure(struct ttrpc_call *call, const char *what, const struct err *e)
{
	char text[1024];

	log_error("a request failed", "what=\"%s\" stage=\"%s\" error=%s", what, e->stage,
		  log_quote(text, sizeof(text), e->msg));
	ttrpc_reply_error(call, TTRPC_UNKNOWN, "podvm: %s: %s%s%s%s%s", what, e->stage,
			  *e->stage ? ": " : "", e->msg, *e->hint ? "; " : "", e->hint);
}

/* ---- finding what a request is about; these answer the call when it isn't there ---- */

static struct task *find_task(struct shim *shim, struct ttrpc_call *call, const char *id)
{
	struct task *t = task_find(shim, id);
	char quoted[128];

	if (t && !t->create && !t->deleting)
		return t;
	ttrpc_reply_error(call, TTRPC_NOT_FOUND, "there is no container %s",
			  log_quote(quoted, sizeof(quoted), id));
	return NULL;
}

static struct process *find_process(struct shim *shim, struct ttrpc_call *call, const char *id,
				    const char *exec_id)
{
	struct task *t = find_task(shim, call, id);
	struct process *p = t ? task_exec(t, exec_id) : NULL;
	char quoted[128];

	if (t && !p)
		ttrpc_reply_error(call, TTRPC_NOT_FOUND, "there is no exec %s",
				  log_quote(quoted, sizeof(quoted), exec_id));
	return p;
}

/* A container of the guest whose machine runs. */
static struct task *find_running(struct shim *shim, struct ttrpc_call *call, const char *id)
{
	struct task *t = find_task(shim, call, id);

	if (!t)
		return NULL;
	if (!t->sandbox && pod_running(&shim->pod))
		return t;
	if (t->sandbox)
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION,
				  "the sandbox is the machine itself: nothing runs in it");
	else
		ttrpc_reply_error(call, TTRPC_NOT_FOUND, "the machine of the pod has ended");
	return NULL;
}

static struct ttrpc_client *agent(const struct task *t)
{
	return sandbox_agent(t->shim->pod.sandbox);
}

/* ---- calls that the agent answers: the answer goes to who asked ---- */

static void on_forwarded(void *data, const ProtobufCMessage *resp, const struct err *e)
{
	struct ttrpc_call *call = data;

	if (e)
		ttrpc_reply_err(call, e);
	else
		service_reply_empty(call);
}

static void forward(struct ttrpc_call *call, const struct task *t, const char *method,
		    const ProtobufCMessage *req, ttrpc_done done)
{
	int r = agent_call(agent(t), method, req, AGENT_TIMEOUT_MS, done, call, NULL);

	if (r < 0)
		ttrpc_reply_error(call, ttrpc_code_from_errno(r), "cannot call the guest");
}

/* ---- state ---- */

static T(Status) status(const struct process *p)
{
	switch (p->state) {
	case PROCESS_CREATED:
	case PROCESS_STARTING:
		return CONTAINERD__TASK__V2__STATUS__CREATED;
	case PROCESS_RUNNING:
		return !*p->id && p->task->paused ? CONTAINERD__TASK__V2__STATUS__PAUSED
						  : CONTAINERD__TASK__V2__STATUS__RUNNING;
	case PROCESS_STOPPED:
		break;
	}
	return CONTAINERD__TASK__V2__STATUS__STOPPED;
}

HANDLER(serve_state)
{
	const T(StateRequest) *req = (const void *)msg;
	struct process *p = find_process(data, call, req->id, req->exec_id);
	T(StateResponse) resp = CONTAINERD__TASK__V2__STATE_RESPONSE__INIT;
	Containerd__Types__Timestamp at;

	if (!p)
		return;
	resp.id = *p->id ? p->id : p->task->id;
	resp.bundle = p->task->bundle;
	resp.pid = pod_pid(&p->task->shim->pod);
	resp.status = status(p);
	resp.stdin = p->paths.stdin;
	resp.stdout = p->paths.stdout;
	resp.stderr = p->paths.stderr;
	resp.terminal = p->paths.terminal;
	if (p->state == PROCESS_STOPPED) {
		service_timestamp(&at, p->exited_ns);
		resp.exit_status = p->exit_status;
		resp.exited_at = &at;
	}
	ttrpc_reply(call, &resp.base);
}

HANDLER(serve_connect)
{
	const T(ConnectRequest) *req = (const void *)msg;
	struct task *t = find_task(data, call, req->id);
	T(ConnectResponse) resp = CONTAINERD__TASK__V2__CONNECT_RESPONSE__INIT;

	if (!t)
		return;
	resp.shim_pid = (uint32_t)getpid();
	resp.task_pid = pod_pid(&t->shim->pod);
	resp.version = (char *)PODVM_VERSION;
	ttrpc_reply(call, &resp.base);
}

/* Processes of the guest have no numbers here: it's the machine's for all of them. */
HANDLER(serve_pids)
{
	const T(PidsRequest) *req = (const void *)msg;
	struct task *t = find_task(data, call, req->id);
	T(PidsResponse) resp = CONTAINERD__TASK__V2__PIDS_RESPONSE__INIT;
	T(ProcessInfo) info = CONTAINERD__TASK__V2__PROCESS_INFO__INIT;
	T(ProcessInfo) * list[] = { &info };

	if (!t)
		return;
	info.pid = pod_pid(&t->shim->pod);
	resp.processes = list;
	resp.n_processes = 1;
	ttrpc_reply(call, &resp.base);
}

HANDLER(serve_wait)
{
	const T(WaitRequest) *req = (const void *)msg;
	struct process *p = find_process(data, call, req->id, req->exec_id);

	if (p)
		process_wait(p, call);
}

/* ---- life ---- */

HANDLER(serve_create)
{
	const T(CreateTaskRequest) *req = (const void *)msg;
	struct shim *shim = data;

	if (task_find(shim, req->id))
		ttrpc_reply_error(call, TTRPC_ALREADY_EXISTS, "the container exists");
	else if (*req->checkpoint)
		ttrpc_reply_error(call, TTRPC_UNIMPLEMENTED, "checkpoints can't be restored");
	else
		task_create(shim, call, req);
}

HANDLER(serve_start)
{
	const T(StartRequest) *req = (const void *)msg;
	struct shim *shim = data;
	struct process *p = find_process(shim, call, req->id, req->exec_id);

	if (!p)
		return;
	if (p->state != PROCESS_CREATED || p->exited)
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION,
				  "the process isn't waiting to be started");
	else if (!pod_running(&shim->pod))
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION,
				  "the machine of the pod has ended");
	else if (!*p->id)
		task_start(p->task, call);
	else if (p->task->init.state != PROCESS_RUNNING)
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "the container doesn't run");
	else
		exec_start(p, call);
}

HANDLER(serve_delete)
{
	const T(DeleteRequest) *req = (const void *)msg;
	struct task *t = task_find(data, req->id);
	struct process *p;

	/* ttrpc can't cancel: containerd deletes what it doesn't wait for any more. */
	if (t && t->create && !*req->exec_id)
		task_give_up(t);
	p = find_process(data, call, req->id, req->exec_id);
	if (!p)
		return;
	if ((p->state != PROCESS_STOPPED && p->state != PROCESS_CREATED) || p->call)
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "the process runs");
	else if (*p->id)
		exec_delete(p, call);
	else
		task_delete(p->task, call);
}

HANDLER(serve_exec)
{
	const T(ExecProcessRequest) *req = (const void *)msg;
	struct task *t = find_running(data, call, req->id);
	struct process *p = NULL;
	struct err e = { 0 };

	if (!t)
		return;
	if (!*req->exec_id || task_exec(t, req->exec_id)) {
		ttrpc_reply_error(call, TTRPC_ALREADY_EXISTS, "the exec exists");
		return;
	}
	if (exec_add(t, req->exec_id, &p) < 0)
		err_oom(&e);
	else
		(void)exec_set(p, req, &e);
	if (e.code) {
		if (p)
			exec_free(p);
		ttrpc_reply_err(call, &e);
		return;
	}
	exec_publish_added(p);
	service_reply_empty(call);
}

/* The sandbox has no process: any signal that would end one ends the machine. */
static void kill_sandbox(struct task *t, uint32_t signum, struct ttrpc_call *call)
{
	if (signum != 0 && t->init.state != PROCESS_STOPPED) {
		process_exited(&t->init, 128 + signum, false);
		pod_stop(&t->shim->pod, POD_STOP_MS);
	}
	service_reply_empty(call);
}

struct killing {
	struct ttrpc_call *call;
	struct pod *pod;
};

static void on_killed(void *data, const ProtobufCMessage *resp, const struct err *e)
{
	struct killing *k = data;

	/* A guest that stands still would keep its pod for ever: its machine is ended. */
	if (e && e->code == -ETIMEDOUT) {
		log_error("the guest doesn't answer: it is ended", "sandbox=%s", k->pod->rundir.id);
		pod_stop(k->pod, POD_STOP_MS);
		service_reply_empty(k->call);
	} else if (e && e->code != -ENOENT && e->code != -ECONNRESET) {
		ttrpc_reply_err(k->call, e);
	} else {
		/* It took it, or ended meanwhile, which is what was wanted. */
		service_reply_empty(k->call);
	}
	free(k);
}

static void send_signal(struct ttrpc_call *call, struct task *t,
			const Podvm__Agent__V1__SignalRequest *sig)
{
	struct killing *k = malloc(sizeof(*k));
	int r = -ENOMEM;

	if (k) {
		*k = (struct killing){ .call = call, .pod = &t->shim->pod };
		r = agent_call(agent(t), "Signal", &sig->base, SIGNAL_TIMEOUT_MS, on_killed, k,
			       NULL);
	}
	if (r < 0) {
		ttrpc_reply_error(call, ttrpc_code_from_errno(r), "cannot call the guest");
		free(k);
	}
}

HANDLER(serve_kill)
{
	const T(KillRequest) *req = (const void *)msg;
	struct process *p = find_process(data, call, req->id, req->exec_id);
	Podvm__Agent__V1__SignalRequest sig = PODVM__AGENT__V1__SIGNAL_REQUEST__INIT;

	if (!p)
		return;
	if (p->task->sandbox) {
		kill_sandbox(p->task, req->signal, call);
		return;
	}
	if (*p->id && (p->exited || p->state != PROCESS_RUNNING)) {
		ttrpc_reply_error(call, TTRPC_NOT_FOUND, "the process doesn't run");
		return;
	}
	if (p->exited || p->state == PROCESS_STOPPED || !pod_running(&p->task->shim->pod)) {
		service_reply_empty(call);
		return;
	}
	sig.container_id = p->task->id;
	sig.exec_id = p->id;
	sig.signal = req->signal;
	sig.all = req->all;
	send_signal(call, p->task, &sig);
}

/* ---- pause, resume ---- */

static void publish_paused(const struct task *t)
{
	Containerd__Events__TaskPaused paused = CONTAINERD__EVENTS__TASK_PAUSED__INIT;
	Containerd__Events__TaskResumed resumed = CONTAINERD__EVENTS__TASK_RESUMED__INIT;

	paused.container_id = resumed.container_id = t->id;
	if (t->paused)
		events_publish(t->shim->events, "/tasks/paused", &paused.base);
	else
		events_publish(t->shim->events, "/tasks/resumed", &resumed.base);
}

/* The task may be gone when the agent answers: it's looked up again. */
struct freeze {
	struct ttrpc_call *call;
	struct shim *shim;
	bool pause;
	char id[];
};

static void on_frozen(void *data, const ProtobufCMessage *resp, const struct err *e)
{
	struct freeze *f = data;
	struct task *t = task_find(f->shim, f->id);

	if (t && !e) {
		t->paused = f->pause;
		publish_paused(t);
	}
	on_forwarded(f->call, resp, e);
	free(f);
}

static void freeze(struct ttrpc_call *call, struct task *t, bool pause)
{
	Podvm__Agent__V1__ContainerRequest req = PODVM__AGENT__V1__CONTAINER_REQUEST__INIT;
	size_t n = strlen(t->id) + 1;
	struct freeze *f;
	int r;

	if (t->init.state != PROCESS_RUNNING || t->paused == pause) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "the container %s",
				  t->paused ? "is paused" : "isn't paused or doesn't run");
		return;
	}
	f = malloc(sizeof(*f) + n);
	if (!f) {
		ttrpc_reply_error(call, TTRPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	*f = (struct freeze){ .call = call, .shim = t->shim, .pause = pause };
	memcpy(f->id, t->id, n);
	req.container_id = t->id;
	r = agent_call(agent(t), pause ? "PauseContainer" : "ResumeContainer", &req.base,
		       AGENT_TIMEOUT_MS, on_frozen, f, NULL);
	if (r < 0) {
		ttrpc_reply_error(call, ttrpc_code_from_errno(r), "cannot call the guest");
		free(f);
	}
}

HANDLER(serve_pause)
{
	const T(PauseRequest) *req = (const void *)msg;
	struct task *t = find_running(data, call, req->id);

	if (t)
		freeze(call, t, true);
}

HANDLER(serve_resume)
{
	const T(ResumeRequest) *req = (const void *)msg;
	struct task *t = find_running(data, call, req->id);

	if (t)
		freeze(call, t, false);
}

HANDLER(serve_checkpoint)
{
	ttrpc_reply_error(call, TTRPC_UNIMPLEMENTED, "a microVM's containers have no checkpoints");
}

/* ---- streams ---- */

HANDLER(serve_resize)
{
	const T(ResizePtyRequest) *req = (const void *)msg;
	struct process *p = find_process(data, call, req->id, req->exec_id);

	if (!p)
		return;
	process_resize(p, req->width, req->height);
	service_reply_empty(call);
}

HANDLER(serve_close_io)
{
	const T(CloseIORequest) *req = (const void *)msg;
	struct process *p = find_process(data, call, req->id, req->exec_id);

	if (!p)
		return;
	if (req->stdin)
		procio_close_input(&p->io);
	service_reply_empty(call);
}

/* ---- resources ---- */

HANDLER(serve_update)
{
	const T(UpdateTaskRequest) *req = (const void *)msg;
	struct shim *shim = data;
	struct task *t = find_task(shim, call, req->id);

	if (!t)
		return;
	if (pod_running(&shim->pod))
		task_update(t, call, req);
	else
		ttrpc_reply_error(call, TTRPC_NOT_FOUND, "the machine of the pod has ended");
}

static void on_stats(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct ttrpc_call *call = data;

	if (e)
		ttrpc_reply_err(call, e);
	else
		stats_reply(call, (const void *)msg);
}

static void on_sandbox_stats(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct ttrpc_call *call = data;

	if (e)
		ttrpc_reply_err(call, e);
	else
		stats_reply_guest(call, (const void *)msg);
}

HANDLER(serve_stats)
{
	const T(StatsRequest) *req = (const void *)msg;
	struct shim *shim = data;
	struct task *t = find_task(shim, call, req->id);
	Podvm__Agent__V1__ContainerRequest stats = PODVM__AGENT__V1__CONTAINER_REQUEST__INIT;
	Podvm__Agent__V1__GetMetricsRequest metrics = PODVM__AGENT__V1__GET_METRICS_REQUEST__INIT;

	if (!t)
		return;
	stats.container_id = t->id;
	if (!pod_running(&shim->pod))
		ttrpc_reply_error(call, TTRPC_NOT_FOUND, "the machine of the pod has ended");
	else if (t->sandbox)
		forward(call, t, "GetMetrics", &metrics.base, on_sandbox_stats);
	else
		forward(call, t, "StatsContainer", &stats.base, on_stats);
}

HANDLER(serve_shutdown)
{
	struct shim *shim = data;

	service_reply_empty(call);
	if (list_empty(&shim->tasks))
		shim->done = true;
}

/* In the order of the methods in task.proto. */
static const ttrpc_handler handlers[] = {
	serve_state,  serve_create,	serve_start, serve_delete,  serve_pids,	    serve_pause,
	serve_resume, serve_checkpoint, serve_kill,  serve_exec,    serve_resize,   serve_close_io,
	serve_update, serve_wait,	serve_stats, serve_connect, serve_shutdown,
};

static_assert(ARRAY_SIZE(handlers) == 17, "one handler per method");

void service_fill(struct shim *shim)
{
	static const char *const names[] = { "containerd.task.v2.Task", "containerd.task.v3.Task" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		shim->services[i] = (struct ttrpc_service){
			.desc = &containerd__task__v2__task__descriptor,
			.name = names[i],
			.handlers = handlers,
			.data = shim,
		};
	sandbox_service_fill(shim, &shim->services[ARRAY_SIZE(names)]);
}
