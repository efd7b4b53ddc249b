/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Update: the machine grows first, as far as it can, then the limits change in the guest. Those of
 * the sandbox are the machine's size.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "sandbox/agent_client.h"
#include "shim/size.h"
#include "shim/task.h"

/**
 * struct update - A call that is under way
 * @id:		Of the task, which may go meanwhile
 * @text:	Resources for the agent
 */
struct update {
	struct shim *shim;
	struct ttrpc_call *call;
	char *id;
	char *text;
	struct size_fit *fit;
};

static void update_free(struct update *u)
{
	free(u->id);
	free(u->text);
	free(u);
}

DEFINE_CLEANUP(update_freep, struct update *, update_free)

static void on_updated(void *data, const ProtobufCMessage *resp, const struct err *e)
{
	struct ttrpc_call *call = data;

	if (e)
		ttrpc_reply_err(call, e);
	else
		service_reply_empty(call);
}

static void set_limits(struct update *u)
{
	Podvm__Agent__V1__UpdateContainerRequest req =
		PODVM__AGENT__V1__UPDATE_CONTAINER_REQUEST__INIT;
	const struct task *t = task_find(u->shim, u->id);
	int r;

	if (!t || !pod_running(&u->shim->pod)) {
		ttrpc_reply_error(u->call, TTRPC_NOT_FOUND, "the container has ended");
		return;
	}
	if (t->sandbox) {
		service_reply_empty(u->call);
		return;
	}
	req.container_id = u->id;
	req.resources.data = (uint8_t *)u->text;
	req.resources.len = strlen(u->text);
	r = agent_call(sandbox_agent(u->shim->pod.sandbox), "UpdateContainer", &req.base,
		       AGENT_TIMEOUT_MS, on_updated, u->call, NULL);
	if (r < 0)
		ttrpc_reply_error(u->call, ttrpc_code_from_errno(r), "cannot call the guest");
}

static void on_fit(void *data)
{
	struct update *u = data;

	set_limits(u);
	update_free(u);
}

static int parse(const Containerd__Task__V2__UpdateTaskRequest *req, struct task *t, char **ret,
		 struct err *e)
{
	_cleanup_(json_putp) struct json_object *resources = NULL;
	int r;

	if (!req->resources)
		return err_set(e, -EINVAL, "there are no resources in the request");
	r = json_parse((const char *)req->resources->value.data, req->resources->value.len,
		       "resources", &resources, e);
	if (r < 0)
		return r;
	spec_clean_resources(resources);
	r = json_text(resources, "resources", ret, e);
	if (r == 0)
		size_limits_update(&t->limits, resources);
	return r;
}

void task_update(struct task *t, struct ttrpc_call *call,
		 const Containerd__Task__V2__UpdateTaskRequest *req)
{
	_cleanup_(update_freep) struct update *u = calloc(1, sizeof(*u));
	struct err e = { 0 };

	if (!u || str_set(&u->id, t->id) < 0) {
		ttrpc_reply_error(call, TTRPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	u->shim = t->shim;
	u->call = call;
	if (parse(req, t, &u->text, &e) < 0) {
		ttrpc_reply_err(call, &e);
		return;
	}
	if (size_fit(u->shim, on_fit, u, &u->fit) == 0)
		set_limits(u);
	else
		u = NULL;
}
