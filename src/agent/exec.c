/* SPDX-License-Identifier: Apache-2.0 */
/* Exec: one more process in a running container. */
#include <stdio.h>
#include <stdlib.h>

#include "agent/container.h"
#include "agent/crun.h"
#include "agent/service.h"

/* A call of Exec that is under way. */
struct exec {
	struct process *process;
	struct ttrpc_call *call;
	bool detached;
};

static void exec_finished(void *data, const struct err *e)
{
	struct exec *op = data;
	struct container *c = op->process->container;
	PB(ExecResponse) resp = PODVM__AGENT__V1__EXEC_RESPONSE__INIT;

	c->execs--;
	if (e) {
		process_free(op->process);
		c->agent->n_execs--;
		ttrpc_reply_err(op->call, e);
	} else {
		resp.pid = (uint32_t)op->process->entry.pid;
		ttrpc_reply(op->call, &resp.base);
		if (op->detached)
			process_detach(op->process);
	}
	free(op);
}

static bool may_exec(struct container *c, struct ttrpc_call *call, const PB(ExecRequest) * req)
{
	const char *problem = NULL;
	enum ttrpc_code code = TTRPC_FAILED_PRECONDITION;

	if (!id_valid(req->exec_id)) {
		code = TTRPC_INVALID_ARGUMENT;
		problem = "invalid exec id";
	} else if (req->process.len == 0 || req->process.len > SPEC_MAX) {
		code = TTRPC_INVALID_ARGUMENT;
		problem = "invalid size of the process specification";
	} else if (container_process(c, req->exec_id)) {
		code = TTRPC_ALREADY_EXISTS;
		problem = "this exec id is in use";
	} else if (c->agent->n_execs >= EXECS_MAX) {
		code = TTRPC_RESOURCE_EXHAUSTED;
		problem = "there are too many processes";
	} else if (c->busy || c->state != CONTAINER_RUNNING) {
		problem = "the container is not running";
	} else if (c->paused) {
		problem = "the container is paused";
	}
	if (problem)
		ttrpc_reply_error(call, code, "%s", problem);
	return !problem;
}

static int start(struct exec *op, const PB(ExecRequest) * req, struct err *e)
{
	struct process *p = op->process;
	struct crun_job job = {
		.process = p,
		.spec = req->process.data,
		.spec_len = req->process.len,
		.columns = req->columns,
		.rows = req->rows,
		.timeout_ms = call_timeout(op->call),
		.done = exec_finished,
		.data = op,
	};
	char name[32];
	int r;

	snprintf(name, sizeof(name), "console-%llu",
		 (unsigned long long)++p->container->agent->sequence);
	r = streams_open(&p->io, req->terminal, req->stdin, name, e);
	return r < 0 ? r : crun_start(&job, e);
}

HANDLER(serve_exec)
{
	const PB(ExecRequest) *req = (const void *)msg;
	struct container *c = find_container(data, call, req->container_id);
	struct exec *op;
	struct err e = { 0 };

	if (!c || !may_exec(c, call, req))
		return;
	op = calloc(1, sizeof(*op));
	if (!op || process_new(c, req->exec_id, &op->process) < 0) {
		free(op);
		reply_oom(call);
		return;
	}
	op->call = call;
	op->detached = req->detached;
	c->agent->n_execs++;
	c->execs++;
	if (start(op, req, &e) < 0)
		exec_finished(op, &e);
}
