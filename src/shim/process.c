/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/process.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proto/events.pb-c.h"
#include "sandbox/agent_client.h"
#include "shim/record.h"
#include "shim/task.h"
#include "shim/volumes.h"

/* A call of Wait. */
struct waiter {
	struct list node;
	struct ttrpc_call *call;
};

int process_init(struct process *p, struct task *task, const char *id)
{
	list_init(&p->node);
	list_init(&p->waiters);
	p->task = task;
	procio_init(&p->io);
	return str_set(&p->id, id);
}

static void answer_waiters(struct process *p)
{
	while (!list_empty(&p->waiters)) {
		struct waiter *w = list_entry(p->waiters.next, struct waiter, node);
		struct ttrpc_call *call = w->call;

		list_remove(&w->node);
		free(w);
		ttrpc_call_on_cancel(call, NULL, NULL);
		if (p->state == PROCESS_STOPPED)
			service_reply_wait(p, call);
		else
			ttrpc_reply_error(call, TTRPC_NOT_FOUND, "the process was removed");
	}
}

void process_done(struct process *p)
{
	answer_waiters(p);
	list_remove(&p->node);
	ttrpc_cancel(p->pending);
	ttrpc_cancel(p->waiting);
	loop_timer_free(p->drain);
	procio_done(&p->io);
	procio_paths_done(&p->paths);
	free(p->spec);
	free(p->id);
}

static void on_cancel(void *data)
{
	struct waiter *w = data;
	struct ttrpc_call *call = w->call;

	list_remove(&w->node);
	free(w);
	ttrpc_reply_error(call, TTRPC_CANCELED, "the caller has gone");
}

void process_wait(struct process *p, struct ttrpc_call *call)
{
	struct waiter *w;

	if (p->state == PROCESS_STOPPED) {
		service_reply_wait(p, call);
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		ttrpc_reply_error(call, TTRPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	w->call = call;
	list_append(&p->waiters, &w->node);
	ttrpc_call_on_cancel(call, on_cancel, w);
}

/* ---- the end ---- */

static void publish_exit(struct process *p)
{
	Containerd__Events__TaskExit event = CONTAINERD__EVENTS__TASK_EXIT__INIT;
	Containerd__Types__Timestamp at;

	if (p->task == p->task->shim->box)
		return;
	service_timestamp(&at, p->exited_ns);
	event.container_id = p->task->id;
	event.id = *p->id ? p->id : p->task->id;
	event.pid = pod_pid(&p->task->shim->pod);
	event.exit_status = p->exit_status;
	event.exited_at = &at;
	events_publish(p->task->shim->events, "/tasks/exit", &event.base);
}

static void settle(struct process *p);

static void stop(struct process *p)
{
	struct task *t = p->task;

	p->state = PROCESS_STOPPED;
	loop_timer_free(TAKE_PTR(p->drain));
	procio_close_input(&p->io);
	log_info("process ended", "container=%s exec=%s status=%u", t->id, p->id, p->exit_status);
	if (!*p->id)
		record_exited(t);
	publish_exit(p);
	answer_waiters(p);
	if (*p->id)
		settle(&t->init);
}

static bool execs_run(const struct task *t)
{
	struct process *p;

	list_for_each (p, &t->execs, node)
		if (p->state == PROCESS_RUNNING)
			return true;
	return false;
}

/* Tell the exit if everything that comes before it has been told. */
static void settle(struct process *p)
{
	if (!p->exited || p->state == PROCESS_STOPPED || p->state == PROCESS_STARTING)
		return;
	if (p->io.done && (*p->id || (!execs_run(p->task) && !p->task->collecting)))
		stop(p);
}

void process_collected(struct process *p)
{
	settle(p);
}

static void on_io_done(void *data)
{
	settle(data);
}

/* Something else holds the output open, or nobody reads it: the exit is told without. */
static void on_drain_timeout(void *data)
{
	struct process *p = data;
	struct process *exec;
	struct process *tmp;

	list_for_each_safe (exec, tmp, &p->task->execs, node)
		if (!*p->id && exec->state == PROCESS_RUNNING)
			process_lost(exec);
	if (p->state != PROCESS_STOPPED)
		stop(p);
}

void process_exited(struct process *p, uint32_t status, bool oom_killed)
{
	if (p->exited)
		return;
	p->exited = true;
	p->exit_status = status;
	p->exited_ns = clock_real_ns();
	if (oom_killed)
		task_publish_oom(p->task);
	if (!*p->id)
		volumes_collect(p->task);
	settle(p);
	if (p->state != PROCESS_STOPPED && p->state != PROCESS_STARTING &&
	    loop_timer_new(p->task->shim->loop, SHIM_DRAIN_MS, on_drain_timeout, p, &p->drain) < 0)
		stop(p);
}

void process_lost(struct process *p)
{
	if (p->state == PROCESS_STOPPED)
		return;
	if (!p->exited) {
		p->exited = true;
		p->exit_status = SHIM_KILLED;
		p->exited_ns = clock_real_ns();
	}
	procio_done(&p->io);
	stop(p);
}

void process_started(struct process *p)
{
	p->state = PROCESS_RUNNING;
	if (!p->exited)
		return;
	p->exited = false;
	process_exited(p, p->exit_status, false);
}

int process_open(struct process *p, struct err *e)
{
	struct streams_config config = {
		.loop = p->task->shim->loop,
		.client = sandbox_agent(p->task->shim->pod.sandbox),
		.container_id = p->task->id,
		.exec_id = p->id,
	};

	return procio_start(&p->io, &p->paths, &config, p->task->shim->namespace, on_io_done, p, e);
}

static void on_finish(void *data)
{
	struct process *p = data;

	loop_timer_free(TAKE_PTR(p->drain));
	procio_done(&p->io);
	p->finished(p);
}

void process_finish(struct process *p, void (*done)(struct process *p))
{
	p->finished = done;
	p->io.cb = on_finish;
	p->io.data = p;
	if (p->io.done ||
	    loop_timer_new(p->task->shim->loop, SHIM_DRAIN_MS, on_finish, p, &p->drain) < 0)
		on_finish(p);
}

void process_resize(struct process *p, unsigned int columns, unsigned int rows)
{
	Podvm__Agent__V1__ResizeTerminalRequest req =
		PODVM__AGENT__V1__RESIZE_TERMINAL_REQUEST__INIT;

	/* Nothing is what a client says that has no terminal of its own. */
	if (columns == 0 || rows == 0)
		return;
	p->columns = columns;
	p->rows = rows;
	if (p->state != PROCESS_RUNNING || !pod_running(&p->task->shim->pod))
		return;
	req.container_id = p->task->id;
	req.exec_id = p->id;
	req.columns = columns;
	req.rows = rows;
	(void)agent_call(sandbox_agent(p->task->shim->pod.sandbox), "ResizeTerminal", &req.base,
			 AGENT_TIMEOUT_MS, agent_ignore, NULL, NULL);
}
