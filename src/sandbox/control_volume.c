/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/control_volume.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "proto/control.pb-c.h"
#include "sandbox/agent_client.h"

static void on_stat(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	const Podvm__Agent__V1__StatVolumeResponse *from = (const void *)msg;
	Podvm__Control__V1__StatVolumeResponse resp =
		PODVM__CONTROL__V1__STAT_VOLUME_RESPONSE__INIT;
	struct ttrpc_call *call = data;

	if (e) {
		ttrpc_reply_err(call, e);
		return;
	}
	resp.bytes = from->bytes;
	resp.bytes_used = from->bytes_used;
	resp.bytes_available = from->bytes_available;
	resp.inodes = from->inodes;
	resp.inodes_used = from->inodes_used;
	resp.inodes_free = from->inodes_free;
	ttrpc_reply(call, &resp.base);
}

static void refuse(struct ttrpc_call *call, int r)
{
	struct err e = { 0 };

	err_errno(&e, r, "cannot call the guest");
	ttrpc_reply_err(call, &e);
}

void control_volume_stat(struct sandbox *sb, const char *path, struct ttrpc_call *call)
{
	Podvm__Agent__V1__StatVolumeRequest req = PODVM__AGENT__V1__STAT_VOLUME_REQUEST__INIT;
	int r;

	req.path = (char *)path;
	r = agent_call(sandbox_agent(sb), "StatVolume", &req.base, AGENT_TIMEOUT_MS, on_stat, call,
		       NULL);
	if (r < 0)
		refuse(call, r);
}

/* A growth under way. */
struct volume_growth {
	struct sandbox *sb;
	struct ttrpc_call *call;
	struct vmm_disk_addr addr;
	char *path;
	uint64_t size;
};

static void growth_end(struct volume_growth *g, const struct err *e)
{
	Podvm__Control__V1__GrowVolumeResponse resp =
		PODVM__CONTROL__V1__GROW_VOLUME_RESPONSE__INIT;

	if (e)
		ttrpc_reply_err(g->call, e);
	else
		ttrpc_reply(g->call, &resp.base);
	free(g->path);
	free(g);
}

static void on_guest(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	growth_end(data, e);
}

static void on_machine(void *data, const struct err *e)
{
	Podvm__Agent__V1__GrowVolumeRequest req = PODVM__AGENT__V1__GROW_VOLUME_REQUEST__INIT;
	struct volume_growth *g = data;
	struct err err = { 0 };
	int r;

	if (e) {
		growth_end(g, e);
		return;
	}
	req.lun = (uint32_t)strtoul(g->addr.source, NULL, 10);
	req.size = g->size;
	req.path = g->path;
	r = agent_call(sandbox_agent(g->sb), "GrowVolume", &req.base, AGENT_TIMEOUT_MS, on_guest, g,
		       NULL);
	if (r < 0) {
		err_errno(&err, r, "cannot call the guest");
		growth_end(g, &err);
	}
}

void control_volume_grow(struct sandbox *sb, const struct vmm_disk_addr *addr, const char *path,
			 uint64_t size, struct ttrpc_call *call)
{
	struct volume_growth *g = calloc(1, sizeof(*g));
	struct err e = { 0 };

	if (g)
		*g = (struct volume_growth){ .sb = sb, .call = call, .addr = *addr, .size = size };
	if (!g || str_set(&g->path, path) < 0) {
		free(g);
		refuse(call, -ENOMEM);
		return;
	}
	if (vmm_grow_disk(sandbox_vmm(sb), addr, size, on_machine, g, &e) < 0)
		growth_end(g, &e);
}
