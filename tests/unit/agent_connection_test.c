/* SPDX-License-Identifier: Apache-2.0 */
/* Connect: the agent's connections to localhost, with servers that the test itself is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/agent.h"
#include "agent/connection.h"
#include "base/cleanup.h"
#include "base/str.h"

#include "real_agent.h"

struct fixture {
	struct loop *loop;
	struct agent agent;
	struct ttrpc_client *client;
	int listener;
	uint16_t port;
};

static int setup(void **state)
{
	struct fixture *t = calloc(1, sizeof(*t));

	*state = t;
	if (!t || real_agent_start(&t->loop, &t->agent, &t->client) < 0)
		return -1;
	t->listener = -EBADF;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *t = *state;

	real_agent_stop(t->loop, &t->agent, t->client);
	close_fdp(&t->listener);
	free(t);
	return 0;
}

/* A server on a port of 127.0.0.1 or ::1 alone. */
static void start_server(struct fixture *t, int family)
{
	struct sockaddr_in v4 = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
	};
	struct sockaddr *addr = family == AF_INET6 ? (void *)&v6 : (void *)&v4;
	socklen_t len = family == AF_INET6 ? sizeof(v6) : sizeof(v4);

	t->listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(t->listener >= 0);
	if (bind(t->listener, addr, len) < 0) /* a machine without IPv6 */
		skip();
	assert_int_equal(listen(t->listener, 5), 0);
	assert_int_equal(getsockname(t->listener, addr, &len), 0);
	t->port = ntohs(family == AF_INET6 ? v6.sin6_port : v4.sin_port);
}

static int call(struct fixture *t, const char *method, const ProtobufCMessage *req,
		ProtobufCMessage **ret, struct err *e)
{
	memset(e, 0, sizeof(*e));
	return ttrpc_call_sync(t->loop, t->client, SERVICE, method, req, DEADLINE_MS, ret, e);
}

static int call_connect(struct fixture *t, const char *id, uint32_t port, struct err *e)
{
	PB(ConnectRequest) req = PODVM__AGENT__V1__CONNECT_REQUEST__INIT;

	req.connection_id = (char *)id;
	req.port = port;
	return call(t, "Connect", &req.base, NULL, e);
}

static int call_simple(struct fixture *t, const char *method, const char *id)
{
	PB(ProcessRequest) req = PODVM__AGENT__V1__PROCESS_REQUEST__INIT;
	struct err e;

	req.exec_id = (char *)id;
	return call(t, method, &req.base, NULL, &e);
}

static int call_write(struct fixture *t, const char *id, const char *text)
{
	PB(WriteInputRequest) req = PODVM__AGENT__V1__WRITE_INPUT_REQUEST__INIT;
	struct err e;

	req.exec_id = (char *)id;
	req.data.data = (uint8_t *)text;
	req.data.len = strlen(text);
	return call(t, "WriteInput", &req.base, NULL, &e);
}

/* What is read next; "" at the end. */
static void assert_reads(struct fixture *t, const char *id, const char *want)
{
	PB(ReadOutputRequest) req = PODVM__AGENT__V1__READ_OUTPUT_REQUEST__INIT;
	ProtobufCMessage *msg = NULL;
	PB(ReadOutputResponse) * resp;
	struct err e;

	req.exec_id = (char *)id;
	req.stream = PODVM__AGENT__V1__READ_OUTPUT_REQUEST__STREAM__STDOUT;
	assert_int_equal(call(t, "ReadOutput", &req.base, &msg, &e), 0);
	resp = (void *)msg;
	assert_int_equal(resp->eof, *want == '\0');
	assert_int_equal(resp->data.len, strlen(want));
	if (*want)
		assert_memory_equal(resp->data.data, want, strlen(want));
	protobuf_c_message_free_unpacked(msg, NULL);
}

static int accept_one(struct fixture *t)
{
	int fd = accept4(t->listener, NULL, NULL, SOCK_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void check_both_ways(struct fixture *t, int family)
{
	struct err e;
	char buf[16];
	int fd;

	start_server(t, family);
	assert_int_equal(call_connect(t, "7", t->port, &e), 0);
	fd = accept_one(t);
	assert_int_equal(call_write(t, "7", "question"), 0);
	assert_int_equal(read(fd, buf, sizeof(buf)), 8);
	assert_memory_equal(buf, "question", 8);
	/* The end of our direction is told, the other one goes on. */
	assert_int_equal(call_simple(t, "CloseInput", "7"), 0);
	assert_int_equal(read(fd, buf, sizeof(buf)), 0);
	assert_int_equal(write(fd, "answer", 6), 6);
	assert_reads(t, "7", "answer");
	close(fd);
	assert_reads(t, "7", "");
	assert_int_equal(call_simple(t, "RemoveProcess", "7"), 0);
	assert_int_equal(call_simple(t, "RemoveProcess", "7"), -ENOENT);
	assert_int_equal(t->agent.n_connections, 0);
}

static void test_both_ways(void **state)
{
	check_both_ways(*state, AF_INET);
}

static void test_ipv6_only(void **state)
{
	check_both_ways(*state, AF_INET6);
}

static void test_refused(void **state)
{
	struct fixture *t = *state;
	struct err e;

	start_server(t, AF_INET);
	close(TAKE_FD(t->listener));
	assert_int_equal(call_connect(t, "1", t->port, &e), ttrpc_code_to_errno(TTRPC_UNAVAILABLE));
	assert_non_null(strstr(e.msg, "nobody listens on port"));
	assert_int_equal(t->agent.n_connections, 0);
	assert_int_equal(call_simple(t, "CloseInput", "1"), -ENOENT);
}

static void test_invalid(void **state)
{
	struct fixture *t = *state;
	struct err e;

	start_server(t, AF_INET);
	assert_int_equal(call_connect(t, "", t->port, &e), -EINVAL);
	assert_int_equal(call_connect(t, "../x", t->port, &e), -EINVAL);
	assert_int_equal(call_connect(t, "a234567890b234567890c234567890d2", t->port, &e), -EINVAL);
	assert_int_equal(call_connect(t, "1", 0, &e), -EINVAL);
	assert_int_equal(call_connect(t, "1", 65536, &e), -EINVAL);
	assert_int_equal(call_connect(t, "1", t->port, &e), 0);
	assert_int_equal(call_connect(t, "1", t->port, &e), -EEXIST);
}

/* Removing one closes it, whatever is under way. */
static void test_remove(void **state)
{
	struct fixture *t = *state;
	struct pollfd p = { .events = POLLIN };
	struct err e;
	char byte;

	start_server(t, AF_INET);
	assert_int_equal(call_connect(t, "1", t->port, &e), 0);
	p.fd = accept_one(t);
	assert_int_equal(call_simple(t, "RemoveProcess", "1"), 0);
	assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
	assert_int_equal(read(p.fd, &byte, 1), 0);
	close(p.fd);
}

static void test_limit(void **state)
{
	struct fixture *t = *state;
	int fds[CONNECTIONS_MAX];
	struct err e;

	start_server(t, AF_INET);
	for (int i = 0; i < CONNECTIONS_MAX; i++) {
		char id[16];

		snprintf(id, sizeof(id), "%d", i);
		assert_int_equal(call_connect(t, id, t->port, &e), 0);
		fds[i] = accept_one(t);
	}
	assert_int_equal(call_connect(t, "more", t->port, &e),
			 ttrpc_code_to_errno(TTRPC_RESOURCE_EXHAUSTED));
	assert_int_equal(call_simple(t, "RemoveProcess", "0"), 0);
	assert_int_equal(call_connect(t, "more", t->port, &e), 0);
	for (int i = 0; i < CONNECTIONS_MAX; i++)
		close(fds[i]);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_both_ways), TEST(test_ipv6_only), TEST(test_refused),
		TEST(test_invalid),   TEST(test_remove),    TEST(test_limit),
	};

	return cmocka_run_group_tests_name("agent_connection", tests, NULL, NULL);
}
