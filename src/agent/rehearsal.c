/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rehearsal.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/child.h"
#include "agent/netlink.h"
#include "agent/network.h"
#include "agent/paths.h"
#include "agent/sandbox.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"

#define CALL_MS ((uint64_t)60000)
#define EXEC_ID "exec"

/**
 * struct rehearsal - One that is under way
 * @call:	To be answered
 * @server, @client: The connection to ourselves
 * @file:	A small file of its container
 * @step:	Whose answer is awaited
 * @why:	The first failure
 * @sequence, @level: What they were before
 */
struct rehearsal {
	struct agent *a;
	struct ttrpc_call *call;
	const PB(PrepareTemplateRequest) * req;
	struct ttrpc_server *server;
	struct ttrpc_client *client;
	char *file;
	size_t step;
	struct err why;
	uint64_t sequence;
	enum log_level level;
};

/* ---- an identity ---- */

#define MAC "02:00:00:00:00:01"

/* A pair of devices, as there is no other one. */
static int add_device(void)
{
	_cleanup_(close_fdp) int fd = nl_open();
	struct ifinfomsg h = { .ifi_family = AF_UNSPEC };
	struct nl_request req;
	uint8_t mac[6];
	size_t nest;

	if (fd < 0 || mac_parse(MAC, mac) < 0)
		return fd < 0 ? fd : -EINVAL;
	nl_start(&req, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &h, sizeof(h));
	nl_attr(&req, IFLA_ADDRESS, mac, sizeof(mac));
	nest = nl_nest(&req, IFLA_LINKINFO);
	nl_attr(&req, IFLA_INFO_KIND, "veth", strlen("veth"));
	nl_nest_end(&req, nest);
	return nl_call(fd, &req, NULL, NULL);
}

/*
 * Worker: in namespaces that go with it, so that nothing is left but a clock that is right and
 * random numbers that have been stirred with themselves.
 */
static int work_identity(void *arg, struct err *e)
{
	PB(ConfigureSandboxRequest) req = PODVM__AGENT__V1__CONFIGURE_SANDBOX_REQUEST__INIT;
	PB(Interface) interface = PODVM__AGENT__V1__INTERFACE__INIT;
	PB(Route) route = PODVM__AGENT__V1__ROUTE__INIT;
	char *addresses[] = { (char *)"192.0.2.2/24", (char *)"2001:db8::2/64" };
	uint8_t entropy[32];
	struct timespec now;
	int r;

	if (unshare(CLONE_NEWNET | CLONE_NEWUTS) < 0)
		return err_errno(e, -errno, "cannot get namespaces");
	r = add_device();
	if (r < 0)
		return err_errno(e, r, "cannot make a network device");
	if (getrandom(entropy, sizeof(entropy), 0) != (ssize_t)sizeof(entropy) ||
	    clock_gettime(CLOCK_REALTIME, &now) < 0)
		return err_errno(e, -errno, "cannot get random numbers or the time");
	interface.name = (char *)"eth0";
	interface.mac = (char *)MAC;
	interface.mtu = 1500;
	interface.addresses = addresses;
	interface.n_addresses = ARRAY_SIZE(addresses);
	route.destination = (char *)"0.0.0.0/0";
	route.gateway = (char *)"192.0.2.1";
	route.device = interface.name;
	req.hostname = (char *)"rehearsal";
	req.entropy.data = entropy;
	req.entropy.len = sizeof(entropy);
	req.realtime_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	req.interfaces = (PB(Interface) *[]){ &interface };
	req.n_interfaces = 1;
	req.routes = (PB(Route) *[]){ &route };
	req.n_routes = 1;
	return sandbox_configure(arg, &req, e);
}

/* ---- what is asked ---- */

union request {
	PB(WriteFileRequest) file;
	PB(ContainerRequest) container;
	PB(ExecRequest) exec;
	PB(ProcessRequest) process;
	PB(WriteInputRequest) input;
	PB(ReadOutputRequest) output;
	PB(SignalRequest) signal;
};

/* One that the container mounts; it goes with the container. */
static const ProtobufCMessage *ask_file(const struct rehearsal *r, union request *m)
{
	static uint8_t text[] = "127.0.0.1 localhost\n";

	podvm__agent__v1__write_file_request__init(&m->file);
	m->file.path = (char *)r->file;
	m->file.data.data = text;
	m->file.data.len = sizeof(text) - 1;
	m->file.mode = 0644;
	m->file.last = true;
	return &m->file.base;
}

static const ProtobufCMessage *ask_create(const struct rehearsal *r, union request *m)
{
	return &r->req->container->base;
}

static const ProtobufCMessage *ask_container(const struct rehearsal *r, union request *m)
{
	podvm__agent__v1__container_request__init(&m->container);
	m->container.container_id = r->req->container->container_id;
	return &m->container.base;
}

static const ProtobufCMessage *ask_exec(const struct rehearsal *r, union request *m)
{
	podvm__agent__v1__exec_request__init(&m->exec);
	m->exec.container_id = r->req->container->container_id;
	m->exec.exec_id = (char *)EXEC_ID;
	m->exec.process = r->req->process;
	m->exec.stdin = true;
	return &m->exec.base;
}

static const ProtobufCMessage *ask_process(const struct rehearsal *r, union request *m)
{
	podvm__agent__v1__process_request__init(&m->process);
	m->process.container_id = r->req->container->container_id;
	m->process.exec_id = (char *)EXEC_ID;
	return &m->process.base;
}

static const ProtobufCMessage *ask_first(const struct rehearsal *r, union request *m)
{
	ask_process(r, m);
	m->process.exec_id = (char *)"";
	return &m->process.base;
}

static const ProtobufCMessage *ask_input(const struct rehearsal *r, union request *m)
{
	static uint8_t line[] = "podvm\n";

	podvm__agent__v1__write_input_request__init(&m->input);
	m->input.container_id = r->req->container->container_id;
	m->input.exec_id = (char *)EXEC_ID;
	m->input.data.data = line;
	m->input.data.len = sizeof(line) - 1;
	return &m->input.base;
}

static const ProtobufCMessage *ask_output(const struct rehearsal *r, union request *m)
{
	podvm__agent__v1__read_output_request__init(&m->output);
	m->output.container_id = r->req->container->container_id;
	m->output.exec_id = (char *)EXEC_ID;
	m->output.stream = PODVM__AGENT__V1__READ_OUTPUT_REQUEST__STREAM__STDOUT;
	return &m->output.base;
}

static const ProtobufCMessage *ask_kill(const struct rehearsal *r, union request *m)
{
	podvm__agent__v1__signal_request__init(&m->signal);
	m->signal.container_id = r->req->container->container_id;
	m->signal.signal = SIGKILL;
	return &m->signal.base;
}

static const struct {
	const char *method;
	const ProtobufCMessage *(*ask)(const struct rehearsal *r, union request *m);
} steps[] = {
	{ "WriteFile", ask_file },
	{ "CreateContainer", ask_create },
	{ "StartContainer", ask_container },
	{ "Exec", ask_exec },
	{ "WriteInput", ask_input },
	{ "ReadOutput", ask_output },
	{ "CloseInput", ask_process },
	{ "Wait", ask_process },
	{ "RemoveProcess", ask_process },
	{ "Signal", ask_kill },
	{ "Wait", ask_first },
	{ "RemoveContainer", ask_container },
};

/* ---- the end ---- */

/* Mount points of ours that are still there, and the directories above them. */
static void remove_points(const PB(CreateContainerRequest) * c)
{
	for (size_t i = c->n_storages; i-- > 0;) {
		_cleanup_(freep) char *path = strdup(c->storages[i]->mount_point);

		while (path && path_below(path, DIR_PODVM) && rmdir(path) == 0)
			*strrchr(path, '/') = '\0';
	}
}

static void forget(struct rehearsal *r)
{
	struct agent *a = r->a;

	remove_points(r->req->container);
	a->events.last = 0;
	a->sequence = r->sequence;
	cgroup_renew_pod();
}

static void rehearsal_free(struct rehearsal *r)
{
	ttrpc_client_free(r->client);
	ttrpc_server_free(r->server);
	free(r->file);
	free(r);
}

static void finish(struct rehearsal *r)
{
	struct agent *a = r->a;
	struct ttrpc_call *call = r->call;
	char text[512];

	log_level(r->level);
	if (r->why.code)
		log_warn("starting a container for practice didn't work", "error=%s",
			 log_quote(text, sizeof(text), r->why.msg));
	forget(r);
	rehearsal_free(r);
	if (a->n_containers > 0 || !list_empty(&a->storage.mounts)) {
		ttrpc_reply_error(call, TTRPC_INTERNAL, "a container for practice is still there");
		return;
	}
	ttrpc_call_restart_ids(call);
	reply_empty(call);
}

/* ---- the calls ---- */

static void on_answer(void *data, const ProtobufCMessage *msg, const struct err *e);

static void begin_step(struct rehearsal *r)
{
	union request m;
	int code = ttrpc_call(r->client, &podvm__agent__v1__agent__descriptor,
			      steps[r->step].method, steps[r->step].ask(r, &m), CALL_MS, on_answer,
			      r, NULL);

	if (code == 0)
		return;
	err_errno(&r->why, code, "cannot call %s", steps[r->step].method);
	finish(r);
}

/* What has failed is removed. A container that could not be made has gone already. */
static void on_answer(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct rehearsal *r = data;
	bool last = r->step == ARRAY_SIZE(steps) - 1;

	if (e && !r->why.code) {
		r->why = *e;
		err_wrap(&r->why, "%s", steps[r->step].method);
	}
	if (last || (e && r->a->n_containers == 0)) {
		finish(r);
		return;
	}
	r->step = e ? ARRAY_SIZE(steps) - 1 : r->step + 1;
	begin_step(r);
}

static int connect_self(struct rehearsal *r, struct err *e)
{
	struct loop *loop = r->a->loop;
	int fds[2];
	int code;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(e, -errno, "cannot make a socket");
	code = ttrpc_server_new(loop, agent_services(r->a), 1, &r->server);
	if (code == 0)
		code = ttrpc_server_add(r->server, fds[0], NULL, NULL);
	else
		close(fds[0]);
	if (code < 0)
		close(fds[1]);
	else
		code = ttrpc_client_new(loop, fds[1], NULL, NULL, &r->client);
	return code < 0 ? err_errno(e, code, "cannot connect to ourselves") : 0;
}

static void on_identity(void *data, const struct err *e)
{
	struct rehearsal *r = data;

	if (e) {
		r->why = *e;
		finish(r);
	} else {
		begin_step(r);
	}
}

void rehearsal_run(struct agent *a, struct ttrpc_call *call)
{
	struct rehearsal *r = calloc(1, sizeof(*r));

	if (!r) {
		reply_oom(call);
		return;
	}
	r->a = a;
	r->call = call;
	r->req = (const void *)ttrpc_call_request(call);
	r->sequence = a->sequence;
	r->level = log_level(LOG_LEVEL_WARN);
	r->file = str_printf(DIR_FILES "/%s/hosts", r->req->container->container_id);
	if (!r->file) {
		err_oom(&r->why);
		finish(r);
	} else if (connect_self(r, &r->why) < 0 ||
		   child_work(&a->reaper, "practising", work_identity, a, CALL_MS, on_identity, r,
			      &r->why) < 0) {
		finish(r);
	}
}
