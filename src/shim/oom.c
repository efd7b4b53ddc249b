/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/oom.h"

#include "base/log.h"
#include "sandbox/agent_client.h"
#include "shim/task.h"

static void on_events(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	const Podvm__Agent__V1__NextEventsResponse *resp = (const void *)msg;
	struct shim *shim = data;

	/* The machine has ended, or an exit will have to tell it. */
	if (e)
		return;
	for (size_t i = 0; i < resp->n_events; i++) {
		const Podvm__Agent__V1__Event *event = resp->events[i];
		struct task *t = task_find(shim, event->container_id);

		shim->last_event = event->sequence;
		if (t && event->type == PODVM__AGENT__V1__EVENT__TYPE__OOM)
			task_publish_oom(t);
	}
	oom_watch(shim);
}

void oom_watch(struct shim *shim)
{
	Podvm__Agent__V1__NextEventsRequest req = PODVM__AGENT__V1__NEXT_EVENTS_REQUEST__INIT;

	req.after = shim->last_event;
	if (agent_call(sandbox_agent(shim->pod.sandbox), "NextEvents", &req.base, 0, on_events,
		       shim, NULL) < 0)
		log_warn("OOM kills are told with exits only");
}
