/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of the host for a guest: servers that the test itself is, and an agent that it plays.
 * That one answers Accept when the test says so, and keeps a ReadOutput for each connection.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fdpass.h"
#include "base/str.h"
#include "proto/agent.pb-c.h"
#include "sandbox/host_socket.h"
#include "sandbox/socket_relay.h"

#include "fake_agent.h"

#define DEADLINE_MS 60000
#define KEPT	    (HOST_SOCKETS_CONNECTIONS + 8)

/* A ReadOutput that waits, and of which connection. */
struct reading {
	struct ttrpc_call *call;
	char id[32];
};

/**
 * struct fixture - Sockets, and what their agent has seen
 * @dir:	Directory of the servers
 * @listener:	Of the last server
 * @accept:	That waits, for connection @next_id
 * @id:		Of the last connection that the guest has made
 * @input:	Pieces that came for the guest, each ended by a '|'
 * @input_closed: CloseInput came
 * @n_removed:	RemoveProcess came so often
 * @mute:	It isn't answered but kept in @held
 * @turn:	Something came, for loop_run_until()
 */
struct fixture {
	struct loop *loop;
	struct fake_agent agent;
	struct ttrpc_client *client;
	struct host_sockets *hs;
	struct socket_dir where;
	char dir[32];
	char list[128];
	int listener;
	struct ttrpc_call *accept;
	char next_id[32];
	char id[32];
	struct reading readings[KEPT];
	struct buf input;
	bool input_closed;
	unsigned int n_removed;
	bool mute;
	struct ttrpc_call *held;
	bool turn;
};

/* ---- the agent ---- */

static void serve_accept(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	const Podvm__Agent__V1__AcceptRequest *req = (const void *)msg;
	struct fixture *f = data;

	assert_null(f->accept);
	f->accept = call;
	snprintf(f->next_id, sizeof(f->next_id), "%s", req->connection_id);
	f->turn = true;
}

static struct reading *find_reading(struct fixture *f, const char *id)
{
	for (size_t i = 0; i < KEPT; i++)
		if (f->readings[i].call && str_eq(f->readings[i].id, id))
			return &f->readings[i];
	return NULL;
}

static void serve_read(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	const Podvm__Agent__V1__ReadOutputRequest *req = (const void *)msg;
	struct fixture *f = data;
	struct reading *free_one = f->readings;

	assert_null(find_reading(f, req->exec_id));
	assert_int_equal(req->max, SOCKET_RELAY_MAX);
	while (free_one->call)
		free_one++;
	free_one->call = call;
	snprintf(free_one->id, sizeof(free_one->id), "%s", req->exec_id);
	f->turn = true;
}

static void serve_write(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	const Podvm__Agent__V1__WriteInputRequest *req = (const void *)msg;
	struct fixture *f = data;

	assert_int_equal(buf_append(&f->input, req->data.data, req->data.len), 0);
	assert_int_equal(buf_append(&f->input, "|", 1), 0);
	reply_empty(call);
	f->turn = true;
}

static void serve_close(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	struct fixture *f = data;

	f->input_closed = true;
	reply_empty(call);
	f->turn = true;
}

static void serve_remove(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	const Podvm__Agent__V1__ProcessRequest *req = (const void *)msg;
	struct fixture *f = data;
	struct reading *r = find_reading(f, req->exec_id);

	if (r)
		ttrpc_reply_error(TAKE_PTR(r->call), TTRPC_NOT_FOUND, "removed");
	f->n_removed++;
	f->turn = true;
	if (f->mute)
		f->held = call;
	else
		reply_empty(call);
}

static int start_agent(struct fixture *f)
{
	fake_agent_serve(&f->agent, "Accept", serve_accept);
	fake_agent_serve(&f->agent, "ReadOutput", serve_read);
	fake_agent_serve(&f->agent, "WriteInput", serve_write);
	fake_agent_serve(&f->agent, "CloseInput", serve_close);
	fake_agent_serve(&f->agent, "RemoveProcess", serve_remove);
	return fake_agent_start(&f->agent, f->loop, f, &f->client);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	signal(SIGPIPE, SIG_IGN);
	if (!f || loop_new(&f->loop) < 0)
		return -1;
	f->listener = -EBADF;
	snprintf(f->dir, sizeof(f->dir), "/tmp/podvm-test.XXXXXX");
	if (!mkdtemp(f->dir) || start_agent(f) < 0)
		return -1;
	snprintf(f->list, sizeof(f->list), "%s/*.sock", f->dir);
	if (socket_dir_init(&f->where, f->dir, false, NULL) < 0)
		return -1;
	return host_sockets_new(f->loop, f->client, f->list, &f->hs);
}

static void give_up(struct ttrpc_call *call)
{
	if (call)
		ttrpc_reply_error(call, TTRPC_CANCELED, "the test ends");
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	give_up(f->accept);
	give_up(f->held);
	for (size_t i = 0; i < KEPT; i++)
		give_up(f->readings[i].call);
	host_sockets_free(f->hs);
	socket_dir_done(&f->where);
	ttrpc_client_free(f->client);
	fake_agent_end(&f->agent);
	loop_free(f->loop);
	close_fdp(&f->listener);
	buf_done(&f->input);
	rm_rf(AT_FDCWD, f->dir);
	free(f);
	return 0;
}

/* ---- what the test does ---- */

#define await(f, condition)                                                                      \
	do {                                                                                     \
		while (!(condition)) {                                                           \
			(f)->turn = false;                                                       \
			assert_int_equal(loop_run_until((f)->loop, &(f)->turn, DEADLINE_MS), 0); \
		}                                                                                \
	} while (0)

static void start_server(struct fixture *f, const char *name, int type, int backlog)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	close_fdp(&f->listener);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", f->dir, name);
	(void)unlink(addr.sun_path);
	f->listener = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	assert_true(f->listener >= 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	if (type != SOCK_DGRAM)
		assert_int_equal(listen(f->listener, backlog), 0);
}

/* Return: Its number or a negative errno */
static int offer(struct fixture *f, const char *name, bool *messages)
{
	struct socket_offer o = { .owner = f, .key = name, .dir = &f->where, .name = name };
	uint32_t number = 0;
	int r = host_sockets_offer(f->hs, &o, &number, messages);

	return r < 0 ? r : (int)number;
}

static int offer_server(struct fixture *f, int type)
{
	bool messages;
	int number;

	start_server(f, "a.sock", type, 128);
	number = offer(f, "a.sock", &messages);
	assert_true(number > 0);
	assert_int_equal(messages, type == SOCK_SEQPACKET);
	return number;
}

/* Somebody in the guest connects. */
static void guest_connects(struct fixture *f, int number)
{
	Podvm__Agent__V1__AcceptResponse resp = PODVM__AGENT__V1__ACCEPT_RESPONSE__INIT;

	await(f, f->accept);
	snprintf(f->id, sizeof(f->id), "%s", f->next_id);
	resp.socket = (uint32_t)number;
	ttrpc_reply(TAKE_PTR(f->accept), &resp.base);
}

/* The server's end of the connection that was made last. */
static int accepted(struct fixture *f)
{
	int fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static int connected(struct fixture *f, int type)
{
	int fd;

	guest_connects(f, offer_server(f, type));
	await(f, find_reading(f, f->id));
	fd = accepted(f);
	/* A seqpacket server has seen that its type was looked for. */
	if (type == SOCK_SEQPACKET) {
		close(fd);
		fd = accepted(f);
	}
	return fd;
}

/* The guest's end says something; "" that it won't any more, or (@closed) that it has gone. */
static void guest_says(struct fixture *f, const void *data, size_t n, bool closed)
{
	Podvm__Agent__V1__ReadOutputResponse resp = PODVM__AGENT__V1__READ_OUTPUT_RESPONSE__INIT;
	struct reading *r;

	await(f, (r = find_reading(f, f->id)));
	resp.data.data = (uint8_t *)data;
	resp.data.len = n;
	resp.eof = n == 0;
	resp.closed = closed;
	ttrpc_reply(TAKE_PTR(r->call), &resp.base);
}

static void assert_receives(int fd, const char *want)
{
	char text[64];

	assert_int_equal(recv(fd, text, sizeof(text), 0), strlen(want));
	assert_memory_equal(text, want, strlen(want));
}

static void assert_input(struct fixture *f, const char *want)
{
	await(f, buf_len(&f->input) >= strlen(want));
	assert_string_equal(buf_cstr(&f->input), want);
}

/* ---- tests ---- */

static void test_both_ways(void **state)
{
	struct fixture *f = *state;
	int fd = connected(f, SOCK_STREAM);

	guest_says(f, "ping", 4, false);
	await(f, find_reading(f, f->id));
	assert_receives(fd, "ping");
	assert_int_equal(send(fd, "pong", 4, 0), 4);
	assert_input(f, "pong|");
	guest_says(f, "", 0, false);
	assert_int_equal(send(fd, "more", 4, 0), 4);
	assert_input(f, "pong|more|");
	assert_receives(fd, "");
	assert_int_equal(f->n_removed, 0);
	close(fd);
	await(f, f->n_removed == 1);
}

static void test_server_ends_first(void **state)
{
	struct fixture *f = *state;
	int fd = connected(f, SOCK_STREAM);

	assert_int_equal(send(fd, "all", 3, 0), 3);
	shutdown(fd, SHUT_WR);
	await(f, f->input_closed);
	assert_input(f, "all|");
	guest_says(f, "thanks", 6, false);
	await(f, find_reading(f, f->id));
	assert_receives(fd, "thanks");
	assert_int_equal(f->n_removed, 0);
	guest_says(f, "", 0, false);
	await(f, f->n_removed == 1);
	close(fd);
}

static void test_server_dies(void **state)
{
	struct fixture *f = *state;

	close(connected(f, SOCK_STREAM));
	await(f, f->n_removed == 1);
	assert_false(f->input_closed);
}

static void test_guest_dies(void **state)
{
	struct fixture *f = *state;
	int fd = connected(f, SOCK_STREAM);

	guest_says(f, "", 0, true);
	await(f, f->n_removed == 1);
	assert_receives(fd, "");
	assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
	close(fd);
}

static void test_messages(void **state)
{
	struct fixture *f = *state;
	int fd = connected(f, SOCK_SEQPACKET);

	guest_says(f, "one", 3, false);
	guest_says(f, "two", 3, false);
	await(f, find_reading(f, f->id));
	assert_receives(fd, "one");
	assert_receives(fd, "two");
	assert_int_equal(send(fd, "three", 5, 0), 5);
	assert_int_equal(send(fd, "four", 4, 0), 4);
	assert_input(f, "three|four|");
	close(fd);
}

/* One piece is kept here, and no more is asked for. */
static void test_slow_server(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *piece = calloc(1, SOCKET_RELAY_MAX);
	int fd = connected(f, SOCK_STREAM);
	size_t said = 0;
	size_t got = 0;
	int there = 4096;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &there, sizeof(there)), 0);
	while (said < 64 && find_reading(f, f->id)) {
		guest_says(f, piece, SOCKET_RELAY_MAX, false);
		said++;
		/* An answer to another call: what came before it has been dealt with. */
		assert_int_equal(send(fd, "x", 1, 0), 1);
		await(f, buf_len(&f->input) == 2 * said);
	}
	assert_true(said < 64);
	/* It's all there when the server reads on. */
	while (!find_reading(f, f->id)) {
		got += (size_t)MAX(recv(fd, piece, SOCKET_RELAY_MAX, MSG_DONTWAIT), 0);
		f->turn = false;
		(void)loop_run_until(f->loop, &f->turn, 1);
	}
	assert_true(got > 0);
	assert_int_equal(f->n_removed, 0);
	close(fd);
}

static void test_protocol_errors(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *piece = calloc(1, SOCKET_RELAY_MAX + 1);
	int fd = connected(f, SOCK_STREAM);

	guest_says(f, piece, SOCKET_RELAY_MAX + 1, false);
	await(f, f->n_removed == 1);
	assert_receives(fd, "");
	close(fd);
}

static void test_descriptor(void **state)
{
	struct fixture *f = *state;
	int fd = connected(f, SOCK_STREAM);

	assert_int_equal(fdpass_send(fd, "x", 1, &fd, 1), 0);
	await(f, f->n_removed == 1);
	assert_int_equal(buf_len(&f->input), 0);
	assert_receives(fd, "");
	close(fd);
}

static void test_what_is_offered(void **state)
{
	struct fixture *f = *state;
	char link[64];
	bool messages;
	int number = offer_server(f, SOCK_STREAM);

	assert_int_equal(offer(f, "a.sock", &messages), number);
	start_server(f, "unlisted", SOCK_STREAM, 1);
	assert_int_equal(offer(f, "unlisted", &messages), -EPERM);
	start_server(f, "d.sock", SOCK_DGRAM, 0);
	assert_int_equal(offer(f, "d.sock", &messages), -EPROTOTYPE);
	assert_int_equal(offer(f, "missing.sock", &messages), -ENOENT);
	snprintf(link, sizeof(link), "%s/l.sock", f->dir);
	assert_int_equal(symlink("a.sock", link), 0);
	assert_int_equal(offer(f, "l.sock", &messages), -ENOTSOCK);
}

static void test_another_server(void **state)
{
	struct fixture *f = *state;
	bool messages;
	int number = offer_server(f, SOCK_STREAM);

	/* Nobody listens: it may become either. */
	close_fdp(&f->listener);
	f->listener = -EBADF;
	guest_connects(f, number);
	await(f, f->n_removed == 1);
	assert_int_equal(offer_server(f, SOCK_STREAM), number);
	guest_connects(f, number);
	await(f, find_reading(f, f->id));
	close(accepted(f));
	/* Of another type it's another socket. */
	start_server(f, "a.sock", SOCK_SEQPACKET, 5);
	number = offer(f, "a.sock", &messages) - number;
	assert_true(number > 0);
	assert_true(messages);
}

static bool keeps_nothing(const void *data, const char *key)
{
	return false;
}

static void test_withdrawn(void **state)
{
	struct fixture *f = *state;
	int number = offer_server(f, SOCK_STREAM);

	host_sockets_keep(f->hs, f, keeps_nothing, NULL);
	guest_connects(f, number);
	await(f, f->n_removed == 1);
	guest_connects(f, 4711);
	await(f, f->n_removed == 2);
}

/* What has the directory's path now is another one. */
static void test_another_directory(void **state)
{
	struct fixture *f = *state;
	int number = offer_server(f, SOCK_STREAM);
	_cleanup_(freep) char *away = str_printf("%s.away", f->dir);

	assert_int_equal(rename(f->dir, away), 0);
	assert_int_equal(mkdir(f->dir, 0700), 0);
	start_server(f, "a.sock", SOCK_STREAM, 1);
	guest_connects(f, number);
	await(f, f->n_removed == 1);
	assert_int_equal(rm_rf(AT_FDCWD, away), 0);
}

static void test_full_backlog(void **state)
{
	struct fixture *f = *state;
	bool messages;
	int number;

	start_server(f, "a.sock", SOCK_STREAM, 0);
	number = offer(f, "a.sock", &messages);
	guest_connects(f, number);
	await(f, find_reading(f, f->id));
	guest_connects(f, number);
	await(f, f->accept);
	assert_null(find_reading(f, f->id));
	close(accepted(f));
	await(f, find_reading(f, f->id));
	close(accepted(f));
}

static void test_limit(void **state)
{
	struct fixture *f = *state;
	int number = offer_server(f, SOCK_STREAM);
	int fds[HOST_SOCKETS_CONNECTIONS];

	for (int i = 0; i < HOST_SOCKETS_CONNECTIONS; i++) {
		guest_connects(f, number);
		await(f, find_reading(f, f->id));
		fds[i] = accepted(f);
	}
	/* One more has to go before there's another one. */
	f->mute = true;
	guest_connects(f, number);
	await(f, f->held);
	assert_null(f->accept);
	f->mute = false;
	reply_empty(TAKE_PTR(f->held));
	await(f, f->accept);
	close(fds[0]);
	await(f, f->n_removed == 2);
	guest_connects(f, number);
	await(f, find_reading(f, f->id));
	for (int i = 1; i < HOST_SOCKETS_CONNECTIONS; i++)
		close(fds[i]);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_both_ways),	    TEST(test_server_ends_first),
		TEST(test_server_dies),	    TEST(test_guest_dies),
		TEST(test_messages),	    TEST(test_slow_server),
		TEST(test_protocol_errors), TEST(test_descriptor),
		TEST(test_what_is_offered), TEST(test_another_server),
		TEST(test_withdrawn),	    TEST(test_another_directory),
		TEST(test_full_backlog),    TEST(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
