/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket between a command and an agent that the test plays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "proto/control.pb-c.h"
#include "sandbox/agent_client.h"
#include "sandbox/control.h"
#include "sandbox/sandbox-internal.h"

#include "fake_agent.h"

#define DEADLINE_MS 60000

/**
 * struct fixture - A sandbox's owner, its guest and a command
 * @sandbox:	Has nothing but an agent and a run directory
 * @wait:	A Wait that the agent hasn't answered
 * @waiting, @killed, @removed: What the agent was asked for
 * @running:	The exec; what runs can't be removed
 * @forbidden:	Calls that should never reach the agent
 * @stop_ms:	Of the last Stop
 * @stop_asked:	There was one
 */
struct fixture {
	char dir[32];
	struct loop *loop;
	struct rundir rd;
	struct sandbox_config config;
	struct sandbox sandbox;
	struct fake_agent agent;
	struct control *control;
	struct ttrpc_client *command;
	struct ttrpc_call *wait;
	bool waiting;
	bool killed;
	bool removed;
	bool running;
	int forbidden;
	unsigned int stop_ms;
	bool stop_asked;
};

/* How a call of the command ended. */
struct answer {
	bool done;
	int code;
	unsigned int exit_status;
};

static void reply_exit(struct ttrpc_call *call, uint32_t status)
{
	Podvm__Agent__V1__WaitResponse resp = PODVM__AGENT__V1__WAIT_RESPONSE__INIT;

	resp.exit_status = status;
	ttrpc_reply(call, &resp.base);
}

static void serve_wait(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	struct fixture *f = data;

	assert_null(f->wait);
	f->wait = call;
	f->waiting = true;
}

static void serve_signal(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	const Podvm__Agent__V1__SignalRequest *req = (const void *)msg;
	struct fixture *f = data;

	assert_string_equal(req->container_id, "box");
	assert_string_equal(req->exec_id, "exec");
	assert_int_equal(req->signal, SIGKILL);
	f->killed = true;
	reply_empty(call);
}

static void serve_remove(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	const Podvm__Agent__V1__ProcessRequest *req = (const void *)msg;
	struct fixture *f = data;

	assert_string_equal(req->exec_id, "exec");
	if (f->running) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "the process is running");
		return;
	}
	f->removed = true;
	reply_empty(call);
}

static void serve_forbidden(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	struct fixture *f = data;

	f->forbidden++;
	reply_empty(call);
}

static void serve_pause(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	ttrpc_reply_error(call, TTRPC_NOT_FOUND, "no such container");
}

static int start_agent(struct fixture *f)
{
	for (unsigned int i = 0; i < FAKE_AGENT_METHODS; i++)
		f->agent.handlers[i] = serve_forbidden;
	fake_agent_serve(&f->agent, "Wait", serve_wait);
	fake_agent_serve(&f->agent, "Signal", serve_signal);
	fake_agent_serve(&f->agent, "RemoveProcess", serve_remove);
	fake_agent_serve(&f->agent, "PauseContainer", serve_pause);
	return fake_agent_start(&f->agent, f->loop, f, &f->sandbox.agent);
}

static void on_stop(void *data, unsigned int timeout_ms)
{
	struct fixture *f = data;

	f->stop_ms = timeout_ms;
	f->stop_asked = true;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e = { 0 };

	*state = f;
	signal(SIGPIPE, SIG_IGN);
	if (!f)
		return -1;
	strcpy(f->dir, "/tmp/podvm-control-XXXXXX");
	f->running = true;
	f->config.rundir = &f->rd;
	f->sandbox.config = &f->config;
	if (!mkdtemp(f->dir) || loop_new(&f->loop) < 0 || start_agent(f) < 0 ||
	    rundir_create(f->dir, &f->rd, &e) < 0)
		return -1;
	f->sandbox.loop = f->loop;
	if (control_new(&f->sandbox, on_stop, f, &f->control, &e) < 0)
		return -1;
	return control_connect(f->loop, &f->rd, NULL, NULL, &f->command, &e);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ttrpc_client_free(f->command);
	control_free(f->control);
	ttrpc_client_free(f->sandbox.agent);
	fake_agent_end(&f->agent);
	if (f->wait)
		reply_exit(f->wait, 0);
	rundir_close(&f->rd);
	rm_rf(AT_FDCWD, f->dir);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void await(struct fixture *f, const bool *what)
{
	assert_int_equal(loop_run_until(f->loop, what, DEADLINE_MS), 0);
}

static void on_answer(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct answer *a = data;

	a->done = true;
	a->code = e ? e->code : 0;
}

static void on_exit_status(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct answer *a = data;

	on_answer(data, msg, e);
	if (msg)
		a->exit_status = ((const Podvm__Agent__V1__WaitResponse *)msg)->exit_status;
}

static void on_stop_status(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct answer *a = data;

	on_answer(data, msg, e);
	if (msg)
		a->exit_status = ((const Podvm__Control__V1__StopResponse *)msg)->exit_status;
}

/* What the command gets for a method whose request is one of a container. */
static int call_container(struct fixture *f, const char *method)
{
	Podvm__Agent__V1__ContainerRequest req = PODVM__AGENT__V1__CONTAINER_REQUEST__INIT;
	struct answer a = { 0 };

	req.container_id = (char *)"box";
	assert_int_equal(
		agent_call(f->command, method, &req.base, DEADLINE_MS, on_answer, &a, NULL), 0);
	await(f, &a.done);
	return a.code;
}

static void begin_wait(struct fixture *f, const char *exec_id, struct answer *a)
{
	Podvm__Agent__V1__ProcessRequest req = PODVM__AGENT__V1__PROCESS_REQUEST__INIT;

	req.container_id = (char *)"box";
	req.exec_id = (char *)exec_id;
	assert_int_equal(agent_call(f->command, "Wait", &req.base, 0, on_exit_status, a, NULL), 0);
	await(f, &f->waiting);
}

static void begin_stop(struct fixture *f, uint32_t timeout_ms, struct answer *a)
{
	Podvm__Control__V1__StopRequest req = PODVM__CONTROL__V1__STOP_REQUEST__INIT;

	req.timeout_ms = timeout_ms;
	assert_int_equal(ttrpc_call(f->command, &podvm__control__v1__control__descriptor, "Stop",
				    &req.base, DEADLINE_MS, on_stop_status, a, NULL),
			 0);
	await(f, &f->stop_asked);
	f->stop_asked = false;
}

static void test_answers_come_back(void **state)
{
	struct fixture *f = *state;
	struct answer a = { 0 };

	begin_wait(f, "exec", &a);
	assert_false(a.done);
	reply_exit(TAKE_PTR(f->wait), 7);
	await(f, &a.done);
	assert_int_equal(a.code, 0);
	assert_int_equal(a.exit_status, 7);
	/* So do errors. */
	assert_int_equal(call_container(f, "PauseContainer"), -ENOENT);
	assert_int_equal(f->forbidden, 0);
}

/* What would make the owner's view of the sandbox untrue doesn't get through. */
static void test_owners_methods_are_refused(void **state)
{
	static const char *const methods[] = { "StartContainer", "RemoveContainer" };
	Podvm__Agent__V1__CreateContainerRequest create =
		PODVM__AGENT__V1__CREATE_CONTAINER_REQUEST__INIT;
	Podvm__Agent__V1__ShutdownRequest shutdown = PODVM__AGENT__V1__SHUTDOWN_REQUEST__INIT;
	struct fixture *f = *state;
	struct err e = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		assert_int_equal(call_container(f, methods[i]), -EOPNOTSUPP);
	assert_int_equal(ttrpc_call_sync(f->loop, f->command, &podvm__agent__v1__agent__descriptor,
					 "CreateContainer", &create.base, DEADLINE_MS, NULL, &e),
			 -EOPNOTSUPP);
	assert_int_equal(ttrpc_call_sync(f->loop, f->command, &podvm__agent__v1__agent__descriptor,
					 "Shutdown", &shutdown.base, DEADLINE_MS, NULL, &e),
			 -EOPNOTSUPP);
	assert_int_equal(f->forbidden, 0);
}

/* The exec is killed, and removed when it has ended: not before, when the agent would refuse. */
static void test_exec_whose_waiter_goes_away(void **state)
{
	struct fixture *f = *state;
	struct answer a = { 0 };

	begin_wait(f, "exec", &a);
	ttrpc_client_free(TAKE_PTR(f->command));
	await(f, &f->killed);
	assert_false(f->removed);
	f->running = false;
	reply_exit(TAKE_PTR(f->wait), 137);
	await(f, &f->removed);
}

static void test_first_process_outlives_its_waiter(void **state)
{
	struct fixture *f = *state;
	struct answer a = { 0 };
	bool never = false;

	begin_wait(f, "", &a);
	ttrpc_client_free(TAKE_PTR(f->command));
	assert_int_equal(loop_run_until(f->loop, &never, 50), -ETIMEDOUT);
	assert_false(f->killed);
}

static void test_stop_is_answered_at_the_end(void **state)
{
	struct fixture *f = *state;
	struct answer first = { 0 };
	struct answer second = { 0 };

	begin_stop(f, 3000, &first);
	assert_int_equal(f->stop_ms, 3000);
	begin_stop(f, 0, &second);
	assert_int_equal(f->stop_ms, 0);
	assert_false(first.done);
	control_stopped(f->control, 143);
	await(f, &first.done);
	await(f, &second.done);
	assert_int_equal(first.code, 0);
	assert_int_equal(first.exit_status, 143);
	assert_int_equal(second.exit_status, 143);
}

static void test_end_with_calls_under_way(void **state)
{
	struct fixture *f = *state;
	struct answer waited = { 0 };
	struct answer stopped = { 0 };
	struct ttrpc_client *late;
	struct err e = { 0 };

	begin_wait(f, "exec", &waited);
	begin_stop(f, 1000, &stopped);
	control_free(TAKE_PTR(f->control));
	await(f, &waited.done);
	await(f, &stopped.done);
	assert_true(waited.code < 0);
	assert_true(stopped.code < 0);
	assert_int_equal(control_connect(f->loop, &f->rd, NULL, NULL, &late, &e), -ENOTCONN);
	assert_non_null(strstr(e.msg, "isn't running"));
}

/* The end of everything while an exec is being killed. */
static void test_end_while_an_exec_is_killed(void **state)
{
	struct fixture *f = *state;
	struct answer a = { 0 };

	begin_wait(f, "exec", &a);
	ttrpc_client_free(TAKE_PTR(f->command));
	await(f, &f->killed);
	control_free(TAKE_PTR(f->control));
	reply_exit(TAKE_PTR(f->wait), 137);
	assert_int_equal(loop_run_until(f->loop, &f->removed, 50), -ETIMEDOUT);
}

static void test_guest_that_has_gone(void **state)
{
	struct fixture *f = *state;
	struct answer a = { 0 };

	begin_wait(f, "exec", &a);
	fake_agent_end(&f->agent);
	await(f, &a.done);
	assert_true(a.code < 0);
	assert_true(call_container(f, "StatsContainer") < 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* A pod is containerd's to stop. */
static void test_stop_of_a_pod_is_refused(void **state)
{
	Podvm__Control__V1__StopRequest req = PODVM__CONTROL__V1__STOP_REQUEST__INIT;
	struct fixture *f = *state;
	struct answer a = { 0 };
	struct err e = { 0 };

	ttrpc_client_free(f->command);
	control_free(f->control);
	assert_int_equal(control_new(&f->sandbox, NULL, NULL, &f->control, &e), 0);
	assert_int_equal(control_connect(f->loop, &f->rd, NULL, NULL, &f->command, &e), 0);
	assert_int_equal(ttrpc_call(f->command, &podvm__control__v1__control__descriptor, "Stop",
				    &req.base, DEADLINE_MS, on_answer, &a, NULL),
			 0);
	await(f, &a.done);
	assert_int_equal(a.code, -EBUSY);
	assert_false(f->stop_asked);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_stop_of_a_pod_is_refused),
		TEST(test_answers_come_back),
		TEST(test_owners_methods_are_refused),
		TEST(test_exec_whose_waiter_goes_away),
		TEST(test_first_process_outlives_its_waiter),
		TEST(test_stop_is_answered_at_the_end),
		TEST(test_end_with_calls_under_way),
		TEST(test_end_while_an_exec_is_killed),
		TEST(test_guest_that_has_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
