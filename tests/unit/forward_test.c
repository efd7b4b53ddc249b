/* SPDX-License-Identifier: Apache-2.0 */
/* Port-forward between a listening socket and an agent that the test plays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "proto/agent.pb-c.h"
#include "sandbox/forward.h"

#include "fake_agent.h"

#define DEADLINE_MS 60000

/**
 * struct fixture - A forwarder and what its agent has seen
 * @refuse:	Nobody listens in the guest
 * @hold:	The next Connect isn't answered but kept in @held
 * @port:	That was asked for
 * @id:		Of the last connection
 * @input:	What came from the client
 * @input_closed: It has ended
 * @read:	A ReadOutput that waits
 * @got, @removed: Something was done, for loop_run_until()
 */
struct fixture {
	struct loop *loop;
	struct fake_agent agent;
	struct ttrpc_client *client;
	struct forward *forward;
	int listener;
	uint16_t listener_port;
	bool refuse;
	bool hold;
	struct ttrpc_call *held;
	uint32_t port;
	bool connected;
	char id[32];
	struct buf input;
	bool input_closed;
	struct ttrpc_call *read;
	bool got;
	bool removed;
};

static void serve_connect(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	const Podvm__Agent__V1__ConnectRequest *req = (const void *)msg;
	struct fixture *f = data;

	f->port = req->port;
	f->connected = true;
	assert_true(strlen(req->connection_id) < sizeof(f->id));
	strcpy(f->id, req->connection_id);
	if (f->hold)
		f->held = call;
	else if (f->refuse)
		ttrpc_reply_error(call, TTRPC_UNAVAILABLE, "nobody listens");
	else
		reply_empty(call);
}

static void serve_read(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	const Podvm__Agent__V1__ReadOutputRequest *req = (const void *)msg;
	struct fixture *f = data;

	assert_string_equal(req->container_id, "");
	assert_string_equal(req->exec_id, f->id);
	assert_null(f->read);
	f->read = call;
	f->got = true;
}

static void serve_write(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	const Podvm__Agent__V1__WriteInputRequest *req = (const void *)msg;
	struct fixture *f = data;

	assert_int_equal(buf_append(&f->input, req->data.data, req->data.len), 0);
	reply_empty(call);
}

static void serve_close(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	struct fixture *f = data;

	f->input_closed = true;
	reply_empty(call);
}

static void serve_remove(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	const Podvm__Agent__V1__ProcessRequest *req = (const void *)msg;
	struct fixture *f = data;

	assert_string_equal(req->exec_id, f->id);
	f->removed = true;
	reply_empty(call);
	if (f->read)
		ttrpc_reply_error(TAKE_PTR(f->read), TTRPC_NOT_FOUND, "removed");
}

/* The guest's server says something, or that this was all. */
static void say(struct fixture *f, const char *text)
{
	Podvm__Agent__V1__ReadOutputResponse resp = PODVM__AGENT__V1__READ_OUTPUT_RESPONSE__INIT;

	f->got = false;
	resp.data.data = (uint8_t *)text;
	resp.data.len = strlen(text);
	resp.eof = !*text;
	ttrpc_reply(TAKE_PTR(f->read), &resp.base);
}

static int start_agent(struct fixture *f)
{
	fake_agent_serve(&f->agent, "Connect", serve_connect);
	fake_agent_serve(&f->agent, "ReadOutput", serve_read);
	fake_agent_serve(&f->agent, "WriteInput", serve_write);
	fake_agent_serve(&f->agent, "CloseInput", serve_close);
	fake_agent_serve(&f->agent, "RemoveProcess", serve_remove);
	return fake_agent_start(&f->agent, f->loop, f, &f->client);
}

static int setup(void **state)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct fixture *f = calloc(1, sizeof(*f));
	socklen_t len = sizeof(addr);

	signal(SIGPIPE, SIG_IGN);
	*state = f;
	if (!f || loop_new(&f->loop) < 0 || start_agent(f) < 0)
		return -1;
	f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (f->listener < 0 || bind(f->listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(f->listener, 5) < 0 ||
	    getsockname(f->listener, (struct sockaddr *)&addr, &len) < 0)
		return -1;
	f->listener_port = ntohs(addr.sin_port);
	return forward_new(f->loop, f->client, f->listener, &f->forward);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	forward_free(f->forward);
	if (f->read)
		ttrpc_reply_error(f->read, TTRPC_NOT_FOUND, "the end");
	if (f->held)
		ttrpc_reply_error(f->held, TTRPC_UNAVAILABLE, "the end");
	ttrpc_client_free(f->client);
	fake_agent_end(&f->agent);
	loop_free(f->loop);
	buf_done(&f->input);
	close(f->listener);
	free(f);
	return 0;
}

/* A client of the pod's localhost; reads of it fail rather than wait for ever. */
static int connect_client(struct fixture *f)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_port = htons(f->listener_port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct timeval deadline = { .tv_sec = DEADLINE_MS / 1000 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
	return fd;
}

static void wait_for(struct fixture *f, const bool *done)
{
	assert_int_equal(loop_run_until(f->loop, done, DEADLINE_MS), 0);
}

static void test_both_ways(void **state)
{
	struct fixture *f = *state;
	int fd = connect_client(f);
	char buf[16];

	assert_int_equal(write(fd, "question", 8), 8);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	wait_for(f, &f->input_closed);
	assert_int_equal(f->port, f->listener_port);
	assert_string_equal(buf_cstr(&f->input), "question");
	wait_for(f, &f->got);
	say(f, "answer");
	wait_for(f, &f->got);
	say(f, "");
	wait_for(f, &f->removed);
	assert_int_equal(fd_read_full(fd, buf, sizeof(buf)), 6);
	assert_memory_equal(buf, "answer", 6);
	close(fd);
}

static void test_refused(void **state)
{
	struct fixture *f = *state;
	bool never = false;
	char byte;
	int fd;

	f->refuse = true;
	fd = connect_client(f);
	errno = EAGAIN;
	for (int i = 0; i < DEADLINE_MS / 10 && errno == EAGAIN; i++) {
		(void)loop_run_until(f->loop, &never, 10);
		errno = 0;
		assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
	}
	assert_int_equal(errno, ECONNRESET);
	assert_false(f->removed);
	close(fd);
}

/* The client has gone: the guest's connection is closed even if its server talks on. */
static void test_client_gone(void **state)
{
	struct fixture *f = *state;
	struct linger reset = { .l_onoff = 1 };
	int fd = connect_client(f);

	wait_for(f, &f->got);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
	wait_for(f, &f->input_closed);
	while (!f->removed && f->read) {
		say(f, "is anybody there?");
		while (!f->got && !f->removed)
			(void)loop_run_until(f->loop, &f->got, 10);
	}
	assert_true(f->removed);
}

static void test_free_while_open(void **state)
{
	struct fixture *f = *state;
	int fd = connect_client(f);
	char byte;

	wait_for(f, &f->got);
	forward_free(TAKE_PTR(f->forward));
	assert_int_equal(read(fd, &byte, 1), 0);
	close(fd);
}

static void test_many(void **state)
{
	struct fixture *f = *state;
	char buf[16];

	for (int i = 0; i < 20; i++) {
		int fd = connect_client(f);

		f->got = f->removed = false;
		wait_for(f, &f->got);
		say(f, "");
		wait_for(f, &f->removed);
		assert_int_equal(read(fd, buf, sizeof(buf)), 0);
		close(fd);
	}
}

/* While one connection is open, there's no descriptor for another; later there is. */
static void test_out_of_descriptors(void **state)
{
	struct fixture *f = *state;
	bool never = false;
	struct rlimit limit;
	struct rlimit none;
	int first = connect_client(f);
	int second;

	f->hold = true;
	wait_for(f, &f->connected);
	f->hold = f->connected = false;
	second = connect_client(f);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	for (int i = 0; i < 10; i++)
		(void)loop_run_until(f->loop, &never, 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_false(f->connected);
	wait_for(f, &f->connected);
	close(first);
	close(second);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_both_ways),	    TEST(test_refused), TEST(test_client_gone),
		TEST(test_free_while_open), TEST(test_many),	TEST(test_out_of_descriptors),
	};

	return cmocka_run_group_tests_name("forward", tests, NULL, NULL);
}
