/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/service.h"

#include <errno.h>

#include "agent/connection.h"
#include "agent/container.h"
#include "agent/resize.h"
#include "agent/socket.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"

/*
 * The host's deadline runs a little earlier than ours would: it counts from the sending. A busy
 * host takes its time, so there's a tenth more.
 */
#define MARGIN_MS 100

/* In the order of the methods in agent.proto. */
static const ttrpc_handler handlers[] = {
	serve_hello,
	serve_configure_sandbox,
	serve_write_file,
	serve_next_events,
	serve_get_log,
	serve_get_metrics,
	serve_shutdown,
	serve_create_container,
	serve_start_container,
	serve_pause_container,
	serve_resume_container,
	serve_update_container,
	serve_stats_container,
	serve_list_processes,
	serve_remove_container,
	serve_read_file,
	serve_exec,
	serve_signal,
	serve_wait,
	serve_remove_process,
	serve_read_output,
	serve_write_input,
	serve_close_input,
	serve_resize_terminal,
	serve_connect,
	serve_update_volume,
	serve_read_volume,
	serve_lookup_devices,
	serve_resize,
	serve_prepare_template,
	serve_stat_volume,
	serve_grow_volume,
	serve_accept,
	serve_forget_files,
};

static struct ttrpc_service service = {
	.desc = &podvm__agent__v1__agent__descriptor,
	.handlers = handlers,
};

const struct ttrpc_service *agent_services(struct agent *a)
{
	service.data = a;
	return &service;
}

int agent_init(struct agent *a, struct loop *loop)
{
	int r;

	if (service.desc->n_methods != ARRAY_SIZE(handlers))
		return -EPROTO;
	a->loop = loop;
	list_init(&a->containers);
	list_init(&a->connections);
	sockets_init(&a->sockets, a);
	r = reaper_init(&a->reaper, loop);
	if (r == 0)
		r = oom_init(&a->oom, a);
	storage_init(&a->storage, &a->reaper);
	return r;
}

void agent_done(struct agent *a)
{
	resize_done(a);
	sockets_done(&a->sockets);
	connections_done(a);
	while (!list_empty(&a->containers))
		container_free(list_entry(a->containers.next, struct container, node));
	storage_free(&a->storage);
	oom_done(&a->oom);
	reaper_done(&a->reaper);
}

void reply_empty(struct ttrpc_call *call)
{
	PB(Empty) resp = PODVM__AGENT__V1__EMPTY__INIT;

	ttrpc_reply(call, &resp.base);
}

void reply_oom(struct ttrpc_call *call)
{
	ttrpc_reply_error(call, TTRPC_RESOURCE_EXHAUSTED, "the agent is out of memory");
}

uint64_t call_timeout(const struct ttrpc_call *call)
{
	uint64_t ms = ttrpc_call_timeout_ms(call);

	if (ms == 0)
		return CALL_TIMEOUT_MS;
	return ms > 2 * MARGIN_MS ? ms - MARGIN_MS - ms / 10 : ms / 2 + 1;
}

void error_internal(struct err *e)
{
	if (e &&
	    (e->code == -ENOENT || e->code == -ESRCH || e->code == -EACCES || e->code == -EPERM))
		e->code = -EIO;
}

struct container *find_container(struct agent *a, struct ttrpc_call *call, const char *id)
{
	struct container *c = container_find(a, id);

	if (!c) {
		ttrpc_reply_error(call, TTRPC_NOT_FOUND, "no such container");
		return NULL;
	}
	if (c->state == CONTAINER_CREATING) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "container %s is being created",
				  c->id);
		return NULL;
	}
	return c;
}

struct process *find_process(struct agent *a, struct ttrpc_call *call, const char *container_id,
			     const char *exec_id)
{
	struct container *c = find_container(a, call, container_id);
	struct process *p = c ? container_process(c, exec_id) : NULL;

	if (!c)
		return NULL;
	if (!p) {
		ttrpc_reply_error(call, TTRPC_NOT_FOUND, "no such process");
		return NULL;
	}
	if (p->state == PROCESS_STARTING) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "the process is being started");
		return NULL;
	}
	return p;
}

struct streams *find_streams(struct agent *a, struct ttrpc_call *call, const char *container_id,
			     const char *exec_id)
{
	struct process *p;
	struct streams *io;

	if (*container_id) {
		p = find_process(a, call, container_id, exec_id);
		return p ? &p->io : NULL;
	}
	io = connection_streams(a, exec_id);
	if (!io)
		ttrpc_reply_error(call, TTRPC_NOT_FOUND, "no such connection");
	return io;
}
