/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "ttrpc/code.h"
#include "ttrpc/frame.h"
#include "ttrpc/ttrpc.h"
#include "ttrpc/ttrpc.pb-c.h"
#include "ttrpc/unpack.h"

/* Requests that the peer doesn't take: above this no further call is made. */
#define MAX_QUEUED ((size_t)8 << 20)

/* Number of the payload field in Request. */
#define REQUEST_PAYLOAD 3

#define NANO_PER_MS 1000000

/**
 * struct ttrpc_client - Our side of a connection
 * @frames:	NULL: the connection is lost
 * @pending:	struct ttrpc_pending
 * @next_id:	Stream id of the next call
 * @pins:	Callbacks that are running; the memory stays until the last has returned
 * @freed:	The owner has freed it
 */
struct ttrpc_client {
	struct loop *loop;
	struct frame_conn *frames;
	struct list pending;
	uint32_t next_id;
	unsigned int pins;
	bool freed;
	void (*closed)(void *data);
	void *data;
	uint64_t slow_ms;
	void (*slow)(void *data);
	void *slow_data;
};

/**
 * struct ttrpc_pending - A call that waits for its answer
 * @timer:	The next part of its time, or NULL: it has no deadline
 * @left_ms:	What comes after that part
 * @ended:	Its callback is running
 * @keep:	The callback takes the answer over
 */
struct ttrpc_pending {
	struct list node;
	struct ttrpc_client *client;
	uint32_t stream;
	const ProtobufCMethodDescriptor *method;
	struct loop_timer *timer;
	uint64_t timeout_ms;
	uint64_t left_ms;
	bool ended;
	bool keep;
	ttrpc_done done;
	void *data;
};

static void pin(struct ttrpc_client *c)
{
	c->pins++;
}

static void unpin(struct ttrpc_client *c)
{
	if (--c->pins == 0 && c->freed)
		free(c);
}

/* ---- the end of a call ---- */

static void pending_free(struct ttrpc_pending *p)
{
	list_remove(&p->node);
	loop_timer_free(p->timer);
	free(p);
}

/* The callback may cancel any call and free the client. */
static void pending_end(struct ttrpc_pending *p, const ProtobufCMessage *resp, const struct err *e)
{
	struct ttrpc_client *c = p->client;

	pin(c);
	list_remove(&p->node);
	p->ended = true;
	p->done(p->data, resp, e);
	pending_free(p);
	unpin(c);
}

/*
 * The time of a call runs in parts. A process that was away itself (stopped, frozen, without CPU)
 * uses up no more than the part that was running, and then reads the answers that have come.
 */
static uint64_t take_part(struct ttrpc_pending *p)
{
	uint64_t ms = p->client->slow_ms ? MIN(p->left_ms, p->client->slow_ms) : p->left_ms;

	p->left_ms -= ms;
	return ms;
}

static void on_part_over(void *data)
{
	struct ttrpc_pending *p = data;
	struct ttrpc_client *c = p->client;
	struct err e = { 0 };

	pin(c);
	if (p->left_ms == 0 || loop_timer_set(p->timer, take_part(p)) < 0) {
		err_set(&e, -ETIMEDOUT, "no answer to %s within %llu ms", p->method->name,
			(unsigned long long)p->timeout_ms);
		pending_end(p, NULL, &e);
	}
	if (c->slow && !c->freed)
		c->slow(c->slow_data);
	unpin(c);
}

static void fail_all(struct ttrpc_client *c)
{
	while (!list_empty(&c->pending)) {
		struct ttrpc_pending *p = list_entry(c->pending.next, struct ttrpc_pending, node);
		struct err e = { 0 };

		err_set(&e, -ECONNRESET, "the connection was lost before %s was answered",
			p->method->name);
		pending_end(p, NULL, &e);
	}
}

/* ---- answers ---- */

static struct ttrpc_pending *find_pending(struct ttrpc_client *c, uint32_t stream)
{
	struct ttrpc_pending *p;

	list_for_each (p, &c->pending, node)
		if (p->stream == stream)
			return p;
	return NULL;
}

static int status_to_err(const struct ttrpc_pending *p, const Ttrpc__Status *status, struct err *e)
{
	err_set(e, ttrpc_code_to_errno((enum ttrpc_code)status->code), "%s", status->message);
	text_clean(e->msg);
	if (!e->msg[0])
		err_set(e, e->code, "%s failed with code %d", p->method->name, status->code);
	return e->code;
}

/* Gets the answer's message out of a frame. Return: 0 or a negative errno with @e set */
static int unpack_answer(const struct ttrpc_pending *p, const struct frame *f,
			 ProtobufCMessage **ret, struct err *e)
{
	_cleanup_(unpacked_freep) ProtobufCMessage *msg = NULL;
	const Ttrpc__Response *resp;

	if (!f->payload)
		return err_set(e, -EMSGSIZE, "the answer to %s has %u bytes, above the limit of %u",
			       p->method->name, f->length, TTRPC_MAX_PAYLOAD);
	if (ttrpc_unpack(&ttrpc__response__descriptor, f->payload, f->length, UNPACK_MAX_MEMORY,
			 &msg, NULL) < 0)
		return err_set(e, -EPROTO, "malformed response to %s", p->method->name);
	resp = (const Ttrpc__Response *)msg;
	if (resp->status && resp->status->code != TTRPC_OK)
		return status_to_err(p, resp->status, e);
	if (ttrpc_unpack(p->method->output, resp->payload.data, resp->payload.len,
			 UNPACK_MAX_MEMORY, ret, NULL) < 0)
		return err_set(e, -EPROTO, "malformed %s in the answer to %s",
			       p->method->output->name, p->method->name);
	return 0;
}

static void on_frame(void *data, const struct frame *f)
{
	struct ttrpc_client *c = data;
	struct ttrpc_pending *p = f->type == FRAME_RESPONSE ? find_pending(c, f->stream) : NULL;
	ProtobufCMessage *msg = NULL;
	struct err e = { 0 };
	bool keep;

	/* Nobody waits for it (any more). */
	if (!p)
		return;
	keep = p->keep;
	if (unpack_answer(p, f, &msg, &e) < 0)
		pending_end(p, NULL, &e);
	else
		pending_end(p, msg, NULL);
	if (!keep)
		protobuf_c_message_free_unpacked(msg, NULL);
}

static void on_lost(void *data, int code)
{
	struct ttrpc_client *c = data;

	pin(c);
	frame_conn_free(TAKE_PTR(c->frames));
	fail_all(c);
	if (c->closed && !c->freed)
		c->closed(c->data);
	unpin(c);
}

/* ---- client ---- */

static const struct frame_ops client_frame_ops = { .frame = on_frame, .lost = on_lost };

int ttrpc_client_new(struct loop *loop, int fd, void (*closed)(void *data), void *data,
		     struct ttrpc_client **ret)
{
	struct ttrpc_client *c = calloc(1, sizeof(*c));
	int r;

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	/* Always read: a server that doesn't get rid of its answers stops taking requests. */
	r = frame_conn_new(loop, fd, /* pause_above= */ 0, &client_frame_ops, c, &c->frames);
	if (r < 0) {
		free(c);
		return r;
	}
	c->loop = loop;
	c->next_id = 1;
	c->closed = closed;
	c->data = data;
	list_init(&c->pending);
	*ret = c;
	return 0;
}

uint32_t ttrpc_client_next(const struct ttrpc_client *c)
{
	return c->next_id;
}

void ttrpc_client_continue(struct ttrpc_client *c, uint32_t next)
{
	c->next_id = next;
}

void ttrpc_client_on_slow(struct ttrpc_client *c, uint64_t ms, void (*cb)(void *data), void *data)
{
	c->slow_ms = ms;
	c->slow = cb;
	c->slow_data = data;
}

size_t ttrpc_client_queued(const struct ttrpc_client *c)
{
	return c->frames ? frame_conn_queued(c->frames) : 0;
}

void ttrpc_client_free(struct ttrpc_client *c)
{
	/* A failing call's callback may get here a second time. */
	if (!c || c->freed)
		return;
	c->freed = true;
	pin(c);
	frame_conn_free(TAKE_PTR(c->frames));
	fail_all(c);
	unpin(c);
}

/* ---- calls ---- */

/* An id that no call waits on: after 2^31 calls they start again. */
static uint32_t take_id(struct ttrpc_client *c)
{
	uint32_t id;

	do {
		id = c->next_id;
		c->next_id += 2;
	} while (find_pending(c, id));
	return id;
}

static int send_request(struct ttrpc_client *c, const struct ttrpc_pending *p,
			const ProtobufCServiceDescriptor *service, const ProtobufCMessage *msg)
{
	Ttrpc__Request req = TTRPC__REQUEST__INIT;

	req.service = (char *)(uintptr_t)service->name;
	req.method = (char *)(uintptr_t)p->method->name;
	req.timeout_nano = (int64_t)(MIN(p->timeout_ms, INT64_MAX / NANO_PER_MS) * NANO_PER_MS);
	return frame_conn_send(c->frames, p->stream, FRAME_REQUEST, &req.base, REQUEST_PAYLOAD,
			       msg);
}

int ttrpc_call(struct ttrpc_client *c, const ProtobufCServiceDescriptor *service,
	       const char *method, const ProtobufCMessage *req, uint64_t timeout_ms,
	       ttrpc_done done, void *data, struct ttrpc_pending **ret)
{
	struct ttrpc_pending *p;
	int r = 0;

	if (!c->frames)
		return -ENOTCONN;
	if (frame_conn_queued(c->frames) > MAX_QUEUED)
		return -ENOBUFS;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	list_init(&p->node);
	p->client = c;
	p->timeout_ms = p->left_ms = timeout_ms;
	p->done = done;
	p->data = data;
	p->method = protobuf_c_service_descriptor_get_method_by_name(service, method);
	if (!p->method)
		r = -ENOENT;
	if (r == 0 && timeout_ms)
		r = loop_timer_new(c->loop, take_part(p), on_part_over, p, &p->timer);
	if (r == 0) {
		p->stream = take_id(c);
		r = send_request(c, p, service, req);
	}
	if (r < 0) {
		pending_free(p);
		return r;
	}
	list_append(&c->pending, &p->node);
	if (ret)
		*ret = p;
	return 0;
}

void ttrpc_cancel(struct ttrpc_pending *p)
{
	if (p && !p->ended)
		pending_free(p);
}

/* ---- synchronous calls ---- */

struct sync_call {
	bool ended;
	int result;
	ProtobufCMessage *resp;
	struct err *e;
};

static void on_sync_done(void *data, const ProtobufCMessage *resp, const struct err *e)
{
	struct sync_call *s = data;

	s->ended = true;
	s->resp = (ProtobufCMessage *)(uintptr_t)resp;
	if (!e)
		return;
	s->result = e->code;
	if (s->e)
		*s->e = *e;
}

int ttrpc_call_sync(struct loop *loop, struct ttrpc_client *c,
		    const ProtobufCServiceDescriptor *service, const char *method,
		    const ProtobufCMessage *req, uint64_t timeout_ms, ProtobufCMessage **ret,
		    struct err *e)
{
	struct sync_call s = { .e = e };
	struct ttrpc_pending *p;
	int r = ttrpc_call(c, service, method, req, timeout_ms, on_sync_done, &s, &p);

	if (r < 0)
		return err_errno(e, r, "cannot call %s", method);
	p->keep = true;
	r = loop_run_until(loop, &s.ended, -1);
	if (r < 0) {
		ttrpc_cancel(p);
		return err_errno(e, r, "cannot wait for %s", method);
	}
	if (ret && s.result == 0)
		*ret = TAKE_PTR(s.resp);
	protobuf_c_message_free_unpacked(s.resp, NULL);
	return s.result;
}
