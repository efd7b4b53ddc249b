/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/cgroup.h"
#include "agent/connection.h"
#include "agent/container.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"

/* What shells and container engines say of a program that can't be executed. */
#define EXIT_CANNOT_RUN 126

/* A call of Wait that waits. */
struct waiter {
	struct list node;
	struct ttrpc_call *call;
};

static void reply_exit(const struct process *p, struct ttrpc_call *call)
{
	PB(WaitResponse) resp = PODVM__AGENT__V1__WAIT_RESPONSE__INIT;

	resp.exit_status = p->exit_status;
	resp.exited_at_ns = p->exited_at_ns;
	resp.oom_killed = p->oom_killed;
	ttrpc_reply(call, &resp.base);
}

static void remove_exec(struct process *p)
{
	struct agent *a = p->container->agent;

	process_free(p);
	a->n_execs--;
}

static void exited(struct process *p, int status)
{
	struct container *c = p->container;

	oom_check(c);
	/* crun's own status for it means nothing to a user. */
	if (status & REAPER_NEVER_RAN)
		status = EXIT_CANNOT_RUN;
	p->state = PROCESS_EXITED;
	p->exit_status = (uint32_t)status;
	p->exited_at_ns = now_ns();
	p->oom_killed = c->oom_kills > p->oom_before;
	events_add(&c->agent->events, PODVM__AGENT__V1__EVENT__TYPE__EXIT, c->id, p->id,
		   p->exit_status);
	log_info("process ended", "container=%s exec=%s status=%d", c->id, p->id, status);
	while (!list_empty(&p->waiters)) {
		struct waiter *w = list_entry(p->waiters.next, struct waiter, node);

		list_remove(&w->node);
		reply_exit(p, w->call);
		free(w);
	}
	if (!*p->id)
		container_init_ended(c);
	if (p->detached)
		remove_exec(p);
}

static void on_ended(struct reaper_entry *entry, int status)
{
	exited(container_of(entry, struct process, entry), status);
}

int process_new(struct container *c, const char *id, struct process **ret)
{
	struct process *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->container = c;
	snprintf(p->id, sizeof(p->id), "%s", id);
	p->state = PROCESS_STARTING;
	p->oom_before = c->oom_kills;
	list_init(&p->entry.node);
	p->entry.ended = on_ended;
	p->entry.program = true;
	list_init(&p->waiters);
	streams_init(&p->io, c->agent->loop);
	list_append(&c->processes, &p->node);
	*ret = p;
	return 0;
}

void process_running(struct process *p, int pid)
{
	int status;

	p->entry.pid = pid;
	p->state = PROCESS_RUNNING;
	if (reaper_watch(&p->container->agent->reaper, &p->entry, &status) > 0)
		exited(p, status);
}

void process_detach(struct process *p)
{
	streams_drop(&p->io);
	p->detached = true;
	if (p->state == PROCESS_EXITED)
		remove_exec(p);
}

void process_free(struct process *p)
{
	while (!list_empty(&p->waiters)) {
		struct waiter *w = list_entry(p->waiters.next, struct waiter, node);

		list_remove(&w->node);
		ttrpc_reply_error(w->call, TTRPC_NOT_FOUND, "the process was removed");
		free(w);
	}
	list_remove(&p->entry.node);
	list_remove(&p->node);
	streams_done(&p->io);
	free(p);
}

HANDLER(serve_wait)
{
	const PB(ProcessRequest) *req = (const void *)msg;
	struct process *p = find_process(data, call, req->container_id, req->exec_id);
	struct waiter *w;

	if (!p)
		return;
	if (p->state == PROCESS_EXITED) {
		reply_exit(p, call);
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		reply_oom(call);
		return;
	}
	w->call = call;
	list_append(&p->waiters, &w->node);
}

HANDLER(serve_signal)
{
	const PB(SignalRequest) *req = (const void *)msg;
	struct process *p = find_process(data, call, req->container_id, req->exec_id);
	int r;

	if (!p)
		return;
	if (req->signal == 0 || req->signal > (uint32_t)SIGRTMAX) {
		ttrpc_reply_error(call, TTRPC_INVALID_ARGUMENT, "%u is no signal", req->signal);
		return;
	}
	if (req->all)
		r = cgroup_signal(p->container->id, (int)req->signal);
	else if (p->state == PROCESS_EXITED)
		r = -ESRCH;
	else
		r = kill(p->entry.pid, (int)req->signal) < 0 ? -errno : 0;
	if (r == 0)
		reply_empty(call);
	else if (r == -ESRCH)
		ttrpc_reply_error(call, TTRPC_NOT_FOUND, "the process has ended");
	else
		ttrpc_reply_error(call, ttrpc_code_from_errno(r), "cannot send the signal");
}

static void remove_connection(struct agent *a, struct ttrpc_call *call, const char *id)
{
	if (connection_remove(a, id) < 0)
		ttrpc_reply_error(call, TTRPC_NOT_FOUND, "no such connection");
	else
		reply_empty(call);
}

HANDLER(serve_remove_process)
{
	const PB(ProcessRequest) *req = (const void *)msg;
	struct agent *a = data;
	struct process *p;

	if (!*req->container_id) {
		remove_connection(a, call, req->exec_id);
		return;
	}
	p = find_process(a, call, req->container_id, req->exec_id);
	if (!p)
		return;
	if (!*p->id) {
		ttrpc_reply_error(call, TTRPC_INVALID_ARGUMENT,
				  "a container's first process goes with the container");
		return;
	}
	if (p->state != PROCESS_EXITED) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "the process is running");
		return;
	}
	remove_exec(p);
	reply_empty(call);
}

/* ---- streams ---- */

HANDLER(serve_read_output)
{
	const PB(ReadOutputRequest) *req = (const void *)msg;
	struct streams *io = find_streams(data, call, req->container_id, req->exec_id);
	uint32_t max;

	if (!io)
		return;
	max = req->max ? req->max : STREAMS_DEFAULT_IO;
	if (req->stream != PODVM__AGENT__V1__READ_OUTPUT_REQUEST__STREAM__STDOUT &&
	    req->stream != PODVM__AGENT__V1__READ_OUTPUT_REQUEST__STREAM__STDERR) {
		ttrpc_reply_error(call, TTRPC_INVALID_ARGUMENT, "no such stream");
		return;
	}
	streams_read(io, call, req->stream == PODVM__AGENT__V1__READ_OUTPUT_REQUEST__STREAM__STDERR,
		     MIN(max, STREAMS_MAX_IO));
}

HANDLER(serve_write_input)
{
	const PB(WriteInputRequest) *req = (const void *)msg;
	struct streams *io = find_streams(data, call, req->container_id, req->exec_id);

	if (!io)
		return;
	if (req->data.len > STREAMS_MAX_IO)
		ttrpc_reply_error(call, TTRPC_INVALID_ARGUMENT, "more than %u bytes at once",
				  STREAMS_MAX_IO);
	else
		streams_write(io, call, req->data.data, req->data.len);
}

HANDLER(serve_close_input)
{
	const PB(ProcessRequest) *req = (const void *)msg;
	struct streams *io = find_streams(data, call, req->container_id, req->exec_id);

	if (!io)
		return;
	streams_close_input(io);
	reply_empty(call);
}

HANDLER(serve_resize_terminal)
{
	const PB(ResizeTerminalRequest) *req = (const void *)msg;
	struct process *p = find_process(data, call, req->container_id, req->exec_id);

	if (!p)
		return;
	if (streams_resize(&p->io, req->columns, req->rows) < 0)
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "the process has no terminal");
	else
		reply_empty(call);
}
