/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/control.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/str.h"
#include "proto/control.pb-c.h"
#include "sandbox/agent_client.h"
#include "sandbox/control_volume.h"
#include "sandbox/sandbox-internal.h"

#define SOCKET_NAME   "control.sock"
#define AGENT_METHODS 64

struct control {
	struct sandbox *sb;
	void (*stop)(void *data, unsigned int timeout_ms);
	void *data;
	control_find_volume find;
	void *find_data;
	struct ttrpc_server *server;
	struct ttrpc_service services[2];
	ttrpc_handler control_handlers[3];
	ttrpc_handler agent_handlers[AGENT_METHODS];
	struct list stops;    /* struct stop */
	struct list forwards; /* struct forward */
};

struct stop {
	struct list node;
	struct ttrpc_call *call;
};

/* A call that was forwarded and whose answer is awaited. */
struct forward {
	struct list node;
	struct control *control;
	struct ttrpc_call *call; /* NULL: who waited for an exec has gone, and it was killed */
	struct ttrpc_pending *pending;
	bool timed;
	char *container_id; /* of a Wait for an exec: killed when who waits has gone */
	char *exec_id;
};

/* What other commands may ask of the guest. */
static const char *const forwarded[] = {
	"GetLog",	   "GetMetrics",     "PauseContainer", "ResumeContainer",
	"UpdateContainer", "StatsContainer", "ListProcesses",  "Exec",
	"Signal",	   "Wait",	     "RemoveProcess",  "ReadOutput",
	"WriteInput",	   "CloseInput",     "ResizeTerminal", "ReadFile",
};

static void forward_free(struct forward *f)
{
	list_remove(&f->node);
	free(f->container_id);
	free(f->exec_id);
	free(f);
}

/* What is left of a killed exec, which can be removed only now that it has ended. */
static void remove_exec(const struct forward *f)
{
	Podvm__Agent__V1__ProcessRequest req = PODVM__AGENT__V1__PROCESS_REQUEST__INIT;

	req.container_id = f->container_id;
	req.exec_id = f->exec_id;
	(void)agent_call(f->control->sb->agent, "RemoveProcess", &req.base, AGENT_TIMEOUT_MS,
			 agent_ignore, NULL, NULL);
}

static void on_answer(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct forward *f = data;

	if (!f->call) {
		if (f->exec_id)
			remove_exec(f);
	} else {
		ttrpc_call_on_cancel(f->call, NULL, NULL);
		if (e)
			ttrpc_reply_err(f->call, e);
		else
			ttrpc_reply(f->call, msg);
	}
	forward_free(f);
}

/* Who ran the exec has gone (killed, or its terminal closed): nobody will read its output. */
static int kill_exec(const struct forward *f)
{
	Podvm__Agent__V1__SignalRequest req = PODVM__AGENT__V1__SIGNAL_REQUEST__INIT;

	req.container_id = f->container_id;
	req.exec_id = f->exec_id;
	req.signal = SIGKILL;
	return agent_call(f->control->sb->agent, "Signal", &req.base, AGENT_TIMEOUT_MS,
			  agent_ignore, NULL, NULL);
}

static void on_cancel(void *data)
{
	struct forward *f = data;

	ttrpc_reply_error(TAKE_PTR(f->call), TTRPC_CANCELED, "the caller has gone");
	/* The answer to its Wait is still awaited. */
	if (f->exec_id && kill_exec(f) == 0)
		return;
	/* A call with a deadline still tells whether the guest answers at all (alive.c). */
	if (f->timed)
		return;
	ttrpc_cancel(f->pending);
	forward_free(f);
}

/* Remember whose end a Wait is for. */
static int note_exec(struct forward *f, const ProtobufCMessage *req)
{
	const Podvm__Agent__V1__ProcessRequest *p = (const void *)req;

	if (!str_eq(ttrpc_call_method(f->call)->name, "Wait") || !*p->exec_id)
		return 0;
	if (str_set(&f->container_id, p->container_id) < 0)
		return -ENOMEM;
	return str_set(&f->exec_id, p->exec_id);
}

static void forward(struct ttrpc_call *call, const ProtobufCMessage *req, void *data)
{
	struct control *c = data;
	struct forward *f = calloc(1, sizeof(*f));
	int r;

	if (!f) {
		ttrpc_reply_error(call, TTRPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	f->control = c;
	f->call = call;
	f->timed = ttrpc_call_timeout_ms(call) > 0;
	list_append(&c->forwards, &f->node);
	r = note_exec(f, req);
	if (r == 0 && !c->sb->agent)
		r = -ENOTCONN;
	if (r == 0)
		r = agent_call(c->sb->agent, ttrpc_call_method(call)->name, req,
			       ttrpc_call_timeout_ms(call), on_answer, f, &f->pending);
	if (r < 0) {
		ttrpc_reply_error(call, ttrpc_code_from_errno(r), "the guest isn't running: %s",
				  strerror(-r));
		forward_free(f);
		return;
	}
	ttrpc_call_on_cancel(call, on_cancel, f);
}

static void on_stop(struct ttrpc_call *call, const ProtobufCMessage *req, void *data)
{
	const Podvm__Control__V1__StopRequest *stop_req = (const void *)req;
	struct control *c = data;
	struct stop *s;

	if (!c->stop) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "containerd owns this pod");
		return;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		ttrpc_reply_error(call, TTRPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	s->call = call;
	list_append(&c->stops, &s->node);
	c->stop(c->data, stop_req->timeout_ms);
}

/* Return: The disk that a directory of the host is in the machine, NULL: @call has been answered */
static const struct vmm_disk_addr *find_volume(const struct control *c, const char *source,
					       const char **path, struct ttrpc_call *call)
{
	const struct vmm_disk_addr *addr = NULL;

	if (c->find && c->sb->agent)
		addr = c->find(c->find_data, source, path);
	if (!addr)
		ttrpc_reply_error(call, TTRPC_NOT_FOUND, "the pod has no such volume");
	return addr;
}

static void on_stat_volume(struct ttrpc_call *call, const ProtobufCMessage *req, void *data)
{
	const Podvm__Control__V1__StatVolumeRequest *stat_req = (const void *)req;
	struct control *c = data;
	const char *path;

	if (find_volume(c, stat_req->source, &path, call))
		control_volume_stat(c->sb, path, call);
}

static void on_grow_volume(struct ttrpc_call *call, const ProtobufCMessage *req, void *data)
{
	const Podvm__Control__V1__GrowVolumeRequest *grow_req = (const void *)req;
	struct control *c = data;
	const char *path;
	const struct vmm_disk_addr *addr = find_volume(c, grow_req->source, &path, call);

	if (addr)
		control_volume_grow(c->sb, addr, path, grow_req->size, call);
}

static int listen_socket(const struct rundir *rd, struct err *e)
{
	_cleanup_(close_fdp) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
					     0);
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int n;

	if (fd < 0)
		return err_errno(e, -errno, "cannot make the control socket");
	n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/" SOCKET_NAME, rd->path);
	if (n < 0 || (size_t)n >= sizeof(addr.sun_path))
		return err_set(e, -ENAMETOOLONG, "the path of the run directory is too long: %s",
			       rd->path);
	/* The directory is ours alone (0700), so there's no moment in which others could connect. */
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 64) < 0)
		return err_errno(e, -errno, "cannot make %s", addr.sun_path);
	return TAKE_FD(fd);
}

static void set_services(struct control *c)
{
	const ProtobufCServiceDescriptor *agent = &podvm__agent__v1__agent__descriptor;

	assert(agent->n_methods <= AGENT_METHODS);
	for (unsigned int i = 0; i < agent->n_methods; i++)
		for (size_t j = 0; j < ARRAY_SIZE(forwarded); j++)
			if (str_eq(agent->methods[i].name, forwarded[j]))
				c->agent_handlers[i] = forward;
	c->control_handlers[0] = on_stop;
	c->control_handlers[1] = on_stat_volume;
	c->control_handlers[2] = on_grow_volume;
	c->services[0] = (struct ttrpc_service){
		.desc = &podvm__control__v1__control__descriptor,
		.handlers = c->control_handlers,
		.data = c,
	};
	c->services[1] = (struct ttrpc_service){
		.desc = agent,
		.handlers = c->agent_handlers,
		.data = c,
	};
}

int control_new(struct sandbox *sb, void (*stop)(void *data, unsigned int timeout_ms), void *data,
		struct control **ret, struct err *e)
{
	struct control *c = calloc(1, sizeof(*c));
	int fd;
	int r;

	if (!c)
		return err_oom(e);
	c->sb = sb;
	c->stop = stop;
	c->data = data;
	list_init(&c->stops);
	list_init(&c->forwards);
	set_services(c);
	r = ttrpc_server_new(sb->loop, c->services, ARRAY_SIZE(c->services), &c->server);
	if (r == 0) {
		fd = listen_socket(sb->config->rundir, e);
		r = fd < 0 ? fd : ttrpc_server_listen(c->server, fd);
	}
	if (r < 0) {
		control_free(c);
		return e->code ? r : err_errno(e, r, "cannot serve the control socket");
	}
	*ret = c;
	return 0;
}

void control_volumes(struct control *c, control_find_volume find, void *data)
{
	c->find = find;
	c->find_data = data;
}

void control_stopped(struct control *c, unsigned int exit_status)
{
	Podvm__Control__V1__StopResponse resp = PODVM__CONTROL__V1__STOP_RESPONSE__INIT;
	struct stop *s;
	struct stop *tmp;

	resp.exit_status = exit_status;
	list_for_each_safe (s, tmp, &c->stops, node) {
		list_remove(&s->node);
		ttrpc_reply(s->call, &resp.base);
		free(s);
	}
}

void control_free(struct control *c)
{
	struct stop *s;
	struct stop *stmp;
	struct forward *f;
	struct forward *ftmp;

	if (!c)
		return;
	list_for_each_safe (s, stmp, &c->stops, node) {
		list_remove(&s->node);
		ttrpc_reply_error(s->call, TTRPC_UNAVAILABLE, "the sandbox has ended");
		free(s);
	}
	list_for_each_safe (f, ftmp, &c->forwards, node) {
		ttrpc_cancel(f->pending);
		if (f->call) {
			ttrpc_call_on_cancel(f->call, NULL, NULL);
			ttrpc_reply_error(f->call, TTRPC_UNAVAILABLE, "the sandbox has ended");
		}
		forward_free(f);
	}
	ttrpc_server_free(c->server);
	(void)unlinkat(c->sb->config->rundir->fd, SOCKET_NAME, 0);
	free(c);
}

int control_connect(struct loop *loop, const struct rundir *rd, void (*closed)(void *data),
		    void *data, struct ttrpc_client **ret, struct err *e)
{
	_cleanup_(close_fdp) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int r;

	if (fd < 0)
		return err_errno(e, -errno, "cannot make a socket");
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/" SOCKET_NAME, rd->path);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		r = -errno;
		if (r != -ENOENT && r != -ECONNREFUSED)
			return err_errno(e, r, "cannot connect to %s", addr.sun_path);
		err_set(e, -ENOTCONN, "sandbox %.12s isn't running", rd->id);
		err_hint(e, "'podvm ps -a' shows how it is");
		return -ENOTCONN;
	}
	r = ttrpc_client_new(loop, TAKE_FD(fd), closed, data, ret);
	return r < 0 ? err_errno(e, r, "cannot use the control socket") : 0;
}
