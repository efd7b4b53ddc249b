/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/growth.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "sandbox/agent_client.h"
#include "sandbox/sandbox-internal.h"

/* For the guest to find what was plugged. */
#define ONLINE_TIMEOUT_MS 10000

/**
 * struct growth - A wish
 * @node:	In the sandbox's list; the first one is being fulfilled
 * @e:		What the monitor could not do
 */
struct growth {
	struct list node;
	struct sandbox *sb;
	unsigned int vcpus;
	uint64_t memory;
	sandbox_done done;
	void *data;
	struct err e;
};

static int begin(struct growth *g, struct err *e);

static bool is_met(const struct growth *g)
{
	unsigned int vcpus;
	uint64_t memory;

	vmm_size(g->sb->vmm, &vcpus, &memory);
	return vcpus >= g->vcpus && memory >= g->memory;
}

static void end(struct growth *g, const struct err *e)
{
	struct err copy = e ? *e : (struct err){ 0 };
	sandbox_done done = g->done;
	void *data = g->data;

	list_remove(&g->node);
	free(g);
	if (done)
		done(data, e ? &copy : NULL);
}

/* This one is over; the next is its turn, and those that are fulfilled by now. */
static void finish(struct growth *g, const struct err *e)
{
	struct sandbox *sb = g->sb;

	end(g, e);
	while (!list_empty(&sb->growths)) {
		struct err err = { 0 };

		g = list_entry(sb->growths.next, struct growth, node);
		if (sb->vmm && is_met(g))
			end(g, NULL);
		else if (begin(g, &err) == 0)
			return;
		else
			end(g, &err);
	}
}

static void on_told(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	const Podvm__Agent__V1__ResizeResponse *resp = (const void *)msg;
	struct growth *g = data;

	if (resp)
		log_info("the machine has grown", "sandbox=%s cpus=%u memory=%llu",
			 g->sb->config->rundir->id, resp->cpus,
			 (unsigned long long)resp->memory_total);
	finish(g, g->e.code ? &g->e : e);
}

/* Also after a failure: some of it may be there. */
static void on_plugged(void *data, const struct err *e)
{
	Podvm__Agent__V1__ResizeRequest req = PODVM__AGENT__V1__RESIZE_REQUEST__INIT;
	struct growth *g = data;
	struct sandbox *sb = g->sb;
	uint64_t memory;
	int r;

	if (e)
		g->e = *e;
	if (!sb->vmm || !sb->agent) {
		finish(g, e);
		return;
	}
	vmm_size(sb->vmm, &req.cpus, &memory);
	req.memory_total = sb->guest_memory + (memory - sb->config->memory);
	r = agent_call(sb->agent, "Resize", &req.base, ONLINE_TIMEOUT_MS, on_told, g, NULL);
	if (r < 0) {
		err_errno(&g->e, r, "cannot call the agent");
		finish(g, &g->e);
	}
}

static int begin(struct growth *g, struct err *e)
{
	if (!g->sb->vmm || !g->sb->agent)
		return err_set(e, -ENOTCONN, "the machine doesn't run");
	return vmm_resize(g->sb->vmm, g->vcpus, g->memory, on_plugged, g, e);
}

int sandbox_grow(struct sandbox *sb, unsigned int vcpus, uint64_t memory, sandbox_done done,
		 void *data, struct growth **ret, struct err *e)
{
	struct growth *g = calloc(1, sizeof(*g));
	bool first = list_empty(&sb->growths);
	int r = 0;

	if (!g)
		return err_oom(e);
	*g = (struct growth){ .sb = sb, .vcpus = vcpus, .memory = memory };
	g->done = done;
	g->data = data;
	list_append(&sb->growths, &g->node);
	if (first && sb->vmm && is_met(g))
		r = 0;
	else if (!first || (r = begin(g, e)) == 0)
		r = STAGE_PENDING;
	if (r == STAGE_PENDING) {
		*ret = g;
		return r;
	}
	list_remove(&g->node);
	free(g);
	return r;
}

void growth_cancel(struct growth *g)
{
	if (g)
		g->done = NULL;
}
