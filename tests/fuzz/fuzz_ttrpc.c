/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both sides of ttrpc, fed with the same bytes in odd-sized pieces: a server as requests, a client
 * with calls under way as answers. The first byte is the size of the pieces.
 */
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/loop.h"
#include "ttrpc_echo.h"

#define CALLS 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void turn(struct loop *loop)
{
	bool never = false;

	(void)loop_run_until(loop, &never, 0);
}

/* Takes what our side says, so that it never waits for us. */
static void drain(int fd)
{
	char chunk[65536];

	while (recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT) > 0)
		;
}

/* Feed everything, then hang up. */
static void feed(struct loop *loop, int fd, const uint8_t *data, size_t size)
{
	size_t piece = size > 0 ? (size_t)data[0] + size / 16 + 1 : 1;
	size_t off = 1;

	while (off < size) {
		ssize_t n = send(fd, data + off, MIN(piece, size - off),
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0)
			off += (size_t)n;
		else
			check(errno == EAGAIN);
		turn(loop);
		drain(fd);
	}
	close(fd);
	turn(loop);
	turn(loop);
}

static void count_up(void *data)
{
	(*(int *)data)++;
}

static void feed_server(struct loop *loop, const int fds[2], const uint8_t *data, size_t size)
{
	struct echo echo = { 0 };
	struct ttrpc_service service = { ECHO_DESC, NULL, echo_handlers, &echo };
	struct ttrpc_server *server;
	int closed = 0;

	check(ttrpc_server_new(loop, &service, 1, &server) == 0);
	check(ttrpc_server_add(server, fds[1], count_up, &closed) == 0);
	feed(loop, fds[0], data, size);
	check(closed == 1);
	echo_release(&echo);
	ttrpc_server_free(server);
}

static void on_done(void *data, const ProtobufCMessage *resp, const struct err *e)
{
	check(!resp == !!e);
	(*(int *)data)++;
}

static void feed_client(struct loop *loop, const int fds[2], const uint8_t *data, size_t size)
{
	static const char *const methods[CALLS] = { "Echo", "Hold", "Nothing", "Nest" };
	Podvm__Test__Empty empty = PODVM__TEST__EMPTY__INIT;
	struct ttrpc_client *client;
	int ended[CALLS] = { 0 };
	int closed = 0;

	check(ttrpc_client_new(loop, fds[1], count_up, &closed, &client) == 0);
	for (size_t i = 0; i < CALLS; i++)
		check(ttrpc_call(client, ECHO_DESC, methods[i], &empty.base, 0, on_done, &ended[i],
				 NULL) == 0);
	feed(loop, fds[0], data, size);
	check(closed == 1);
	for (size_t i = 0; i < CALLS; i++)
		check(ended[i] == 1);
	ttrpc_client_free(client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct loop *loop;
	int fds[2];

	check(loop_new(&loop) == 0);
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	feed_server(loop, fds, data, size);
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	feed_client(loop, fds, data, size);
	loop_free(loop);
	return 0;
}
