/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/log.h"
#include "base/str.h"
#include "base/unixsock.h"
#include "proto/forward.pb-c.h"
#include "ttrpc/ttrpc.h"

/* containerd's own publisher has the same limits. */
#define QUEUE_MAX  2048
#define TRIES	   5
#define TIMEOUT_MS 5000
#define RETRY_MS   1000

struct event {
	struct list node;
	const char *topic;
	char *type;
	uint8_t *value;
	size_t len;
	struct timespec time;
	unsigned int tries;
};

struct events {
	struct loop *loop;
	const char *address;
	const char *namespace;
	struct ttrpc_client *client;
	struct ttrpc_pending *call;
	struct loop_timer *timer; /* until the next try */
	struct list queue;
	size_t n;
	bool idle;
};

static void send_next(struct events *ev);

static void event_free(struct event *event)
{
	list_remove(&event->node);
	free(event->type);
	free(event->value);
	free(event);
}

static struct event *first(struct events *ev)
{
	return list_entry(ev->queue.next, struct event, node);
}

static void drop_first(struct events *ev)
{
	event_free(first(ev));
	ev->n--;
	ev->idle = ev->n == 0;
}

static void on_timer(void *data)
{
	struct events *ev = data;

	loop_timer_free(TAKE_PTR(ev->timer));
	send_next(ev);
}

/* The connection or containerd failed: again with a new one, later. */
static void retry(struct events *ev, const char *why)
{
	struct event *event = first(ev);
	char text[256];

	ttrpc_client_free(TAKE_PTR(ev->client));
	if (++event->tries >= TRIES) {
		log_warn("an event was not delivered", "topic=%s error=%s", event->topic,
			 log_quote(text, sizeof(text), why));
		drop_first(ev);
		if (ev->idle)
			return;
	}
	if (loop_timer_new(ev->loop, RETRY_MS, on_timer, ev, &ev->timer) < 0)
		log_error("no memory to send events");
}

static void on_sent(void *data, const ProtobufCMessage *resp, const struct err *e)
{
	struct events *ev = data;
	char text[256];

	ev->call = NULL;
	if (e && (e->code == -ECONNRESET || e->code == -ETIMEDOUT)) {
		retry(ev, e->msg);
		return;
	}
	if (e)
		log_warn("containerd refused an event", "topic=%s error=%s", first(ev)->topic,
			 log_quote(text, sizeof(text), e->msg));
	drop_first(ev);
	send_next(ev);
}

static int connect_client(struct events *ev)
{
	int fd;

	if (ev->client)
		return 0;
	fd = unixsock_connect(ev->address, SOCK_STREAM);
	return fd < 0 ? fd : ttrpc_client_new(ev->loop, fd, NULL, NULL, &ev->client);
}

static int forward(struct events *ev, const struct event *event)
{
	Containerd__Services__Events__Ttrpc__V1__ForwardRequest req =
		CONTAINERD__SERVICES__EVENTS__TTRPC__V1__FORWARD_REQUEST__INIT;
	Containerd__Services__Events__Ttrpc__V1__Envelope envelope =
		CONTAINERD__SERVICES__EVENTS__TTRPC__V1__ENVELOPE__INIT;
	Containerd__Types__Timestamp time = CONTAINERD__TYPES__TIMESTAMP__INIT;
	Containerd__Types__Any any = CONTAINERD__TYPES__ANY__INIT;

	time.seconds = event->time.tv_sec;
	time.nanos = (int32_t)event->time.tv_nsec;
	any.type_url = event->type;
	any.value.data = event->value;
	any.value.len = event->len;
	envelope.timestamp = &time;
	envelope.namespace_ = (char *)ev->namespace;
	envelope.topic = (char *)event->topic;
	envelope.event = &any;
	req.envelope = &envelope;
	return ttrpc_call(ev->client, &containerd__services__events__ttrpc__v1__events__descriptor,
			  "Forward", &req.base, TIMEOUT_MS, on_sent, ev, &ev->call);
}

static void send_next(struct events *ev)
{
	int r;

	if (ev->call || ev->timer || list_empty(&ev->queue))
		return;
	r = connect_client(ev);
	if (r == 0)
		r = forward(ev, first(ev));
	if (r < 0)
		retry(ev, strerror(-r));
}

int events_new(struct loop *loop, const char *address, const char *namespace, struct events **ret)
{
	struct events *ev = calloc(1, sizeof(*ev));

	if (!ev)
		return -ENOMEM;
	ev->loop = loop;
	ev->address = str_empty(address) ? NULL : address;
	ev->namespace = namespace;
	ev->idle = true;
	list_init(&ev->queue);
	*ret = ev;
	return 0;
}

static struct event *event_new(const char *topic, const ProtobufCMessage *msg)
{
	struct event *event = calloc(1, sizeof(*event));

	if (!event)
		return NULL;
	list_init(&event->node);
	event->topic = topic;
	clock_gettime(CLOCK_REALTIME, &event->time);
	event->type = strdup(msg->descriptor->name);
	event->len = protobuf_c_message_get_packed_size(msg);
	event->value = malloc(event->len + 1);
	if (!event->type || !event->value) {
		event_free(event);
		return NULL;
	}
	protobuf_c_message_pack(msg, event->value);
	return event;
}

void events_publish(struct events *ev, const char *topic, const ProtobufCMessage *msg)
{
	struct event *event;

	if (!ev->address)
		return;
	event = ev->n < QUEUE_MAX ? event_new(topic, msg) : NULL;
	if (!event) {
		log_warn("an event was dropped", "topic=%s queued=%zu", topic, ev->n);
		return;
	}
	list_append(&ev->queue, &event->node);
	ev->n++;
	ev->idle = false;
	send_next(ev);
}

const bool *events_idle(const struct events *ev)
{
	return &ev->idle;
}

void events_free(struct events *ev)
{
	if (!ev)
		return;
	ttrpc_cancel(ev->call);
	ttrpc_client_free(ev->client);
	loop_timer_free(ev->timer);
	while (!list_empty(&ev->queue))
		event_free(first(ev));
	free(ev);
}
