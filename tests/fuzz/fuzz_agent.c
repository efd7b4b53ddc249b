/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls as the agent gets them. The first byte of the input chooses the method, the second one
 * the state of a container called "c"; the rest is the packed request. It's unpacked and served by
 * the real handlers, with these seams: answers only check that there is exactly one, children
 * (workers and crun) aren't started but succeed or fail afterwards as the second byte says.
 * Methods that would change this machine are only checked as far as they check their request.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/child.h"
#include "agent/container.h"
#include "agent/mount.h"
#include "agent/network.h"
#include "agent/rehearsal.h"
#include "agent/service.h"
#include "agent/sysctl.h"
#include "base/cleanup.h"
#include "base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* More than any kernel hands out, so that nobody is signalled. */
#define NO_PID 0x3fffffff

/* Bits of the second byte. */
enum { BIT_FAIL = 1, BIT_PAUSED = 2, BIT_STOPPED = 4, BIT_CREATED = 8, BIT_STREAMS = 16 };

struct ttrpc_call {
	ProtobufCMessage *req;
	bool answered;
};

/* Children that would have been started, and how many of them have ended. */
static struct {
	child_done done;
	void *data;
} children[16];
static size_t n_started;
static size_t n_ended;

/* ---- seams ---- */

static void answered(struct ttrpc_call *call)
{
	if (call->answered)
		abort();
	call->answered = true;
	/* As the server does it: who still looks at the request is caught. */
	protobuf_c_message_free_unpacked(call->req, NULL);
	call->req = NULL;
}

void ttrpc_reply(struct ttrpc_call *call, const ProtobufCMessage *resp)
{
	size_t size = protobuf_c_message_get_packed_size(resp);
	uint8_t *packed = malloc(size + 1);

	if (packed && protobuf_c_message_pack(resp, packed) != size)
		abort();
	free(packed);
	answered(call);
}

void ttrpc_reply_error(struct ttrpc_call *call, enum ttrpc_code code, const char *fmt, ...)
{
	if (code == TTRPC_OK)
		abort();
	answered(call);
}

void ttrpc_reply_err(struct ttrpc_call *call, const struct err *e)
{
	if (e->code >= 0 || memchr(e->msg, '\0', sizeof(e->msg)) == NULL)
		abort();
	answered(call);
}

void ttrpc_call_restart_ids(struct ttrpc_call *call)
{
}

uint64_t ttrpc_call_timeout_ms(const struct ttrpc_call *call)
{
	return 0;
}

static int add_child(child_done done, void *data)
{
	if (n_started == ARRAY_SIZE(children))
		abort();
	children[n_started].done = done;
	children[n_started++].data = data;
	return 0;
}

int child_run(struct reaper *r, const struct spawn *s, uint64_t timeout_ms, child_done done,
	      void *data, struct err *e)
{
	return add_child(done, data);
}

int child_work(struct reaper *r, const char *name, int (*fn)(void *arg, struct err *e), void *arg,
	       uint64_t timeout_ms, child_done done, void *data, struct err *e)
{
	return add_child(done, data);
}

/* Its calls are the others, and go through a server. */
void rehearsal_run(struct agent *a, struct ttrpc_call *call)
{
	reply_empty(call);
}

static void finish_children(bool fail)
{
	struct err e = { .code = -ETIMEDOUT, .msg = "it did not end" };

	/* One may lead to the next. */
	for (; n_ended < n_started; n_ended++)
		children[n_ended].done(children[n_ended].data, fail ? &e : NULL);
	n_started = n_ended = 0;
}

/* ---- the agent ---- */

static void add_container(struct agent *a, uint8_t bits)
{
	struct container *c = calloc(1, sizeof(*c));
	struct err e = { 0 };
	struct process *p;

	if (!c)
		abort();
	c->agent = a;
	memcpy(c->id, "c", 2);
	c->state = bits & BIT_STOPPED	? CONTAINER_STOPPED
		   : bits & BIT_CREATED ? CONTAINER_CREATED
					: CONTAINER_RUNNING;
	c->paused = bits & BIT_PAUSED;
	c->oom_watch = -EBADF;
	list_init(&c->processes);
	list_append(&a->containers, &c->node);
	a->n_containers++;
	if (process_new(c, "", &p) < 0)
		abort();
	if (bits & BIT_STREAMS && streams_open(&p->io, false, true, "x", &e) == 0)
		(void)!write(p->io.child[1], "some output", 11);
	p->entry.pid = NO_PID;
	p->state = bits & BIT_STOPPED ? PROCESS_EXITED : PROCESS_RUNNING;
}

/* ---- what is only checked ---- */

static void check_configure(const ProtobufCMessage *msg)
{
	const PB(ConfigureSandboxRequest) *req = (const void *)msg;
	struct nl_request nl;
	char path[256];
	uint8_t mac[6];

	for (size_t i = 0; i < req->n_sysctls; i++)
		(void)sysctl_path(req->sysctls[i]->name, path, sizeof(path));
	for (size_t i = 0; i < req->n_interfaces; i++) {
		(void)mac_parse(req->interfaces[i]->mac, mac);
		for (size_t k = 0; k < req->interfaces[i]->n_addresses; k++)
			(void)network_build_address(&nl, 1, req->interfaces[i]->addresses[k],
						    req->interfaces[i]->no_prefix_routes);
	}
	for (size_t i = 0; i < req->n_routes; i++)
		(void)network_build_route(&nl, 1, req->routes[i]);
}

static void check_create(const ProtobufCMessage *msg)
{
	const PB(CreateContainerRequest) *req = (const void *)msg;

	(void)id_valid(req->container_id);
	for (size_t i = 0; i < req->n_storages; i++) {
		struct mount_options o = { 0 };
		struct err e = { 0 };

		if (storage_check(req->storages[i], &e) < 0 && !*e.msg)
			abort();
		(void)mount_options_parse(&o, req->storages[i]->options,
					  req->storages[i]->n_options);
		mount_options_done(&o);
	}
}

static void check_write_file(const ProtobufCMessage *msg)
{
	const PB(WriteFileRequest) *req = (const void *)msg;
	const char *rel = path_below(req->path, DIR_PODVM);

	if (rel && (strstr(rel, "//") || *rel == '/' || strncmp(rel, "../", 3) == 0))
		abort();
}

static void check_nothing(const ProtobufCMessage *msg)
{
}

static const struct {
	const char *method;
	void (*check)(const ProtobufCMessage *msg);
} only_checked[] = {
	{ "ConfigureSandbox", check_configure },
	{ "WriteFile", check_write_file },
	{ "Shutdown", check_nothing },
	{ "UpdateVolume", check_nothing }, /* see fuzz_agent_volume.c */
	{ "ReadVolume", check_nothing },
};

static bool only_check(const char *method, const ProtobufCMessage *msg)
{
	for (size_t i = 0; i < ARRAY_SIZE(only_checked); i++) {
		if (strcmp(method, only_checked[i].method) == 0) {
			only_checked[i].check(msg);
			return true;
		}
	}
	return false;
}

static void serve(const struct ttrpc_service *service, unsigned int method, uint8_t bits,
		  ProtobufCMessage *msg)
{
	static struct agent agent;
	struct ttrpc_call call = { .req = msg };
	struct loop *loop = NULL;

	log_init(-1, LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
	memset(&agent, 0, sizeof(agent));
	if (loop_new(&loop) < 0 || agent_init(&agent, loop) < 0)
		abort();
	add_container(&agent, bits);
	if (strcmp(service->desc->methods[method].name, "CreateContainer") == 0)
		check_create(msg);
	service->handlers[method](&call, msg, &agent);
	finish_children(bits & BIT_FAIL);
	/* Who waits is answered when what it waits for goes, or never: events. */
	agent_done(&agent);
	finish_children(true);
	loop_free(loop);
	if (!call.answered && strcmp(service->desc->methods[method].name, "NextEvents") != 0)
		abort();
	if (!call.answered)
		protobuf_c_message_free_unpacked(msg, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct ttrpc_service *service = agent_services(NULL);
	const ProtobufCMethodDescriptor *method;
	ProtobufCMessage *msg;

	if (size < 2)
		return 0;
	method = &service->desc->methods[data[0] % service->desc->n_methods];
	msg = protobuf_c_message_unpack(method->input, NULL, size - 2, data + 2);
	if (!msg)
		return 0;
	if (only_check(method->name, msg))
		protobuf_c_message_free_unpacked(msg, NULL);
	else
		serve(service, data[0] % service->desc->n_methods, data[1], msg);
	return 0;
}
