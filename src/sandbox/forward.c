/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/log.h"
#include "sandbox/agent_client.h"
#include "sandbox/streams.h"

#define MAX_CONNECTIONS	   256 /* of one pod; more wait in the socket's backlog */
#define CONNECT_TIMEOUT_MS 10000
#define BACKOFF_MS	   1000

struct forward {
	struct loop *loop;
	struct ttrpc_client *agent;
	int fd;
	struct loop_io *io;
	struct loop_timer *backoff; /* runs while there's no descriptor for another connection */
	struct list connections;
	size_t n;
	uint64_t sequence;
};

struct connection {
	struct list node;
	struct forward *owner;
	char id[24];
	int fd;
	struct ttrpc_pending *call; /* Connect */
	struct streams *streams;    /* once it's connected */
	struct loop_timer *ending;
};

static void connection_free(struct connection *c)
{
	struct forward *f = c->owner;

	list_remove(&c->node);
	f->n--;
	if (c->call)
		ttrpc_cancel(c->call);
	streams_free(c->streams);
	loop_timer_free(c->ending);
	close(c->fd);
	free(c);
	/* There is room again. */
	(void)loop_io_set(f->io, LOOP_READ);
}

/* Tell the agent as well. */
static void end(struct connection *c)
{
	Podvm__Agent__V1__ProcessRequest req = PODVM__AGENT__V1__PROCESS_REQUEST__INIT;

	req.container_id = (char *)"";
	req.exec_id = c->id;
	(void)agent_call(c->owner->agent, "RemoveProcess", &req.base, AGENT_TIMEOUT_MS,
			 agent_ignore, NULL, NULL);
	connection_free(c);
}

/* Nobody in the guest takes it. */
static void reset(struct connection *c)
{
	struct linger now = { .l_onoff = 1 };

	(void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	connection_free(c);
}

static void on_streams_done(void *data, const struct err *e)
{
	end(data);
}

static void on_ending(void *data)
{
	end(data);
}

/* Whoever connected has gone. The streams can't be freed from here. */
static void on_broken(void *data)
{
	struct connection *c = data;

	if (!c->ending)
		(void)loop_timer_new(c->owner->loop, 0, on_ending, c, &c->ending);
}

static void on_connected(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct connection *c = data;
	struct streams_config config = {
		.loop = c->owner->loop,
		.client = c->owner->agent,
		.container_id = "",
		.exec_id = c->id,
		.terminal = true, /* one stream of output */
		.fds = { c->fd, -EBADF },
		.stdin_fd = c->fd,
		.broken = on_broken,
		.done = on_streams_done,
		.data = c,
	};
	char text[256];

	c->call = NULL;
	if (e) {
		log_debug("port-forward: nobody took the connection", "reason=%s",
			  log_quote(text, sizeof(text), e->msg));
		reset(c);
	} else if (streams_new(&config, &c->streams) < 0) {
		end(c);
	}
}

/* The port that was asked for is that of the accepted socket. */
static uint16_t local_port(int fd)
{
	struct sockaddr_in6 addr = { 0 }; /* IPv4 has the port at the same place */
	socklen_t len = sizeof(addr);

	static_assert(offsetof(struct sockaddr_in6, sin6_port) ==
			      offsetof(struct sockaddr_in, sin_port),
		      "one place for the port");
	(void)getsockname(fd, (struct sockaddr *)&addr, &len);
	return ntohs(addr.sin6_port);
}

/* Takes the descriptor. */
static void connection_new(struct forward *f, int fd)
{
	Podvm__Agent__V1__ConnectRequest req = PODVM__AGENT__V1__CONNECT_REQUEST__INIT;
	struct connection *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return;
	}
	c->owner = f;
	c->fd = fd;
	snprintf(c->id, sizeof(c->id), "%llu", (unsigned long long)f->sequence++);
	list_append(&f->connections, &c->node);
	f->n++;
	req.connection_id = c->id;
	req.port = local_port(fd);
	if (agent_call(f->agent, "Connect", &req.base, CONNECT_TIMEOUT_MS, on_connected, c,
		       &c->call) < 0)
		reset(c);
}

static void on_backoff_over(void *data)
{
	struct forward *f = data;

	loop_timer_free(TAKE_PTR(f->backoff));
	(void)loop_io_set(f->io, LOOP_READ);
}

/* Descriptors may come back at any time, and nobody tells. Watching on would only turn the loop. */
static void back_off(struct forward *f, int why)
{
	if (f->backoff || loop_timer_new(f->loop, BACKOFF_MS, on_backoff_over, f, &f->backoff) < 0)
		return;
	(void)loop_io_set(f->io, 0);
	log_warn("port-forward: cannot accept a connection", "error=%d", why);
}

static void on_acceptable(void *data, int events)
{
	struct forward *f = data;

	while (f->n < MAX_CONNECTIONS) {
		int fd = accept4(f->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			connection_new(f, fd);
		} else if (errno != EINTR && errno != ECONNABORTED) {
			if (errno != EAGAIN)
				back_off(f, -errno);
			return;
		}
	}
	/* Wait for the end of a connection. */
	(void)loop_io_set(f->io, 0);
}

int forward_new(struct loop *loop, struct ttrpc_client *agent, int fd, struct forward **ret)
{
	struct forward *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->loop = loop;
	f->agent = agent;
	f->fd = fd;
	list_init(&f->connections);
	r = loop_io_new(loop, fd, LOOP_READ, on_acceptable, f, &f->io);
	if (r < 0) {
		free(f);
		return r;
	}
	*ret = f;
	return 0;
}

void forward_free(struct forward *f)
{
	struct connection *c;
	struct connection *tmp;

	if (!f)
		return;
	list_for_each_safe (c, tmp, &f->connections, node)
		connection_free(c);
	loop_timer_free(f->backoff);
	loop_io_free(f->io);
	free(f);
}
