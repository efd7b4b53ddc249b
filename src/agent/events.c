/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/events.h"

#include <stdio.h>
#include <time.h>

#include "agent/service.h"
#include "base/cleanup.h"

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void fill(Podvm__Agent__V1__Event *msg, struct event *e, uint64_t sequence)
{
	podvm__agent__v1__event__init(msg);
	msg->sequence = sequence;
	msg->type = (Podvm__Agent__V1__Event__Type)e->type;
	msg->container_id = e->container_id;
	msg->exec_id = e->exec_id;
	msg->exit_status = e->exit_status;
	msg->time_ns = e->time_ns;
}

/* There is at least one event after `after`. */
static void reply(struct events *ev, struct ttrpc_call *call, uint64_t after)
{
	Podvm__Agent__V1__NextEventsResponse resp = PODVM__AGENT__V1__NEXT_EVENTS_RESPONSE__INIT;
	uint64_t oldest = ev->last > EVENTS_KEEP ? ev->last - EVENTS_KEEP + 1 : 1;
	uint64_t first = MAX(after + 1, oldest);
	_cleanup_(freep) Podvm__Agent__V1__Event *events = NULL;
	_cleanup_(freep) Podvm__Agent__V1__Event **list = NULL;
	size_t n = (size_t)(ev->last - first + 1);

	events = calloc(n, sizeof(*events));
	list = calloc(n, sizeof(*list));
	if (!events || !list) {
		reply_oom(call);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		fill(&events[i], &ev->ring[(first + i) % EVENTS_KEEP], first + i);
		list[i] = &events[i];
	}
	resp.lost = first - (after + 1);
	resp.n_events = n;
	resp.events = list;
	ttrpc_reply(call, &resp.base);
}

void events_add(struct events *ev, int type, const char *container_id, const char *exec_id,
		uint32_t exit_status)
{
	struct event *e = &ev->ring[++ev->last % EVENTS_KEEP];

	e->type = type;
	snprintf(e->container_id, sizeof(e->container_id), "%s", container_id);
	snprintf(e->exec_id, sizeof(e->exec_id), "%s", exec_id);
	e->exit_status = exit_status;
	e->time_ns = now_ns();
	for (size_t i = 0; i < EVENTS_WAITERS; i++)
		if (ev->waiters[i].call)
			reply(ev, TAKE_PTR(ev->waiters[i].call), ev->waiters[i].after);
}

void events_next(struct events *ev, struct ttrpc_call *call, uint64_t after)
{
	if (after > ev->last) {
		ttrpc_reply_error(call, TTRPC_INVALID_ARGUMENT, "event %llu is in the future",
				  (unsigned long long)after);
		return;
	}
	if (after < ev->last) {
		reply(ev, call, after);
		return;
	}
	for (size_t i = 0; i < EVENTS_WAITERS; i++) {
		if (!ev->waiters[i].call) {
			ev->waiters[i].call = call;
			ev->waiters[i].after = after;
			return;
		}
	}
	ttrpc_reply_error(call, TTRPC_RESOURCE_EXHAUSTED, "%d calls wait for events already",
			  EVENTS_WAITERS);
}

HANDLER(serve_next_events)
{
	const PB(NextEventsRequest) *req = (const void *)msg;
	struct agent *a = data;

	events_next(&a->events, call, req->after);
}
