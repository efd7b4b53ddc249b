/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/str.h"
#include "ttrpc/code.h"
#include "ttrpc/frame.h"
#include "ttrpc/ttrpc.h"
#include "ttrpc/ttrpc.pb-c.h"
#include "ttrpc/unpack.h"

/* Limits of one connection: queued answers, calls under way, memory of their requests. */
#define MAX_QUEUED     ((size_t)8 << 20)
#define MAX_CALLS      2048
#define MAX_CALL_BYTES ((size_t)64 << 20)

/* Connections of one server. What comes above, or finds no descriptor, waits in the backlog. */
#define MAX_CONNS	  1024
#define ACCEPT_BACKOFF_MS 1000

/* Number of the payload field in Response. */
#define RESPONSE_PAYLOAD 2

struct ttrpc_server {
	struct loop *loop;
	const struct ttrpc_service *services;
	size_t n_services;
	struct list listeners; /* struct listener */
	struct list conns;     /* struct server_conn */
	size_t n_conns;
	bool freed;
};

struct listener {
	struct list node;
	struct ttrpc_server *server;
	int fd;
	struct loop_io *io;
	struct loop_timer *backoff; /* runs while nothing can be accepted */
};

/**
 * struct server_conn - A connection
 * @node:	In the server's list
 * @calls:	struct ttrpc_call, those that aren't answered
 * @call_bytes:	Memory of their requests
 * @last_id:	Stream id of the newest call, 0: there was none
 */
struct server_conn {
	struct list node;
	struct ttrpc_server *server;
	struct frame_conn *frames;
	struct list calls;
	size_t n_calls;
	size_t call_bytes;
	uint32_t last_id;
	void (*closed)(void *data);
	void *data;
};

/**
 * struct ttrpc_call - A call under way
 * @node:	In the connection's list
 * @conn:	NULL: it has gone, nobody waits for an answer
 * @bytes:	Memory of @req
 */
struct ttrpc_call {
	struct list node;
	struct server_conn *conn;
	uint32_t stream;
	const ProtobufCMethodDescriptor *method;
	ProtobufCMessage *req;
	size_t bytes;
	uint64_t timeout_ms;
	void (*cancel)(void *data);
	void *cancel_data;
};

/* ---- answers ---- */

/* Without an answer the client might wait for ever: what can't be sent ends the connection. */
static void send_error(struct server_conn *conn, uint32_t stream, enum ttrpc_code code, char *text)
{
	Ttrpc__Status status = TTRPC__STATUS__INIT;
	Ttrpc__Response resp = TTRPC__RESPONSE__INIT;

	text_clean(text);
	status.code = (int32_t)code;
	status.message = text;
	resp.status = &status;
	if (frame_conn_send(conn->frames, stream, FRAME_RESPONSE, &resp.base, 0, NULL) < 0)
		frame_conn_break(conn->frames);
}

/* Answer a frame that doesn't become a call. */
__attribute__((format(printf, 4, 5))) static void refuse(struct server_conn *conn, uint32_t stream,
							 enum ttrpc_code code, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	send_error(conn, stream, code, text);
}

static void send_response(struct ttrpc_call *call, const ProtobufCMessage *msg)
{
	Ttrpc__Response resp = TTRPC__RESPONSE__INIT;
	int r = frame_conn_send(call->conn->frames, call->stream, FRAME_RESPONSE, &resp.base,
				RESPONSE_PAYLOAD, msg);

	if (r == -EMSGSIZE)
		refuse(call->conn, call->stream, TTRPC_RESOURCE_EXHAUSTED,
		       "the answer of %zu bytes is longer than the limit of %u",
		       protobuf_c_message_get_packed_size(msg), TTRPC_MAX_PAYLOAD);
	else if (r < 0)
		frame_conn_break(call->conn->frames);
}

static void call_free(struct ttrpc_call *call)
{
	if (call->conn) {
		call->conn->n_calls--;
		call->conn->call_bytes -= call->bytes;
	}
	list_remove(&call->node);
	protobuf_c_message_free_unpacked(call->req, NULL);
	free(call);
}

void ttrpc_reply(struct ttrpc_call *call, const ProtobufCMessage *resp)
{
	if (call->conn)
		send_response(call, resp);
	call_free(call);
}

void ttrpc_reply_error(struct ttrpc_call *call, enum ttrpc_code code, const char *fmt, ...)
{
	/* Room for the message and the hint of a struct err. */
	char text[sizeof(((struct err *)NULL)->msg) + sizeof(((struct err *)NULL)->hint)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (call->conn)
		send_error(call->conn, call->stream, code, text);
	call_free(call);
}

void ttrpc_reply_err(struct ttrpc_call *call, const struct err *e)
{
	ttrpc_reply_error(call, ttrpc_code_from_errno(e->code), "%s%s%s", e->msg,
			  e->hint[0] ? "; " : "", e->hint);
}

uint64_t ttrpc_call_timeout_ms(const struct ttrpc_call *call)
{
	return call->timeout_ms;
}

const ProtobufCMessage *ttrpc_call_request(const struct ttrpc_call *call)
{
	return call->req;
}

const ProtobufCMethodDescriptor *ttrpc_call_method(const struct ttrpc_call *call)
{
	return call->method;
}

void ttrpc_call_on_cancel(struct ttrpc_call *call, void (*cb)(void *data), void *data)
{
	call->cancel = cb;
	call->cancel_data = data;
}

/* ---- requests ---- */

static const struct ttrpc_service *find_service(const struct ttrpc_server *s, const char *name)
{
	for (size_t i = 0; i < s->n_services; i++) {
		const struct ttrpc_service *sv = &s->services[i];

		if (str_eq(sv->name ? sv->name : sv->desc->name, name))
			return sv;
	}
	return NULL;
}

static bool call_is_active(const struct server_conn *conn, uint32_t stream)
{
	struct ttrpc_call *call;

	list_for_each (call, &conn->calls, node)
		if (call->stream == stream)
			return true;
	return false;
}

/* A Request becomes a call, or is answered and NULL is returned. */
static struct ttrpc_call *call_new(struct server_conn *conn, uint32_t stream,
				   const Ttrpc__Request *req,
				   const ProtobufCMethodDescriptor *method)
{
	struct ttrpc_call *call = NULL;
	ProtobufCMessage *msg = NULL;
	size_t bytes = 0;
	int r;

	r = ttrpc_unpack(method->input, req->payload.data, req->payload.len,
			 MIN(UNPACK_MAX_MEMORY, MAX_CALL_BYTES - conn->call_bytes), &msg, &bytes);
	if (r == 0) {
		call = calloc(1, sizeof(*call));
		r = call ? 0 : -ENOBUFS;
	}
	if (r < 0) {
		protobuf_c_message_free_unpacked(msg, NULL);
		refuse(conn, stream, ttrpc_code_from_errno(r), "%s: %s", method->input->name,
		       r == -ENOBUFS ? "the message takes too much memory" : "malformed message");
		return NULL;
	}
	call->conn = conn;
	call->stream = stream;
	call->method = method;
	call->req = msg;
	call->bytes = bytes;
	call->timeout_ms = ((uint64_t)req->timeout_nano + 999999) / 1000000;
	list_append(&conn->calls, &call->node);
	conn->n_calls++;
	conn->call_bytes += bytes;
	return call;
}

/* Finds what serves a Request. Returns the call, or NULL when it has been answered. */
static struct ttrpc_call *route(struct server_conn *conn, uint32_t stream,
				const Ttrpc__Request *req, const struct ttrpc_service **ret_service)
{
	const struct ttrpc_service *sv = find_service(conn->server, req->service);
	const ProtobufCMethodDescriptor *method;

	if (!sv) {
		refuse(conn, stream, TTRPC_UNIMPLEMENTED, "service %s", req->service);
		return NULL;
	}
	method = protobuf_c_service_descriptor_get_method_by_name(sv->desc, req->method);
	if (!method || !sv->handlers[method - sv->desc->methods]) {
		refuse(conn, stream, TTRPC_UNIMPLEMENTED, "method %s", req->method);
		return NULL;
	}
	if (req->timeout_nano < 0) {
		refuse(conn, stream, TTRPC_DEADLINE_EXCEEDED, "the deadline has passed");
		return NULL;
	}
	if (conn->n_calls >= MAX_CALLS) {
		refuse(conn, stream, TTRPC_RESOURCE_EXHAUSTED, "%d calls are under way already",
		       MAX_CALLS);
		return NULL;
	}
	*ret_service = sv;
	return call_new(conn, stream, req, method);
}

void ttrpc_call_restart_ids(struct ttrpc_call *call)
{
	call->conn->last_id = 0;
}

static void on_request(struct server_conn *conn, const struct frame *f)
{
	const struct ttrpc_service *sv = NULL;
	struct ttrpc_call *call;
	ProtobufCMessage *req;
	int r;

	/* Ids rise, and after 2^31 calls they start again: the distance tells old from new. */
	if (conn->last_id && (int32_t)(f->stream - conn->last_id) <= 0) {
		refuse(conn, f->stream, TTRPC_INVALID_ARGUMENT,
		       "StreamID cannot be re-used and must increment");
		return;
	}
	conn->last_id = f->stream;
	r = ttrpc_unpack(&ttrpc__request__descriptor, f->payload, f->length, UNPACK_MAX_MEMORY,
			 &req, NULL);
	if (r < 0) {
		refuse(conn, f->stream, ttrpc_code_from_errno(r), "unusable request");
		return;
	}
	call = route(conn, f->stream, (const Ttrpc__Request *)req, &sv);
	protobuf_c_message_free_unpacked(req, NULL);
	/* Last: the handler may free the connection. */
	if (call)
		sv->handlers[call->method - sv->desc->methods](call, call->req, sv->data);
}

static void on_frame(void *data, const struct frame *f)
{
	struct server_conn *conn = data;

	if (f->type != FRAME_REQUEST && f->type != FRAME_DATA)
		return;
	if (!f->payload)
		refuse(conn, f->stream, TTRPC_RESOURCE_EXHAUSTED,
		       "message length %u exceed maximum message size of %u", f->length,
		       TTRPC_MAX_PAYLOAD);
	else if (f->stream % 2 == 0)
		refuse(conn, f->stream, TTRPC_INVALID_ARGUMENT,
		       "StreamID must be odd for client initiated streams");
	else if (f->type == FRAME_REQUEST)
		on_request(conn, f);
	else if (!call_is_active(conn, f->stream))
		refuse(conn, f->stream, TTRPC_INVALID_ARGUMENT, "StreamID is no longer active");
}

/* ---- connections ---- */

/*
 * A callback may do what it likes, also answer other calls of this connection or free the server:
 * so everything is taken apart before the first one.
 */
static void conn_free(struct server_conn *conn)
{
	struct list calls;
	struct ttrpc_call *call;

	list_remove(&conn->node);
	conn->server->n_conns--;
	frame_conn_free(conn->frames);
	list_init(&calls);
	while (!list_empty(&conn->calls)) {
		call = list_entry(conn->calls.next, struct ttrpc_call, node);
		call->conn = NULL;
		list_remove(&call->node);
		list_append(&calls, &call->node);
	}
	free(conn);
	while (!list_empty(&calls)) {
		call = list_entry(calls.next, struct ttrpc_call, node);
		list_remove(&call->node);
		if (call->cancel)
			call->cancel(call->cancel_data);
	}
}

static void on_lost(void *data, int code)
{
	struct server_conn *conn = data;
	void (*closed)(void *data) = conn->closed;
	void *closed_data = conn->data;

	conn_free(conn);
	if (closed)
		closed(closed_data);
}

static const struct frame_ops server_frame_ops = { .frame = on_frame, .lost = on_lost };

int ttrpc_server_add(struct ttrpc_server *s, int fd, void (*closed)(void *data), void *data)
{
	struct server_conn *conn = calloc(1, sizeof(*conn));
	int r;

	if (!conn) {
		close(fd);
		return -ENOMEM;
	}
	r = frame_conn_new(s->loop, fd, MAX_QUEUED, &server_frame_ops, conn, &conn->frames);
	if (r < 0) {
		free(conn);
		return r;
	}
	conn->server = s;
	conn->closed = closed;
	conn->data = data;
	list_init(&conn->calls);
	list_append(&s->conns, &conn->node);
	s->n_conns++;
	return 0;
}

/* ---- listeners ---- */

static void on_backoff_over(void *data)
{
	struct listener *l = data;

	loop_timer_free(TAKE_PTR(l->backoff));
	(void)loop_io_set(l->io, LOOP_READ);
}

/* Nothing can be accepted: without a pause the loop would turn on the waiting connection. */
static void back_off(struct listener *l, const char *why)
{
	if (loop_timer_new(l->server->loop, ACCEPT_BACKOFF_MS, on_backoff_over, l, &l->backoff) < 0)
		return;
	(void)loop_io_set(l->io, 0);
	log_warn("connections have to wait", "reason=\"%s\"", why);
}

static void on_connection(void *data, int events)
{
	struct listener *l = data;
	int fd;

	if (l->server->n_conns >= MAX_CONNS) {
		back_off(l, "too many connections");
		return;
	}
	fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		(void)ttrpc_server_add(l->server, fd, NULL, NULL);
	else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
		back_off(l, strerror(errno));
}

static void listener_free(struct listener *l)
{
	list_remove(&l->node);
	loop_timer_free(l->backoff);
	loop_io_free(l->io);
	close(l->fd);
	free(l);
}

int ttrpc_server_listen(struct ttrpc_server *s, int fd)
{
	struct listener *l = calloc(1, sizeof(*l));
	int r = l ? fd_nonblock(fd) : -ENOMEM;

	if (r == 0)
		r = loop_io_new(s->loop, fd, LOOP_READ, on_connection, l, &l->io);
	if (r < 0) {
		close(fd);
		free(l);
		return r;
	}
	l->server = s;
	l->fd = fd;
	list_append(&s->listeners, &l->node);
	return 0;
}

/* ---- server ---- */

int ttrpc_server_new(struct loop *loop, const struct ttrpc_service *services, size_t n,
		     struct ttrpc_server **ret)
{
	struct ttrpc_server *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->loop = loop;
	s->services = services;
	s->n_services = n;
	list_init(&s->listeners);
	list_init(&s->conns);
	*ret = s;
	return 0;
}

void ttrpc_server_free(struct ttrpc_server *s)
{
	/* A cancelled call's callback may get here a second time. */
	if (!s || s->freed)
		return;
	s->freed = true;
	while (!list_empty(&s->listeners))
		listener_free(list_entry(s->listeners.next, struct listener, node));
	while (!list_empty(&s->conns))
		conn_free(list_entry(s->conns.next, struct server_conn, node));
	free(s);
}
