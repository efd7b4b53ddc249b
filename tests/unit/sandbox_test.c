/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a sandbox whose agent the test plays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "sandbox/agent_client.h"
#include "sandbox/sandbox-internal.h"

#include "fake_agent.h"

#define DEADLINE_MS 20000

struct fixture {
	struct loop *loop;
	struct rundir rd;
	struct sandbox_config config;
	struct sandbox *sandbox;
	struct fake_agent agent;
	struct ttrpc_call *shutdown; /* not answered yet */
	struct ttrpc_call *hello;
	struct ttrpc_call *silent;
	bool slow_call_done;
	int slow_call_code;
	bool asked;
	bool shutting_down;
	bool stopped;
	bool lost;
	struct err loss;
};

static void serve_shutdown(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	struct fixture *f = data;

	f->shutdown = call;
	f->shutting_down = true;
}

static void serve_hello(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	struct fixture *f = data;

	f->hello = call;
	f->asked = true;
}

static void on_slow_call(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct fixture *f = data;

	f->slow_call_done = true;
	f->slow_call_code = e ? e->code : 0;
}

/* Not answered, but by the test. */
static void serve_nothing(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	struct fixture *f = data;

	f->silent = call;
}

static void on_lost(void *data, const struct err *e)
{
	struct fixture *f = data;

	assert_false(f->lost);
	f->lost = true;
	f->loss = *e;
}

static void on_stopped(void *data)
{
	struct fixture *f = data;

	assert_false(f->stopped);
	f->stopped = true;
}

/* A sandbox that runs. */
static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	signal(SIGPIPE, SIG_IGN);
	if (!f || loop_new(&f->loop) < 0)
		return -1;
	f->rd = RUNDIR_INIT;
	f->config.rundir = &f->rd;
	fake_agent_serve(&f->agent, "Shutdown", serve_shutdown);
	fake_agent_serve(&f->agent, "Hello", serve_hello);
	fake_agent_serve(&f->agent, "GetMetrics", serve_nothing);
	if (sandbox_new(f->loop, &f->config, on_lost, f, &f->sandbox) < 0)
		return -1;
	f->sandbox->state = SANDBOX_RUNNING;
	f->sandbox->alive = 1;
	return fake_agent_start(&f->agent, f->loop, f, &f->sandbox->agent);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	sandbox_free(f->sandbox);
	fake_agent_end(&f->agent);
	if (f->shutdown)
		ttrpc_reply_error(f->shutdown, TTRPC_UNAVAILABLE, "the end");
	if (f->hello)
		ttrpc_reply_error(f->hello, TTRPC_UNAVAILABLE, "the end");
	if (f->silent)
		ttrpc_reply_error(f->silent, TTRPC_UNAVAILABLE, "the end");
	loop_free(f->loop);
	free(f);
	return 0;
}

static void await(struct fixture *f, const bool *what)
{
	assert_int_equal(loop_run_until(f->loop, what, DEADLINE_MS), 0);
}

static void settle(struct fixture *f)
{
	bool never = false;

	/* However slow we are, what follows from each other has its turn. */
	for (int i = 0; i < 10; i++)
		assert_int_equal(loop_run_until(f->loop, &never, 3), -ETIMEDOUT);
}

static void lose(struct fixture *f, void (*how)(struct sandbox *sb, const struct err *e),
		 const char *why)
{
	struct err e = { 0 };

	err_set(&e, -ECONNRESET, "%s", why);
	how(f->sandbox, &e);
}

static void test_guest_shuts_down(void **state)
{
	struct fixture *f = *state;

	sandbox_stop(f->sandbox, DEADLINE_MS, on_stopped, f);
	await(f, &f->shutting_down);
	assert_false(f->stopped);
	reply_empty(TAKE_PTR(f->shutdown));
	await(f, &f->stopped);
}

/* All that its containers could write to goes with it. */
static void test_guest_with_nothing_to_write_is_not_asked(void **state)
{
	struct fixture *f = *state;

	f->sandbox->alive = 0;
	sandbox_stop(f->sandbox, DEADLINE_MS, on_stopped, f);
	await(f, &f->stopped);
	assert_false(f->shutting_down);
}

static void test_guest_with_a_host_directory_is_asked(void **state)
{
	struct fixture *f = *state;

	f->sandbox->alive = 0;
	f->sandbox->shares_begun = true;
	sandbox_stop(f->sandbox, DEADLINE_MS, on_stopped, f);
	await(f, &f->shutting_down);
	assert_false(f->stopped);
}

static void test_guest_that_does_not_shut_down(void **state)
{
	struct fixture *f = *state;

	sandbox_stop(f->sandbox, 50, on_stopped, f);
	await(f, &f->stopped);
	assert_false(f->lost);
}

/* The machine ends at any moment of a stop: that is no loss, and the stop comes to its end. */
static void test_machine_ends_while_it_is_stopped(void **state)
{
	struct fixture *f = *state;

	sandbox_stop(f->sandbox, 0, on_stopped, f);
	lose(f, sandbox_lose, "the guest ended");
	lose(f, sandbox_lose_soon, "the agent has gone");
	await(f, &f->stopped);
	assert_false(f->lost);
}

static void test_machine_ends_before_shutdown_is_answered(void **state)
{
	struct fixture *f = *state;

	sandbox_stop(f->sandbox, DEADLINE_MS, on_stopped, f);
	await(f, &f->shutting_down);
	lose(f, sandbox_lose, "the guest ended");
	fake_agent_end(&f->agent);
	await(f, &f->stopped);
	assert_false(f->lost);
}

/* The first reason is told, once, and the one that says more goes before it. */
static void test_loss_is_told_once(void **state)
{
	struct fixture *f = *state;

	lose(f, sandbox_lose_soon, "the agent has gone");
	settle(f);
	assert_false(f->lost);
	lose(f, sandbox_lose, "the monitor was killed");
	lose(f, sandbox_lose, "once more");
	await(f, &f->lost);
	assert_string_equal(f->loss.msg, "the monitor was killed");
	assert_string_equal(f->loss.stage, "run");
	settle(f);
	assert_null(sandbox_agent(f->sandbox));
}

static void test_loss_without_a_better_reason(void **state)
{
	struct fixture *f = *state;

	lose(f, sandbox_lose_soon, "the agent has gone");
	await(f, &f->lost);
	assert_string_equal(f->loss.msg, "the agent has gone");
}

/* A call that has so much time has no answer for a while: the guest is asked whether it lives. */
static void make_a_slow_call(struct fixture *f, uint64_t timeout_ms, uint64_t agent_timeout_ms)
{
	Podvm__Agent__V1__GetMetricsRequest req = PODVM__AGENT__V1__GET_METRICS_REQUEST__INIT;

	f->config.agent_timeout_ms = agent_timeout_ms;
	sandbox_watch_agent(f->sandbox);
	assert_int_equal(agent_call(f->sandbox->agent, "GetMetrics", &req.base, timeout_ms,
				    on_slow_call, f, NULL),
			 0);
	await(f, &f->asked);
	assert_false(f->lost);
}

static void answer_hello(struct fixture *f)
{
	Podvm__Agent__V1__HelloResponse resp = PODVM__AGENT__V1__HELLO_RESPONSE__INIT;

	f->asked = false;
	ttrpc_reply(TAKE_PTR(f->hello), &resp.base);
}

static void test_failed_call_of_a_guest_that_lives(void **state)
{
	struct fixture *f = *state;

	make_a_slow_call(f, 10, DEADLINE_MS);
	assert_int_equal(f->slow_call_code, -ETIMEDOUT);
	answer_hello(f);
	settle(f);
	assert_false(f->lost);
	/* And again. */
	ttrpc_reply_error(TAKE_PTR(f->silent), TTRPC_UNAVAILABLE, "too late");
	make_a_slow_call(f, 10, DEADLINE_MS);
}

/* It's asked again and again, and waited for. */
static void test_slow_call_of_a_guest_that_lives(void **state)
{
	Podvm__Agent__V1__GetMetricsResponse resp = PODVM__AGENT__V1__GET_METRICS_RESPONSE__INIT;
	struct fixture *f = *state;

	make_a_slow_call(f, AGENT_TIMEOUT_MS, 4000);
	answer_hello(f);
	/* Of what comes now nothing is to be lost, however slow we are. */
	f->config.agent_timeout_ms = DEADLINE_MS;
	await(f, &f->asked);
	answer_hello(f);
	ttrpc_reply(TAKE_PTR(f->silent), &resp.base);
	await(f, &f->slow_call_done);
	assert_int_equal(f->slow_call_code, 0);
	assert_false(f->lost);
}

static void test_guest_that_hangs(void **state)
{
	struct fixture *f = *state;

	make_a_slow_call(f, AGENT_TIMEOUT_MS, 20);
	await(f, &f->lost);
	assert_non_null(strstr(f->loss.msg, "the guest hangs"));
	assert_int_equal(f->slow_call_code, -ECONNRESET);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_failed_call_of_a_guest_that_lives),
		TEST(test_slow_call_of_a_guest_that_lives),
		TEST(test_guest_that_hangs),
		TEST(test_guest_shuts_down),
		TEST(test_guest_with_nothing_to_write_is_not_asked),
		TEST(test_guest_with_a_host_directory_is_asked),
		TEST(test_guest_that_does_not_shut_down),
		TEST(test_machine_ends_while_it_is_stopped),
		TEST(test_machine_ends_before_shutdown_is_answered),
		TEST(test_loss_is_told_once),
		TEST(test_loss_without_a_better_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
