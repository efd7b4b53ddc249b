/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/paths.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "base/str.h"

struct connection {
	struct list node;
	struct agent *agent;
	char id[32];
	uint16_t port;
	int family; /* that is being tried */
	int fd;	    /* until it's connected */
	struct loop_io *io;
	struct loop_timer *deadline;
	struct ttrpc_call *call; /* Connect, until it's answered */
	struct streams streams;
};

static void connection_free(struct connection *c)
{
	list_remove(&c->node);
	c->agent->n_connections--;
	loop_io_free(c->io);
	loop_timer_free(c->deadline);
	close_fdp(&c->fd);
	streams_done(&c->streams);
	free(c);
}

static struct connection *find(struct agent *a, const char *id)
{
	struct connection *c;

	list_for_each (c, &a->connections, node)
		if (str_eq(c->id, id))
			return c;
	return NULL;
}

/* ---- making one ---- */

static void try_connect(struct connection *c);

static void fail(struct connection *c, int r)
{
	struct ttrpc_call *call = TAKE_PTR(c->call);
	uint16_t port = c->port;

	connection_free(c);
	if (r == -ECONNREFUSED)
		ttrpc_reply_error(call, TTRPC_UNAVAILABLE, "nobody listens on port %u", port);
	else
		ttrpc_reply_error(call, ttrpc_code_from_errno(r), "cannot connect to port %u: %s",
				  port, strerror(-r));
}

/* localhost is 127.0.0.1, or ::1 for those who listen there only. */
static void refused(struct connection *c, int r)
{
	loop_io_free(TAKE_PTR(c->io));
	close_fdp(&c->fd);
	c->fd = -EBADF;
	if (c->family == AF_INET6) {
		fail(c, r);
		return;
	}
	c->family = AF_INET6;
	try_connect(c);
}

/* Reading and writing are watched apart: two descriptors. */
static void connected(struct connection *c)
{
	loop_io_free(TAKE_PTR(c->io));
	loop_timer_free(TAKE_PTR(c->deadline));
	c->streams.in.fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 3);
	if (c->streams.in.fd < 0) {
		fail(c, -errno);
		return;
	}
	c->streams.out[0].fd = TAKE_FD(c->fd);
	reply_empty(TAKE_PTR(c->call));
}

static void on_writable(void *data, int events)
{
	struct connection *c = data;
	socklen_t len = sizeof(int);
	int error = 0;

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error)
		refused(c, -error);
	else
		connected(c);
}

static void on_deadline(void *data)
{
	fail(data, -ETIMEDOUT);
}

static int start_connect(int fd, int family, uint16_t port)
{
	struct sockaddr_in v4 = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6,
		.sin6_port = htons(port),
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
	};
	int r = family == AF_INET6 ? connect(fd, (struct sockaddr *)&v6, sizeof(v6))
				   : connect(fd, (struct sockaddr *)&v4, sizeof(v4));

	return r < 0 ? -errno : 0;
}

static void try_connect(struct connection *c)
{
	int r;

	c->fd = socket(c->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	r = c->fd < 0 ? -errno : start_connect(c->fd, c->family, c->port);
	if (r == -EINPROGRESS)
		r = loop_io_new(c->agent->loop, c->fd, LOOP_WRITE, on_writable, c, &c->io);
	else if (r == 0)
		connected(c);
	if (r < 0)
		refused(c, r);
}

bool connection_id_valid(const char *id)
{
	return id_valid(id) && strlen(id) < sizeof(((struct connection *)NULL)->id);
}

static int new (struct agent *a, const char *id, struct connection **ret)
{
	struct connection *c;

	if (find(a, id))
		return -EEXIST;
	if (a->n_connections == CONNECTIONS_MAX)
		return -ENFILE;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->agent = a;
	c->fd = -EBADF;
	snprintf(c->id, sizeof(c->id), "%s", id);
	streams_init(&c->streams, a->loop);
	list_append(&a->connections, &c->node);
	a->n_connections++;
	*ret = c;
	return 0;
}

int connection_accepted(struct agent *a, const char *id, int fd)
{
	struct connection *c;
	int r = new (a, id, &c);

	if (r < 0) {
		close(fd);
		return r;
	}
	c->streams.out[0].fd = fd;
	c->streams.out[0].socket = true;
	c->streams.in.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (c->streams.in.fd < 0) {
		r = -errno;
		connection_free(c);
	}
	return r;
}

HANDLER(serve_connect)
{
	const PB(ConnectRequest) *req = (const void *)msg;
	struct agent *a = data;
	struct connection *c;

	int r;

	if (!connection_id_valid(req->connection_id) || req->port == 0 || req->port > UINT16_MAX) {
		ttrpc_reply_error(call, TTRPC_INVALID_ARGUMENT, "invalid id or port");
		return;
	}
	r = new (a, req->connection_id, &c);
	if (r == -EEXIST) {
		ttrpc_reply_error(call, TTRPC_ALREADY_EXISTS, "there is such a connection");
		return;
	}
	if (r < 0) {
		ttrpc_reply_error(call, TTRPC_RESOURCE_EXHAUSTED,
				  "no more than %zu connections: %s", a->n_connections,
				  strerror(-r));
		return;
	}
	c->call = call;
	c->port = (uint16_t)req->port;
	c->family = AF_INET;
	if (loop_timer_new(a->loop, call_timeout(call), on_deadline, c, &c->deadline) < 0)
		fail(c, -ENOMEM);
	else
		try_connect(c);
}

/* ---- having it ---- */

struct streams *connection_streams(struct agent *a, const char *id)
{
	struct connection *c = find(a, id);

	return c && !c->call ? &c->streams : NULL;
}

int connection_remove(struct agent *a, const char *id)
{
	struct connection *c = find(a, id);

	if (!c || c->call)
		return -ENOENT;
	connection_free(c);
	return 0;
}

void connections_done(struct agent *a)
{
	while (!list_empty(&a->connections)) {
		struct connection *c = list_entry(a->connections.next, struct connection, node);

		if (c->call)
			fail(c, -ECANCELED);
		else
			connection_free(c);
	}
}
