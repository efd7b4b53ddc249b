/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that connects to sockets of the host, and says anything. Calls of the agent don't leave
 * the program: they wait here, and the input says which one is answered and how. Each two bytes do
 * one thing: the lower three bits of the first byte choose what, the others which call or server,
 * the second byte is its argument.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/str.h"
#include "proto/agent.pb-c.h"
#include "sandbox/host_socket.h"
#include "sandbox/socket_relay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CALLS_MAX (2 * HOST_SOCKETS_CONNECTIONS + 2)
#define ENDS_MAX  64

struct ttrpc_pending {
	struct list node;
	char method[32];
	ttrpc_done done;
	void *data;
};

static struct list calls;
static size_t n_calls;
static char dir[32];
static struct socket_dir where;
static int servers[2];
static int ends[ENDS_MAX]; /* of the servers' connections */
static size_t n_ends;

/* ---- seams ---- */

/* Calls that nobody waits for aren't kept. */
int ttrpc_call(struct ttrpc_client *c, const ProtobufCServiceDescriptor *service,
	       const char *method, const ProtobufCMessage *req, uint64_t timeout_ms,
	       ttrpc_done done, void *data, struct ttrpc_pending **ret)
{
	struct ttrpc_pending *p;

	if (protobuf_c_message_get_packed_size(req) > 2 * SOCKET_RELAY_MAX)
		abort();
	if (!ret)
		return 0;
	p = calloc(1, sizeof(*p));
	/* Each connection reads and writes once at a time, or is being removed. */
	if (!p || ++n_calls > CALLS_MAX)
		abort();
	snprintf(p->method, sizeof(p->method), "%s", method);
	p->done = done;
	p->data = data;
	list_append(&calls, &p->node);
	*ret = p;
	return 0;
}

static void forget(struct ttrpc_pending *p)
{
	list_remove(&p->node);
	n_calls--;
	free(p);
}

void ttrpc_cancel(struct ttrpc_pending *p)
{
	if (p)
		forget(p);
}

size_t ttrpc_client_queued(const struct ttrpc_client *c)
{
	return 0;
}

/* ---- the guest ---- */

static struct ttrpc_pending *nth(size_t n)
{
	struct ttrpc_pending *p;

	n %= n_calls ? n_calls : 1;
	list_for_each (p, &calls, node)
		if (n-- == 0)
			return p;
	return NULL;
}

static void answer(struct ttrpc_pending *p, uint8_t argument, size_t len)
{
	static uint8_t bytes[SOCKET_RELAY_MAX + 1];
	Podvm__Agent__V1__AcceptResponse accepted = PODVM__AGENT__V1__ACCEPT_RESPONSE__INIT;
	Podvm__Agent__V1__ReadOutputResponse output = PODVM__AGENT__V1__READ_OUTPUT_RESPONSE__INIT;
	Podvm__Agent__V1__Empty empty = PODVM__AGENT__V1__EMPTY__INIT;
	const ProtobufCMessage *msg = &empty.base;
	struct ttrpc_pending call = *p;

	accepted.socket = argument;
	output.data.data = bytes;
	output.data.len = len;
	output.eof = argument & 1;
	output.closed = argument & 2;
	if (str_eq(call.method, "Accept"))
		msg = &accepted.base;
	else if (str_eq(call.method, "ReadOutput"))
		msg = &output.base;
	forget(p);
	call.done(call.data, msg, NULL);
}

static void fail(struct ttrpc_pending *p, uint8_t argument)
{
	static const int codes[] = { -ECONNRESET, -ENOENT, -EINVAL, -ETIMEDOUT };
	struct ttrpc_pending call = *p;
	struct err e = { 0 };

	err_set(&e, codes[argument % ARRAY_SIZE(codes)], "a guest may say \"anything\"\n");
	forget(p);
	call.done(call.data, NULL, &e);
}

/* ---- the host ---- */

static int start_server(const char *name, int type)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", dir, name);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 16) < 0)
		abort();
	return fd;
}

static void offer(struct host_sockets *hs, const char *name)
{
	struct socket_offer o = { .owner = hs, .key = name, .dir = &where, .name = name };
	bool messages;
	uint32_t number;

	if (host_sockets_offer(hs, &o, &number, &messages) < 0)
		abort();
}

static void accept_one(int listener)
{
	int fd = n_ends < ENDS_MAX ? accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)
				   : -1;

	if (fd >= 0)
		ends[n_ends++] = fd;
}

static void use_end(size_t n, uint8_t argument)
{
	char bytes[256] = { 0 };

	if (n_ends == 0)
		return;
	n %= n_ends;
	if (argument == 0) {
		close(ends[n]);
		ends[n] = ends[--n_ends];
	} else if (argument == 1) {
		(void)shutdown(ends[n], SHUT_WR);
	} else if (argument & 1) {
		(void)recv(ends[n], bytes, sizeof(bytes), 0);
	} else {
		(void)send(ends[n], bytes, argument, MSG_NOSIGNAL);
	}
}

static void turn(struct loop *loop)
{
	bool never = false;

	(void)loop_run_until(loop, &never, 0);
}

static void step(struct loop *loop, uint8_t what, uint8_t argument)
{
	struct ttrpc_pending *p = nth(what >> 3);

	switch (what & 7) {
	case 0:
	case 1:
		if (p)
			answer(p, argument, argument & 4 ? 0 : argument);
		break;
	case 2:
		if (p)
			answer(p, argument, SOCKET_RELAY_MAX + (argument & 1));
		break;
	case 3:
		if (p)
			fail(p, argument);
		break;
	case 4:
		accept_one(servers[argument & 1]);
		break;
	case 5:
		use_end(what >> 3, argument);
		break;
	default:
		turn(loop);
		break;
	}
}

/* Connections that the servers haven't accepted belong to this run. */
static void close_ends(void)
{
	for (int i = 0; i < 2; i++)
		for (int fd; (fd = accept4(servers[i], NULL, NULL, SOCK_CLOEXEC)) >= 0;)
			close(fd);
	while (n_ends > 0)
		close(ends[--n_ends]);
}

static void run(const uint8_t *data, size_t size)
{
	struct host_sockets *hs;
	struct loop *loop;
	char list[64];

	snprintf(list, sizeof(list), "%s/*", dir);
	if (loop_new(&loop) < 0 ||
	    host_sockets_new(loop, (struct ttrpc_client *)&calls, list, &hs) < 0)
		abort();
	offer(hs, "stream");
	offer(hs, "messages");
	for (size_t i = 0; i + 1 < size; i += 2)
		step(loop, data[i], data[i + 1]);
	host_sockets_free(hs);
	if (n_calls > 0)
		abort();
	close_ends();
	loop_free(loop);
}

static void clean_up(void)
{
	socket_dir_done(&where);
	(void)rm_rf(AT_FDCWD, dir);
}

/* The servers are there for all runs. */
static void prepare(void)
{
	log_init(-1, LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
	list_init(&calls);
	strcpy(dir, "/tmp/podvm-fuzz.XXXXXX");
	if (!mkdtemp(dir) || atexit(clean_up) != 0 || socket_dir_init(&where, dir, false, NULL) < 0)
		abort();
	servers[0] = start_server("stream", SOCK_STREAM);
	servers[1] = start_server("messages", SOCK_SEQPACKET);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!*dir)
		prepare();
	run(data, size);
	return 0;
}
