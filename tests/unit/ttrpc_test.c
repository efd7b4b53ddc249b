/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>

#include "base/fd.h"
#include "ttrpc/code.h"
#include "ttrpc_echo.h"

#define DEADLINE_MS 30000

/* A test that failed has left: its results, on its stack, are gone. */
static bool tearing_down;

/* A client and a server that talk through a socket pair. */
struct fixture {
	struct loop *loop;
	struct echo echo;
	struct ttrpc_service services[2];
	struct ttrpc_server *server;
	struct ttrpc_client *client;
	int client_closed;
	int server_closed;
};

static void count_up(void *data)
{
	if (tearing_down)
		return;
	(*(int *)data)++;
}

static int setup(void **state)
{
	struct fixture *t = calloc(1, sizeof(*t));
	int fds[2];

	if (!t || loop_new(&t->loop) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
		return -1;
	t->services[0] = (struct ttrpc_service){ ECHO_DESC, NULL, echo_handlers, &t->echo };
	t->services[1] = (struct ttrpc_service){ ECHO_DESC, "v2.Echo", echo_handlers, &t->echo };
	*state = t;
	if (ttrpc_server_new(t->loop, t->services, 2, &t->server) < 0 ||
	    ttrpc_server_add(t->server, fds[0], count_up, &t->server_closed) < 0)
		return -1;
	return ttrpc_client_new(t->loop, fds[1], count_up, &t->client_closed, &t->client);
}

static int teardown(void **state)
{
	struct fixture *t = *state;

	tearing_down = true;
	ttrpc_client_free(t->client);
	ttrpc_server_free(t->server);
	echo_release(&t->echo);
	tearing_down = false;
	loop_free(t->loop);
	free(t);
	return 0;
}

/**
 * struct result - How a call ended
 * @count:	Of all calls with this result
 * @number:	Of the answer
 * @free_client: Freed by the callback
 * @cancel:	Cancelled by the callback
 * @start:	Calls again from the callback
 */
struct result {
	int count;
	int wanted;
	bool done;
	int code;
	uint64_t number;
	char text[1024];
	struct ttrpc_client *free_client;
	struct ttrpc_pending *cancel;
	struct fixture *start;
	int start_result;
};

static void on_done(void *data, const ProtobufCMessage *resp, const struct err *e)
{
	struct result *r = data;

	if (tearing_down)
		return;
	assert_true(!resp == !!e);
	r->code = e ? e->code : 0;
	if (resp && resp->descriptor == &podvm__test__text__descriptor)
		r->number = ((const Podvm__Test__Text *)resp)->number;
	snprintf(r->text, sizeof(r->text), "%s",
		 e ? e->msg
		 : resp->descriptor == &podvm__test__text__descriptor
			 ? ((const Podvm__Test__Text *)resp)->text
			 : "");
	r->done = ++r->count >= r->wanted;
	if (r->start) {
		Podvm__Test__Text text = PODVM__TEST__TEXT__INIT;

		r->start_result = ttrpc_call(r->start->client, ECHO_DESC, "Echo", &text.base, 0,
					     on_done, data, NULL);
		r->start = NULL;
	}
	ttrpc_cancel(TAKE_PTR(r->cancel));
	ttrpc_client_free(r->free_client);
}

static int start_call(struct fixture *t, const char *method, const char *say, uint64_t number,
		      uint64_t timeout_ms, struct result *r, struct ttrpc_pending **ret)
{
	Podvm__Test__Text text = PODVM__TEST__TEXT__INIT;

	text.text = (char *)(uintptr_t)say;
	text.number = number;
	return ttrpc_call(t->client, ECHO_DESC, method, &text.base, timeout_ms, on_done, r, ret);
}

static void start_hold(struct fixture *t, uint64_t timeout_ms, struct result *r,
		       struct ttrpc_pending **ret)
{
	assert_int_equal(start_call(t, "Hold", "", 0, timeout_ms, r, ret), 0);
}

/* Start calls of Hold and wait until the server has them. */
static void hold(struct fixture *t, size_t n, struct result *r)
{
	t->echo.wanted = t->echo.n_held + n;
	for (size_t i = 0; i < n; i++)
		start_hold(t, 0, r, NULL);
	assert_int_equal(loop_run_until(t->loop, &t->echo.all_held, DEADLINE_MS), 0);
}

static void await(struct fixture *t, struct result *r)
{
	assert_int_equal(loop_run_until(t->loop, &r->done, DEADLINE_MS), 0);
}

static void turn(struct fixture *t)
{
	bool never = false;

	assert_int_equal(loop_run_until(t->loop, &never, 3), -ETIMEDOUT);
}

/* Many turns, however busy the machine is: what one event leads to is seen as well. */
static void settle(struct fixture *t)
{
	for (int i = 0; i < 10; i++)
		turn(t);
}

static int call_sync(struct fixture *t, const char *method, const char *say, uint64_t number,
		     struct err *e)
{
	Podvm__Test__Text text = PODVM__TEST__TEXT__INIT;

	text.text = (char *)(uintptr_t)say;
	text.number = number;
	return ttrpc_call_sync(t->loop, t->client, ECHO_DESC, method, &text.base, DEADLINE_MS, NULL,
			       e);
}

/* The connection still works. */
static void assert_alive(struct fixture *t)
{
	assert_int_equal(call_sync(t, "Echo", "alive", 0, NULL), 0);
}

/* ---- calls ---- */

static void call_gets_its_answer(void **state)
{
	struct fixture *t = *state;
	Podvm__Test__Text text = PODVM__TEST__TEXT__INIT;
	ProtobufCMessage *resp = NULL;
	struct err e = { 0 };

	text.text = (char *)"hello";
	text.number = 42;
	assert_int_equal(ttrpc_call_sync(t->loop, t->client, ECHO_DESC, "Echo", &text.base,
					 DEADLINE_MS, &resp, &e),
			 0);
	assert_string_equal(((Podvm__Test__Text *)resp)->text, "hello");
	assert_int_equal(((Podvm__Test__Text *)resp)->number, 42);
	protobuf_c_message_free_unpacked(resp, NULL);
	assert_int_equal(call_sync(t, "Nothing", NULL, 0, &e), 0);
}

static void call_never_ends_before_it_has_returned(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 1 };

	assert_int_equal(start_call(t, "Echo", "x", 7, 0, &r, NULL), 0);
	assert_int_equal(r.count, 0);
	await(t, &r);
	assert_int_equal(r.number, 7);
}

static void errors_carry_code_and_text(void **state)
{
	struct fixture *t = *state;
	struct err e = { 0 };

	assert_int_equal(call_sync(t, "Fail", "no such pod", TTRPC_NOT_FOUND, &e), -ENOENT);
	assert_string_equal(e.msg, "no such pod");
	assert_int_equal(call_sync(t, "Fail", "x", TTRPC_ALREADY_EXISTS, &e), -EEXIST);
	assert_int_equal(call_sync(t, "Fail", "", TTRPC_INTERNAL, &e), -EPROTO);
	assert_string_equal(e.msg, "Fail failed with code 13");
	assert_int_equal(call_sync(t, "Fail", "", 4711, &e), -EIO);
	/* An error object, with its hint. */
	assert_int_equal(call_sync(t, "Fail", "it", 0, &e), -ENOENT);
	assert_string_equal(e.msg, "cannot find it; look elsewhere");
}

static void error_texts_are_clean(void **state)
{
	struct fixture *t = *state;
	struct err e = { 0 };

	assert_int_equal(call_sync(t, "Fail", "a\x1b[31m\nb\xff\xc3\xbc", TTRPC_UNKNOWN, &e), -EIO);
	assert_string_equal(e.msg, "a?[31m b?\xc3\xbc");
}

static void unknown_methods_and_services_are_unimplemented(void **state)
{
	struct fixture *t = *state;
	ProtobufCServiceDescriptor other = *ECHO_DESC;
	Podvm__Test__Empty empty = PODVM__TEST__EMPTY__INIT;
	struct err e = { 0 };

	assert_int_equal(call_sync(t, "Missing", NULL, 0, &e), -EOPNOTSUPP);
	assert_string_equal(e.msg, "method Missing");
	other.name = "podvm.test.Other";
	assert_int_equal(ttrpc_call_sync(t->loop, t->client, &other, "Nothing", &empty.base,
					 DEADLINE_MS, NULL, &e),
			 -EOPNOTSUPP);
	assert_string_equal(e.msg, "service podvm.test.Other");
	/* A method that isn't in the descriptor doesn't get as far as the wire. */
	assert_int_equal(call_sync(t, "Nope", NULL, 0, &e), -ENOENT);
	assert_alive(t);
}

static void service_is_served_by_a_second_name(void **state)
{
	struct fixture *t = *state;
	ProtobufCServiceDescriptor v2 = *ECHO_DESC;
	Podvm__Test__Empty empty = PODVM__TEST__EMPTY__INIT;

	v2.name = "v2.Echo";
	assert_int_equal(ttrpc_call_sync(t->loop, t->client, &v2, "Nothing", &empty.base,
					 DEADLINE_MS, NULL, NULL),
			 0);
}

static void thousand_calls_are_answered_in_reverse_order(void **state)
{
	struct fixture *t = *state;
	struct result *r = calloc(1000, sizeof(*r));

	assert_non_null(r);
	t->echo.wanted = 1000;
	for (int i = 0; i < 1000; i++) {
		r[i].wanted = 1;
		start_hold(t, DEADLINE_MS, &r[i], NULL);
	}
	assert_int_equal(loop_run_until(t->loop, &t->echo.all_held, DEADLINE_MS), 0);
	/* One that came later is answered first. */
	assert_alive(t);
	echo_release(&t->echo);
	await(t, &r[0]);
	for (uint64_t i = 0; i < 1000; i++) {
		assert_int_equal(r[i].count, 1);
		assert_int_equal(r[i].code, 0);
		assert_int_equal(r[i].number, i);
	}
	free(r);
}

static void calls_of_a_connection_are_limited(void **state)
{
	struct fixture *t = *state;
	struct result held = { .wanted = 2048 };
	struct result r = { .wanted = 1 };

	hold(t, 2048, &held);
	start_hold(t, 0, &r, NULL);
	await(t, &r);
	assert_int_equal(r.code, -ENOBUFS);
	assert_string_equal(r.text, "2048 calls are under way already");
	echo_release(&t->echo);
	await(t, &held);
	assert_int_equal(held.code, 0);
	assert_alive(t);
}

static void memory_of_held_requests_is_limited(void **state)
{
	struct fixture *t = *state;
	_cleanup_(freep) uint8_t *big = calloc(1, (size_t)4 << 20);
	Podvm__Test__Text text = PODVM__TEST__TEXT__INIT;
	struct result held = { .wanted = 20 };
	uint64_t deadline = clock_ms() + DEADLINE_MS;

	text.data.data = big;
	text.data.len = ((size_t)4 << 20) - 1000;
	for (size_t i = 1; i <= 20; i++) {
		/* One at a time: the client's own queue is limited as well. */
		assert_int_equal(ttrpc_call(t->client, ECHO_DESC, "Hold", &text.base, 0, on_done,
					    &held, NULL),
				 0);
		while (t->echo.n_held + (size_t)held.count < i && clock_ms() < deadline)
			turn(t);
	}
	/* 64 MiB hold 15 of them and 16th a bit, the others were refused. */
	assert_int_equal(t->echo.n_held, 16);
	assert_int_equal(held.count, 4);
	assert_int_equal(held.code, -ENOBUFS);
	echo_release(&t->echo);
	await(t, &held);
	assert_alive(t);
}

/* ---- sizes ---- */

static int echo_bytes(struct fixture *t, size_t n, size_t *ret_n, struct err *e)
{
	_cleanup_(freep) uint8_t *data = malloc(n);
	Podvm__Test__Text text = PODVM__TEST__TEXT__INIT;
	ProtobufCMessage *resp = NULL;
	int r;

	assert_non_null(data);
	for (size_t i = 0; i < n; i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	text.data.data = data;
	text.data.len = n;
	r = ttrpc_call_sync(t->loop, t->client, ECHO_DESC, "Echo", &text.base, DEADLINE_MS, &resp,
			    e);
	if (r < 0)
		return r;
	*ret_n = ((Podvm__Test__Text *)resp)->data.len;
	assert_memory_equal(((Podvm__Test__Text *)resp)->data.data, data, n);
	protobuf_c_message_free_unpacked(resp, NULL);
	return 0;
}

static void messages_of_every_size_arrive(void **state)
{
	static const size_t sizes[] = { 1,	100,	 117,	  118,	       119,   127,
					128,	16383,	 16384,	  65520,       65536, 65546,
					131072, 1000000, 4 << 19, 4194300 - 60 };
	struct fixture *t = *state;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct err e = { 0 };
		size_t n = 0;

		if (echo_bytes(t, sizes[i], &n, &e) < 0)
			fail_msg("%zu bytes: %s", sizes[i], e.msg);
		assert_int_equal(n, sizes[i]);
	}
}

/* The longest data whose Request fits a frame: the answer has less around it. */
static void limit_is_exact(void **state)
{
	struct fixture *t = *state;
	/* service, method and timeout; then tag and length of payload and of data */
	size_t overhead = 2 + strlen("podvm.test.Echo") + 2 + strlen("Echo") + 6 + 5 + 5;
	struct err e = { 0 };
	size_t n = 0;

	assert_int_equal(echo_bytes(t, TTRPC_MAX_PAYLOAD - overhead, &n, &e), 0);
	assert_int_equal(echo_bytes(t, TTRPC_MAX_PAYLOAD - overhead + 1, &n, &e), -EMSGSIZE);
	assert_alive(t);
}

static void answer_that_is_too_long_becomes_an_error(void **state)
{
	struct fixture *t = *state;
	_cleanup_(freep) uint8_t *big = calloc(1, (size_t)5 << 20);
	Podvm__Test__Text text = PODVM__TEST__TEXT__INIT;
	struct result r = { .wanted = 1 };

	hold(t, 1, &r);
	text.data.data = big;
	text.data.len = (size_t)5 << 20;
	ttrpc_reply(t->echo.held[--t->echo.n_held], &text.base);
	await(t, &r);
	assert_int_equal(r.code, -ENOBUFS);
	assert_non_null(strstr(r.text, "longer than the limit"));
	assert_alive(t);
}

static void client_stops_calling_a_server_that_does_not_read(void **state)
{
	struct fixture *t = *state;
	_cleanup_(freep) uint8_t *big = calloc(1, (size_t)1 << 20);
	Podvm__Test__Text text = PODVM__TEST__TEXT__INIT;
	struct result r = { 0 };
	int calls = 0;
	int code;

	text.data.data = big;
	text.data.len = (size_t)1 << 20;
	/* The loop doesn't turn, so nobody reads. */
	while ((code = ttrpc_call(t->client, ECHO_DESC, "Echo", &text.base, 0, on_done, &r,
				  NULL)) == 0)
		calls++;
	assert_int_equal(code, -ENOBUFS);
	assert_in_range(calls, 8, 10);
	r.wanted = calls;
	await(t, &r);
	assert_int_equal(r.code, 0);
	assert_alive(t);
}

/* ---- deadlines and cancelling ---- */

static void deadline_ends_the_call_and_drops_a_late_answer(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 1 };
	uint64_t start = clock_ms();

	start_hold(t, 50, &r, NULL);
	await(t, &r);
	assert_int_equal(r.code, -ETIMEDOUT);
	assert_string_equal(r.text, "no answer to Hold within 50 ms");
	assert_in_range(clock_ms() - start, 49, DEADLINE_MS);
	assert_int_equal(t->echo.timeout_ms, 50);
	echo_release(&t->echo);
	settle(t);
	assert_int_equal(r.count, 1);
	assert_alive(t);
}

static void huge_deadline_is_no_overflow(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 1 };

	t->echo.wanted = 1;
	start_hold(t, UINT64_MAX / 4, &r, NULL);
	assert_int_equal(loop_run_until(t->loop, &t->echo.all_held, DEADLINE_MS), 0);
	assert_true(t->echo.timeout_ms > (uint64_t)1000 * 3600 * 24 * 365);
	echo_release(&t->echo);
	await(t, &r);
	assert_int_equal(r.code, 0);
}

static void cancelled_call_never_ends(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 1 };
	struct result same = { .wanted = 1 };
	struct ttrpc_pending *p;

	start_hold(t, 40, &r, &p);
	start_hold(t, 40, &same, NULL);
	ttrpc_cancel(p);
	ttrpc_cancel(NULL);
	await(t, &same);
	assert_int_equal(same.code, -ETIMEDOUT);
	settle(t);
	echo_release(&t->echo);
	settle(t);
	assert_int_equal(r.count, 0);
	assert_alive(t);
}

/* ---- the end of a connection ---- */

static void pending_calls_fail_when_the_server_goes(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 100 };

	hold(t, 100, &r);
	ttrpc_server_free(TAKE_PTR(t->server));
	await(t, &r);
	assert_int_equal(r.count, 100);
	assert_int_equal(r.code, -ECONNRESET);
	assert_string_equal(r.text, "the connection was lost before Hold was answered");
	assert_int_equal(t->client_closed, 1);
	assert_int_equal(t->server_closed, 0);
	assert_int_equal(start_call(t, "Echo", "", 0, 0, &r, NULL), -ENOTCONN);
	/* Answers of the calls that the server still had go nowhere. */
	echo_release(&t->echo);
	settle(t);
	assert_int_equal(r.count, 100);
}

static void pending_calls_fail_when_the_client_is_freed(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 10 };

	hold(t, 10, &r);
	ttrpc_client_free(TAKE_PTR(t->client));
	assert_int_equal(r.count, 10);
	assert_int_equal(r.code, -ECONNRESET);
	settle(t);
	assert_int_equal(t->server_closed, 1);
	assert_int_equal(t->client_closed, 0);
	echo_release(&t->echo);
}

static void cancel_callback_tells_that_nobody_waits(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 3 };
	int cancelled = 0;
	int not_this = 0;

	hold(t, 3, &r);
	ttrpc_call_on_cancel(t->echo.held[0], count_up, &cancelled);
	ttrpc_call_on_cancel(t->echo.held[1], count_up, &not_this);
	ttrpc_call_on_cancel(t->echo.held[1], NULL, NULL);
	assert_string_equal(ttrpc_call_method(t->echo.held[2])->name, "Hold");
	ttrpc_client_free(TAKE_PTR(t->client));
	settle(t);
	assert_int_equal(cancelled, 1);
	assert_int_equal(not_this, 0);
	ttrpc_server_free(TAKE_PTR(t->server));
	assert_int_equal(cancelled, 1);
}

/* ---- freeing from callbacks ---- */

static void client_is_freed_in_the_first_of_many_answers(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 50, .free_client = t->client };

	hold(t, 50, &r);
	t->client = NULL;
	echo_release(&t->echo);
	await(t, &r);
	assert_int_equal(r.count, 50);
	assert_int_equal(r.code, -ECONNRESET);
	settle(t);
}

static void client_is_freed_in_a_deadline(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 3, .free_client = t->client };

	for (int i = 0; i < 3; i++)
		start_hold(t, 10, &r, NULL);
	t->client = NULL;
	await(t, &r);
	assert_int_equal(r.count, 3);
	settle(t);
}

static void client_is_freed_when_a_call_fails_with_the_connection(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 5, .free_client = t->client };

	hold(t, 5, &r);
	t->client = NULL;
	ttrpc_server_free(TAKE_PTR(t->server));
	await(t, &r);
	assert_int_equal(r.count, 5);
	/* Its owner knows. */
	assert_int_equal(t->client_closed, 0);
}

static void free_the_client(void *data)
{
	struct fixture *t = data;

	t->client_closed++;
	ttrpc_client_free(TAKE_PTR(t->client));
}

static void client_is_freed_in_its_closed_callback(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 1 };
	int fds[2];

	ttrpc_client_free(TAKE_PTR(t->client));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(ttrpc_client_new(t->loop, fds[0], free_the_client, t, &t->client), 0);
	start_hold(t, 0, &r, NULL);
	close(fds[1]);
	await(t, &r);
	settle(t);
	assert_int_equal(t->client_closed, 1);
	assert_null(t->client);
}

static void callback_cancels_another_call_and_itself(void **state)
{
	struct fixture *t = *state;
	struct result a = { .wanted = 1 };
	struct result b = { .wanted = 1 };
	struct ttrpc_pending *pa;

	t->echo.wanted = 2;
	start_hold(t, 0, &a, &a.cancel);
	start_hold(t, 0, &b, &pa);
	b.cancel = a.cancel;
	a.cancel = NULL;
	assert_int_equal(loop_run_until(t->loop, &t->echo.all_held, DEADLINE_MS), 0);
	echo_release(&t->echo); /* b is answered first */
	await(t, &b);
	settle(t);
	assert_int_equal(a.count, 0);
	/* Its own one, which is over. */
	t->echo.wanted = 1;
	start_hold(t, 0, &a, &a.cancel);
	assert_int_equal(loop_run_until(t->loop, &t->echo.all_held, DEADLINE_MS), 0);
	echo_release(&t->echo);
	await(t, &a);
	assert_alive(t);
}

static void callback_calls_again(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 2, .start = t };

	assert_int_equal(start_call(t, "Echo", "", 0, 0, &r, NULL), 0);
	await(t, &r);
	assert_int_equal(r.start_result, 0);
	assert_int_equal(r.count, 2);
	/* When the connection is lost there's nothing to call. */
	r = (struct result){ .wanted = 1, .start = t };
	start_hold(t, 0, &r, NULL);
	ttrpc_server_free(TAKE_PTR(t->server));
	await(t, &r);
	assert_int_equal(r.start_result, -ENOTCONN);
}

static void server_is_freed_in_a_handler(void **state)
{
	struct fixture *t = *state;
	struct result held = { .wanted = 1 };
	struct result r = { .wanted = 1 };

	hold(t, 1, &held);
	t->echo.free_server = TAKE_PTR(t->server);
	/* What follows in the same read isn't served any more. */
	assert_int_equal(start_call(t, "Nothing", NULL, 0, 0, &r, NULL), 0);
	assert_int_equal(start_call(t, "Echo", "", 0, 0, &held, NULL), 0);
	await(t, &r);
	assert_int_equal(r.code, 0);
	settle(t);
	assert_int_equal(held.count, 2);
	assert_int_equal(held.code, -ECONNRESET);
	assert_int_equal(t->echo.handled, 0);
}

/* The first cancelled call frees the server and answers the others. */
static void free_the_server(void *data)
{
	struct fixture *t = data;

	ttrpc_server_free(t->server);
	t->server = NULL;
	echo_release(&t->echo);
}

static void server_is_freed_in_a_cancel_callback(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 3 };

	hold(t, 3, &r);
	ttrpc_call_on_cancel(t->echo.held[1], free_the_server, t);
	ttrpc_client_free(TAKE_PTR(t->client));
	settle(t);
	assert_null(t->server);
	assert_int_equal(t->echo.n_held, 0);
}

static void server_is_freed_again_while_it_is_freed(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 3 };

	hold(t, 3, &r);
	ttrpc_call_on_cancel(t->echo.held[1], free_the_server, t);
	ttrpc_server_free(t->server);
	assert_null(t->server);
	await(t, &r);
}

/* ---- transports ---- */

static int listen_on(struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char name[17];

	assert_int_equal(random_hex(name, 16), 0);
	/* An abstract address: its name begins with a NUL, and no file is left. */
	addr->sun_family = AF_UNIX;
	memcpy(addr->sun_path + 1, name, sizeof(name));
	assert_int_equal(bind(fd, (struct sockaddr *)addr, sizeof(*addr)), 0);
	assert_int_equal(listen(fd, 10), 0);
	return fd;
}

static void server_listens(void **state)
{
	struct fixture *t = *state;
	struct sockaddr_un addr = { 0 };
	Podvm__Test__Empty empty = PODVM__TEST__EMPTY__INIT;
	struct ttrpc_client *clients[3];

	assert_int_equal(ttrpc_server_listen(t->server, listen_on(&addr)), 0);
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
		assert_int_equal(ttrpc_client_new(t->loop, fd, NULL, NULL, &clients[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
		assert_int_equal(ttrpc_call_sync(t->loop, clients[i], ECHO_DESC, "Nothing",
						 &empty.base, DEADLINE_MS, NULL, NULL),
				 0);
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
		ttrpc_client_free(clients[i]);
	settle(t);
}

static void server_without_descriptors_waits_quietly(void **state)
{
	struct fixture *t = *state;
	struct sockaddr_un addr = { 0 };
	Podvm__Test__Empty empty = PODVM__TEST__EMPTY__INIT;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct ttrpc_client *client;
	struct rlimit before;
	struct rlimit none;
	bool never = false;
	clock_t cpu;

	assert_int_equal(ttrpc_server_listen(t->server, listen_on(&addr)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(ttrpc_client_new(t->loop, fd, NULL, NULL, &client), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	cpu = clock();
	assert_int_equal(loop_run_until(t->loop, &never, 400), -ETIMEDOUT);
	cpu = clock() - cpu;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_true(cpu < CLOCKS_PER_SEC / 10);
	assert_int_equal(ttrpc_call_sync(t->loop, client, ECHO_DESC, "Nothing", &empty.base,
					 DEADLINE_MS, NULL, NULL),
			 0);
	ttrpc_client_free(client);
}

/* As on a virtio-serial port: no socket, and a write takes a few KiB at most. */
static void character_device_works(void **state)
{
	struct fixture *t = *state;
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios raw;
	struct err e = { 0 };
	size_t n = 0;
	int slave;

	assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(slave >= 0 && tcgetattr(slave, &raw) == 0);
	cfmakeraw(&raw);
	assert_int_equal(tcsetattr(slave, TCSANOW, &raw), 0);
	ttrpc_client_free(TAKE_PTR(t->client));
	assert_int_equal(ttrpc_client_new(t->loop, master, count_up, &t->client_closed, &t->client),
			 0);
	assert_int_equal(ttrpc_server_add(t->server, slave, NULL, NULL), 0);
	if (echo_bytes(t, 100000, &n, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(n, 100000);
	assert_alive(t);
	ttrpc_server_free(TAKE_PTR(t->server));
	settle(t);
	assert_int_equal(t->client_closed, 1);
}

static void bad_descriptors_are_refused(void **state)
{
	struct fixture *t = *state;
	struct ttrpc_client *client;

	assert_int_equal(ttrpc_server_add(t->server, open("/proc/self/exe", O_RDONLY), NULL, NULL),
			 -EPERM);
	assert_int_equal(ttrpc_server_listen(t->server, open("/proc/self/exe", O_RDONLY)), -EPERM);
	assert_int_equal(ttrpc_client_new(t->loop, -1, NULL, NULL, &client), -EBADF);
	ttrpc_client_free(NULL);
	ttrpc_server_free(NULL);
}

/* ---- codes and texts ---- */

static void codes_and_errnos_translate(void **state)
{
	static const enum ttrpc_code all[] = {
		TTRPC_OK,
		TTRPC_CANCELED,
		TTRPC_UNKNOWN,
		TTRPC_INVALID_ARGUMENT,
		TTRPC_DEADLINE_EXCEEDED,
		TTRPC_NOT_FOUND,
		TTRPC_ALREADY_EXISTS,
		TTRPC_PERMISSION_DENIED,
		TTRPC_RESOURCE_EXHAUSTED,
		TTRPC_FAILED_PRECONDITION,
		TTRPC_OUT_OF_RANGE,
		TTRPC_UNIMPLEMENTED,
		TTRPC_INTERNAL,
		TTRPC_UNAVAILABLE,
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		assert_true(ttrpc_code_to_errno(all[i]) <= 0);
		assert_int_equal(ttrpc_code_from_errno(ttrpc_code_to_errno(all[i])), all[i]);
	}
	assert_int_equal(ttrpc_code_from_errno(-ESRCH), TTRPC_NOT_FOUND);
	assert_int_equal(ttrpc_code_from_errno(-EXDEV), TTRPC_UNKNOWN);
	assert_int_equal(ttrpc_code_to_errno((enum ttrpc_code)99), -EIO);
	assert_int_equal(ttrpc_code_to_errno((enum ttrpc_code) - 1), -EIO);
}

static void text_clean_leaves_utf8(void **state)
{
	static const struct {
		const char *in;
		const char *out;
	} cases[] = {
		{ "", "" },
		{ "plain ~", "plain ~" },
		{ "a\r\n\tb\x7f", "a?  b?" },
		{ "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80" },
		{ "\xc2\x9b"
		  "31m",
		  "??31m" },			/* a control character */
		{ "\xc0\xaf", "??" },		/* overlong */
		{ "\xe0\x80\xaf", "???" },	/* overlong */
		{ "\xf0\x80\x80\xaf", "????" }, /* overlong */
		{ "\xed\xa0\x80", "???" },	/* surrogate */
		{ "\xf4\x90\x80\x80", "????" }, /* above U+10FFFF */
		{ "\xf5\x80\x80\x80", "????" },
		{ "\x80x\xff", "?x?" },
		{ "cut \xe2\x82", "cut ??" },
		{ "cut \xc3", "cut ?" },
		{ "\xe2\x28\xa1", "?(?" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[64];

		snprintf(text, sizeof(text), "%s", cases[i].in);
		text_clean(text);
		assert_string_equal(text, cases[i].out);
	}
}

#define ttrpc_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ttrpc_test(call_gets_its_answer),
		ttrpc_test(call_never_ends_before_it_has_returned),
		ttrpc_test(errors_carry_code_and_text),
		ttrpc_test(error_texts_are_clean),
		ttrpc_test(unknown_methods_and_services_are_unimplemented),
		ttrpc_test(service_is_served_by_a_second_name),
		ttrpc_test(thousand_calls_are_answered_in_reverse_order),
		ttrpc_test(calls_of_a_connection_are_limited),
		ttrpc_test(memory_of_held_requests_is_limited),
		ttrpc_test(messages_of_every_size_arrive),
		ttrpc_test(limit_is_exact),
		ttrpc_test(answer_that_is_too_long_becomes_an_error),
		ttrpc_test(client_stops_calling_a_server_that_does_not_read),
		ttrpc_test(deadline_ends_the_call_and_drops_a_late_answer),
		ttrpc_test(huge_deadline_is_no_overflow),
		ttrpc_test(cancelled_call_never_ends),
		ttrpc_test(pending_calls_fail_when_the_server_goes),
		ttrpc_test(pending_calls_fail_when_the_client_is_freed),
		ttrpc_test(cancel_callback_tells_that_nobody_waits),
		ttrpc_test(client_is_freed_in_the_first_of_many_answers),
		ttrpc_test(client_is_freed_in_a_deadline),
		ttrpc_test(client_is_freed_when_a_call_fails_with_the_connection),
		ttrpc_test(client_is_freed_in_its_closed_callback),
		ttrpc_test(callback_cancels_another_call_and_itself),
		ttrpc_test(callback_calls_again),
		ttrpc_test(server_is_freed_in_a_handler),
		ttrpc_test(server_is_freed_in_a_cancel_callback),
		ttrpc_test(server_is_freed_again_while_it_is_freed),
		ttrpc_test(server_listens),
		ttrpc_test(server_without_descriptors_waits_quietly),
		ttrpc_test(character_device_works),
		ttrpc_test(bad_descriptors_are_refused),
		cmocka_unit_test(codes_and_errnos_translate),
		cmocka_unit_test(text_clean_leaves_utf8),
	};

	return cmocka_run_group_tests_name("ttrpc", tests, NULL, NULL);
}
