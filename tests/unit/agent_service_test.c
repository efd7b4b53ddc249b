/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's service as its host sees it: a client and the real handlers on a socket pair. What
 * needs a guest (crun, cgroups, mounts) isn't here; processes are ordinary children of the test.
 */
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
#include <sys/wait.h>

#include "agent/agent.h"
#include "agent/child.h"
#include "agent/container.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#include "real_agent.h"

/* Strings of messages are `char *` in protobuf-c, though nobody writes to them. */
#pragma GCC diagnostic ignored "-Wdiscarded-qualifiers"

struct fixture {
	struct loop *loop;
	struct agent agent;
	struct ttrpc_client *client;
};

static int setup(void **state)
{
	struct fixture *t = calloc(1, sizeof(*t));

	*state = t;
	return t ? real_agent_start(&t->loop, &t->agent, &t->client) : -1;
}

static int teardown(void **state)
{
	struct fixture *t = *state;

	real_agent_stop(t->loop, &t->agent, t->client);
	free(t);
	return 0;
}

/* A container that is running, without anything behind it. */
static struct process *add_container(struct fixture *t, const char *id)
{
	struct container *c = calloc(1, sizeof(*c));
	struct process *p;

	assert_non_null(c);
	c->agent = &t->agent;
	snprintf(c->id, sizeof(c->id), "%s", id);
	c->state = CONTAINER_RUNNING;
	c->oom_watch = -EBADF;
	list_init(&c->processes);
	list_append(&t->agent.containers, &c->node);
	t->agent.n_containers++;
	assert_int_equal(process_new(c, "", &p), 0);
	return p;
}

/* A process runs a shell command, started as crun would start it. */
static void start_shell(struct process *p, char *script)
{
	struct spawn s = SPAWN_INIT;
	struct err e = { 0 };
	pid_t pid;
	int pidfd;

	assert_int_equal(streams_open(&p->io, false, true, "x", &e), 0);
	s.path = "/bin/sh";
	s.argv = (char *[]){ "sh", "-c", script, NULL };
	streams_give(&p->io, &s);
	pidfd = spawn_start(&s, &pid, &e);
	assert_true(pidfd >= 0);
	close(pidfd);
	streams_given(&p->io);
	assert_int_equal(streams_started(&p->io, 0, 0, &e), 0);
	process_running(p, pid);
}

/* A container whose first process is such. */
static struct process *run_shell(struct fixture *t, const char *id, char *script)
{
	struct process *p = add_container(t, id);

	start_shell(p, script);
	return p;
}

static int call(struct fixture *t, const char *method, const ProtobufCMessage *req,
		ProtobufCMessage **ret, struct err *e)
{
	memset(e, 0, sizeof(*e));
	return ttrpc_call_sync(t->loop, t->client, SERVICE, method, req, DEADLINE_MS, ret, e);
}

static int call_process(struct fixture *t, const char *method, char *id, struct err *e)
{
	PB(ProcessRequest) req = PODVM__AGENT__V1__PROCESS_REQUEST__INIT;

	req.container_id = id;
	return call(t, method, &req.base, NULL, e);
}

static uint32_t wait_status(struct fixture *t, char *id)
{
	PB(ProcessRequest) req = PODVM__AGENT__V1__PROCESS_REQUEST__INIT;
	PB(WaitResponse) *resp = NULL;
	struct err e;
	uint32_t status;

	req.container_id = id;
	assert_int_equal(call(t, "Wait", &req.base, (ProtobufCMessage **)&resp, &e), 0);
	assert_true(resp->exited_at_ns > 0);
	status = resp->exit_status;
	protobuf_c_message_free_unpacked(&resp->base, NULL);
	return status;
}

/* One ReadOutput. Return: Its bytes, -1: the end */
static ssize_t read_output(struct fixture *t, char *id, int stream, uint32_t max, char *buf)
{
	PB(ReadOutputRequest) req = PODVM__AGENT__V1__READ_OUTPUT_REQUEST__INIT;
	PB(ReadOutputResponse) *resp = NULL;
	struct err e;
	ssize_t n;

	req.container_id = id;
	req.stream = (PB(ReadOutputRequest__Stream))stream;
	req.max = max;
	assert_int_equal(call(t, "ReadOutput", &req.base, (ProtobufCMessage **)&resp, &e), 0);
	n = resp->eof ? -1 : (ssize_t)resp->data.len;
	if (buf && n > 0)
		memcpy(buf, resp->data.data, (size_t)n);
	protobuf_c_message_free_unpacked(&resp->base, NULL);
	return n;
}

static int write_input(struct fixture *t, char *id, void *data, size_t len, struct err *e)
{
	PB(WriteInputRequest) req = PODVM__AGENT__V1__WRITE_INPUT_REQUEST__INIT;

	req.container_id = id;
	req.data.data = data;
	req.data.len = len;
	return call(t, "WriteInput", &req.base, NULL, e);
}

static void test_hello(void **state)
{
	struct fixture *t = *state;
	PB(HelloRequest) req = PODVM__AGENT__V1__HELLO_REQUEST__INIT;
	PB(HelloResponse) *resp = NULL;
	struct err e;

	assert_int_equal(call(t, "Hello", &req.base, (ProtobufCMessage **)&resp, &e), 0);
	assert_string_equal(resp->version, PODVM_VERSION);
	assert_true(resp->cpus > 0);
	assert_true(resp->memory_total > 0);
	protobuf_c_message_free_unpacked(&resp->base, NULL);
}

static void test_metrics(void **state)
{
	struct fixture *t = *state;
	PB(GetMetricsRequest) req = PODVM__AGENT__V1__GET_METRICS_REQUEST__INIT;
	PB(GetMetricsResponse) *resp = NULL;
	struct err e;

	add_container(t, "c");
	assert_int_equal(call(t, "GetMetrics", &req.base, (ProtobufCMessage **)&resp, &e), 0);
	assert_int_equal(resp->containers, 1);
	assert_true(resp->memory_total >= resp->memory_available);
	assert_true(resp->agent_rss > 0);
	assert_true(resp->n_networks > 0);
	protobuf_c_message_free_unpacked(&resp->base, NULL);
}

/* Every call that names a container or a process says which of them there isn't. */
static void test_unknown(void **state)
{
	static const char *const methods[] = { "Wait", "RemoveProcess", "CloseInput" };
	static const char *const container_methods[] = {
		"StartContainer", "PauseContainer", "ResumeContainer",
		"StatsContainer", "ListProcesses",  "RemoveContainer",
	};
	struct fixture *t = *state;
	PB(ContainerRequest) req = PODVM__AGENT__V1__CONTAINER_REQUEST__INIT;
	PB(ProcessRequest) preq = PODVM__AGENT__V1__PROCESS_REQUEST__INIT;
	struct err e;

	req.container_id = "nobody";
	for (size_t i = 0; i < ARRAY_SIZE(container_methods); i++)
		assert_int_equal(call(t, container_methods[i], &req.base, NULL, &e), -ENOENT);
	assert_string_equal(e.msg, "no such container");
	add_container(t, "c");
	preq.container_id = "c";
	preq.exec_id = "nobody";
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		assert_int_equal(call(t, methods[i], &preq.base, NULL, &e), -ENOENT);
	assert_string_equal(e.msg, "no such process");
}

static int read_file(struct fixture *t, char *path, uint32_t max, char **ret)
{
	PB(ReadFileRequest) req = PODVM__AGENT__V1__READ_FILE_REQUEST__INIT;
	PB(ReadFileResponse) * resp;
	ProtobufCMessage *msg;
	struct err e = { 0 };
	int r;

	req.container_id = "c";
	req.path = path;
	req.max = max;
	r = call(t, "ReadFile", &req.base, &msg, &e);
	if (r < 0)
		return r;
	resp = (void *)msg;
	*ret = strndup((char *)resp->data.data, resp->data.len);
	assert_non_null(*ret);
	protobuf_c_message_free_unpacked(msg, NULL);
	return 0;
}

/* The container's root is that of its first process: here ours. */
static void test_read_file(void **state)
{
	struct fixture *t = *state;
	struct process *p = run_shell(t, "c", "read x");
	_cleanup_(freep) char *text = NULL;

	assert_int_equal(read_file(t, "/../etc/passwd", 0, &text), 0);
	assert_true(str_starts(text, "root:"));
	assert_int_equal(read_file(t, "/etc/passwd", 4, &text), -ENOBUFS);
	assert_int_equal(read_file(t, "/etc", 0, &text), -EINVAL);
	assert_int_equal(read_file(t, "/no-such-file", 0, &text), -ENOENT);
	assert_int_equal(read_file(t, "/proc/version", 0, &text), -EIO);
	p->container->state = CONTAINER_STOPPED;
	assert_int_equal(read_file(t, "/etc/passwd", 0, &text), -EINVAL);
}

static void test_create_is_checked(void **state)
{
	struct fixture *t = *state;
	PB(CreateContainerRequest) req = PODVM__AGENT__V1__CREATE_CONTAINER_REQUEST__INIT;
	PB(Storage) bad = PODVM__AGENT__V1__STORAGE__INIT;
	PB(Storage) * storages[] = { &bad };
	struct err e;

	req.container_id = "../x";
	req.spec.data = (uint8_t *)"{}";
	req.spec.len = 2;
	assert_int_equal(call(t, "CreateContainer", &req.base, NULL, &e), -EINVAL);
	req.container_id = "c";
	req.spec.len = 0;
	assert_int_equal(call(t, "CreateContainer", &req.base, NULL, &e), -EINVAL);
	req.spec.len = 2;
	bad.driver = "tmpfs";
	bad.mount_point = "/etc";
	req.storages = storages;
	req.n_storages = 1;
	assert_int_equal(call(t, "CreateContainer", &req.base, NULL, &e), -EINVAL);
	req.n_storages = 0;
	add_container(t, "c");
	assert_int_equal(call(t, "CreateContainer", &req.base, NULL, &e), -EEXIST);
	t->agent.shutdown = true;
	req.container_id = "d";
	assert_int_equal(call(t, "CreateContainer", &req.base, NULL, &e), -EBUSY);
	assert_int_equal(t->agent.n_containers, 1);
}

static void test_exec_is_checked(void **state)
{
	struct fixture *t = *state;
	PB(ExecRequest) req = PODVM__AGENT__V1__EXEC_REQUEST__INIT;
	struct container *c = add_container(t, "c")->container;
	struct err e;

	req.container_id = "c";
	req.process.data = (uint8_t *)"{}";
	req.process.len = 2;
	req.exec_id = "a/b";
	assert_int_equal(call(t, "Exec", &req.base, NULL, &e), -EINVAL);
	req.exec_id = "a";
	c->paused = true;
	assert_int_equal(call(t, "Exec", &req.base, NULL, &e), -EBUSY);
	c->paused = false;
	c->state = CONTAINER_STOPPED;
	assert_int_equal(call(t, "Exec", &req.base, NULL, &e), -EBUSY);
	c->state = CONTAINER_RUNNING;
	t->agent.n_execs = EXECS_MAX;
	assert_int_equal(call(t, "Exec", &req.base, NULL, &e), -ENOBUFS);
	t->agent.n_execs = 0;
}

static void test_exit_status(void **state)
{
	struct fixture *t = *state;

	run_shell(t, "seven", "exit 7");
	run_shell(t, "killed", "kill -9 $$");
	assert_int_equal(wait_status(t, "seven"), 7);
	assert_int_equal(wait_status(t, "killed"), 137);
	/* And again, as often as one likes. */
	assert_int_equal(wait_status(t, "seven"), 7);
	assert_int_equal(container_find(&t->agent, "seven")->state, CONTAINER_STOPPED);
}

/* It prints more than a pipe holds and nobody reads it; at its end nothing is left of it. */
static void test_detached_exec(void **state)
{
	struct fixture *t = *state;
	struct process *init = run_shell(t, "box", "exec sleep 1000");
	struct process *p;

	assert_int_equal(process_new(init->container, "e", &p), 0);
	t->agent.n_execs++;
	start_shell(p, "head -c 1000000 /dev/zero");
	process_detach(p);
	for (int i = 0; i < DEADLINE_MS / 10 && t->agent.n_execs > 0; i++)
		(void)loop_run_until(t->loop, &(bool){ false }, 10);
	assert_int_equal(t->agent.n_execs, 0);
	assert_null(container_process(init->container, "e"));
	assert_int_equal(kill(init->entry.pid, SIGKILL), 0);
	assert_int_equal(wait_status(t, "box"), 137);
}

static void test_signal(void **state)
{
	struct fixture *t = *state;
	PB(SignalRequest) req = PODVM__AGENT__V1__SIGNAL_REQUEST__INIT;
	struct err e;

	run_shell(t, "c", "exec sleep 1000");
	req.container_id = "c";
	req.signal = 0;
	assert_int_equal(call(t, "Signal", &req.base, NULL, &e), -EINVAL);
	req.signal = 65;
	assert_int_equal(call(t, "Signal", &req.base, NULL, &e), -EINVAL);
	req.signal = SIGTERM;
	assert_int_equal(call(t, "Signal", &req.base, NULL, &e), 0);
	assert_int_equal(wait_status(t, "c"), 128 + SIGTERM);
	assert_int_equal(call(t, "Signal", &req.base, NULL, &e), -ENOENT);
}

static void test_output(void **state)
{
	struct fixture *t = *state;
	char buf[64];

	run_shell(t, "c", "echo out; echo err >&2");
	assert_int_equal(wait_status(t, "c"), 0);
	/* It stays readable after the end, in pieces if need be. */
	assert_int_equal(read_output(t, "c", 1, 2, buf), 2);
	assert_memory_equal(buf, "ou", 2);
	assert_int_equal(read_output(t, "c", 1, 0, buf), 2);
	assert_memory_equal(buf, "t\n", 2);
	assert_int_equal(read_output(t, "c", 1, 0, buf), -1);
	assert_int_equal(read_output(t, "c", 2, 0, buf), 4);
	assert_int_equal(read_output(t, "c", 2, 0, buf), -1);
	assert_int_equal(read_output(t, "c", 2, 0, buf), -1);
}

static void test_input(void **state)
{
	struct fixture *t = *state;
	struct err e;
	char buf[64];

	run_shell(t, "c", "cat; exit 3");
	assert_int_equal(write_input(t, "c", "hello", 5, &e), 0);
	assert_int_equal(read_output(t, "c", 1, 0, buf), 5);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(call_process(t, "CloseInput", "c", &e), 0);
	assert_int_equal(wait_status(t, "c"), 3);
	assert_int_equal(write_input(t, "c", "x", 1, &e), -EBUSY);
	assert_string_equal(e.msg, "the process has no open input");
}

static void ignore(void *data, const ProtobufCMessage *resp, const struct err *e)
{
	*(int *)data = e ? e->code : 1;
}

/* Much more than a pipe takes: the call waits, a second one is refused, the end ends both. */
static void test_input_nobody_reads(void **state)
{
	struct fixture *t = *state;
	PB(WriteInputRequest) req = PODVM__AGENT__V1__WRITE_INPUT_REQUEST__INIT;
	_cleanup_(freep) uint8_t *data = calloc(1, STREAMS_MAX_IO);
	PB(SignalRequest) sig = PODVM__AGENT__V1__SIGNAL_REQUEST__INIT;
	struct err e;
	int result = 0;

	assert_non_null(data);
	run_shell(t, "c", "exec sleep 1000");
	req.container_id = "c";
	req.data.data = data;
	req.data.len = STREAMS_MAX_IO;
	assert_int_equal(
		ttrpc_call(t->client, SERVICE, "WriteInput", &req.base, 0, ignore, &result, NULL),
		0);
	assert_int_equal(write_input(t, "c", "x", 1, &e), -EBUSY);
	assert_string_equal(e.msg, "input is being written already");
	assert_int_equal(result, 0);
	assert_int_equal(call_process(t, "CloseInput", "c", &e), 0);
	sig.container_id = "c";
	sig.signal = SIGKILL;
	assert_int_equal(call(t, "Signal", &sig.base, NULL, &e), 0);
	assert_int_equal(wait_status(t, "c"), 137);
	/* The pipe has no reader any more; one more call lets the loop see it. */
	for (int i = 0; i < 100 && result == 0; i++)
		assert_int_equal(call_process(t, "CloseInput", "c", &e), 0);
	assert_int_equal(result, -EBUSY);
}

/* 8 MiB through cat: every byte, in order, with bounded calls. */
static void test_much_data(void **state)
{
	enum { TOTAL = 8 << 20, STEP = 64 << 10 };
	struct fixture *t = *state;
	_cleanup_(freep) uint8_t *sent = malloc(TOTAL);
	_cleanup_(freep) char *got = malloc(TOTAL);
	size_t in = 0;
	size_t out = 0;
	struct err e;

	assert_non_null(sent);
	assert_non_null(got);
	for (size_t i = 0; i < TOTAL; i++)
		sent[i] = (uint8_t)(i * 2654435761u >> 13);
	run_shell(t, "c", "exec cat");
	while (out < TOTAL) {
		/* Less than two pipes hold is on its way at any time, so neither side waits. */
		if (in < TOTAL && in - out <= STEP) {
			assert_int_equal(write_input(t, "c", sent + in, STEP, &e), 0);
			in += STEP;
			continue;
		}
		out += (size_t)read_output(t, "c", 1, STREAMS_MAX_IO, got + out);
	}
	assert_memory_equal(sent, got, TOTAL);
	assert_int_equal(call_process(t, "CloseInput", "c", &e), 0);
	assert_int_equal(read_output(t, "c", 1, 0, NULL), -1);
}

static void test_no_terminal(void **state)
{
	struct fixture *t = *state;
	PB(ResizeTerminalRequest) req = PODVM__AGENT__V1__RESIZE_TERMINAL_REQUEST__INIT;
	struct err e;

	run_shell(t, "c", "exec sleep 1000");
	req.container_id = "c";
	req.columns = req.rows = 24;
	assert_int_equal(call(t, "ResizeTerminal", &req.base, NULL, &e), -EBUSY);
	kill(container_init_process(container_find(&t->agent, "c"))->entry.pid, SIGKILL);
	wait_status(t, "c");
}

static uint32_t resize(struct fixture *t, uint32_t cpus, uint64_t memory, uint64_t timeout_ms)
{
	PB(ResizeRequest) req = PODVM__AGENT__V1__RESIZE_REQUEST__INIT;
	PB(ResizeResponse) *resp = NULL;
	struct err e = { 0 };
	uint32_t got;
	int r;

	req.cpus = cpus;
	req.memory_total = memory;
	/* The answer comes a little before our own deadline: too late when we were away then. */
	do {
		r = ttrpc_call_sync(t->loop, t->client, SERVICE, "Resize", &req.base, timeout_ms,
				    (ProtobufCMessage **)&resp, &e);
		timeout_ms *= 4;
	} while (r == -ETIMEDOUT && timeout_ms <= DEADLINE_MS);
	assert_int_equal(r, 0);
	assert_true(resp->memory_total > 0);
	got = resp->cpus;
	protobuf_c_message_free_unpacked(&resp->base, NULL);
	return got;
}

static void test_resize(void **state)
{
	struct fixture *t = *state;

	assert_true(resize(t, 1, 1, DEADLINE_MS) >= 1);
	/* What doesn't come in time is told as it is. */
	assert_true(resize(t, 1 << 20, 1, 300) < 1 << 20);
	assert_true(resize(t, 1, UINT64_MAX, 300) >= 1);
}

/* A guest can become a template as long as it has no identity. */
static void test_template(void **state)
{
	PB(PrepareTemplateRequest) req = PODVM__AGENT__V1__PREPARE_TEMPLATE_REQUEST__INIT;
	struct fixture *t = *state;
	struct err e;

	assert_int_equal(call(t, "PrepareTemplate", &req.base, NULL, &e), 0);
	t->agent.configured = true;
	assert_true(call(t, "PrepareTemplate", &req.base, NULL, &e) < 0);
	assert_non_null(strstr(e.msg, "identity"));
}

/* A container for practice that can't be made is no failure, and nothing tells of it later. */
static void test_template_practice(void **state)
{
	PB(PrepareTemplateRequest) req = PODVM__AGENT__V1__PREPARE_TEMPLATE_REQUEST__INIT;
	PB(CreateContainerRequest) create = PODVM__AGENT__V1__CREATE_CONTAINER_REQUEST__INIT;
	PB(Storage) storage = PODVM__AGENT__V1__STORAGE__INIT;
	PB(Storage) * storages[] = { &storage };
	struct fixture *t = *state;
	struct err e;

	storage.driver = "scsi";
	storage.source = "0";
	storage.mount_point = "/run/podvm/images/practice";
	create.container_id = "practice";
	create.spec.data = (uint8_t *)"{}";
	create.spec.len = 2;
	create.storages = storages;
	create.n_storages = ARRAY_SIZE(storages);
	req.container = &create;
	assert_int_equal(call(t, "PrepareTemplate", &req.base, NULL, &e), 0);
	assert_int_equal(t->agent.n_containers, 0);
	assert_int_equal(t->agent.sequence, 0);
	assert_int_equal(t->agent.events.last, 0);
	/* The connection is as it was. */
	assert_int_equal(call(t, "PrepareTemplate", &req.base, NULL, &e), 0);
}

static PB(NextEventsResponse) * next_events(struct fixture *t, uint64_t after)
{
	PB(NextEventsRequest) req = PODVM__AGENT__V1__NEXT_EVENTS_REQUEST__INIT;
	PB(NextEventsResponse) *resp = NULL;
	struct err e;

	req.after = after;
	assert_int_equal(call(t, "NextEvents", &req.base, (ProtobufCMessage **)&resp, &e), 0);
	return resp;
}

static void test_events(void **state)
{
	struct fixture *t = *state;
	PB(NextEventsResponse) * resp;

	/* Waits for it. */
	run_shell(t, "c", "exit 5");
	resp = next_events(t, 0);
	assert_int_equal(resp->n_events, 1);
	assert_int_equal(resp->lost, 0);
	assert_int_equal(resp->events[0]->sequence, 1);
	assert_int_equal(resp->events[0]->type, PODVM__AGENT__V1__EVENT__TYPE__EXIT);
	assert_string_equal(resp->events[0]->container_id, "c");
	assert_int_equal(resp->events[0]->exit_status, 5);
	protobuf_c_message_free_unpacked(&resp->base, NULL);
}

static void test_events_lost(void **state)
{
	struct fixture *t = *state;
	PB(NextEventsResponse) * resp;
	PB(NextEventsRequest) req = PODVM__AGENT__V1__NEXT_EVENTS_REQUEST__INIT;
	struct err e;

	for (int i = 0; i < EVENTS_KEEP + 44; i++)
		events_add(&t->agent.events, PODVM__AGENT__V1__EVENT__TYPE__OOM, "c", "", 0);
	resp = next_events(t, 0);
	assert_int_equal(resp->n_events, EVENTS_KEEP);
	assert_int_equal(resp->lost, 44);
	assert_int_equal(resp->events[0]->sequence, 45);
	protobuf_c_message_free_unpacked(&resp->base, NULL);
	resp = next_events(t, EVENTS_KEEP + 43);
	assert_int_equal(resp->n_events, 1);
	assert_int_equal(resp->lost, 0);
	protobuf_c_message_free_unpacked(&resp->base, NULL);
	req.after = EVENTS_KEEP + 45;
	assert_int_equal(call(t, "NextEvents", &req.base, NULL, &e), -EINVAL);
}

/* ---- children ---- */

struct result {
	bool ended;
	struct err e;
};

static void on_done(void *data, const struct err *e)
{
	struct result *r = data;

	assert_false(r->ended);
	r->ended = true;
	if (e)
		r->e = *e;
}

static int work_well(void *arg, struct err *e)
{
	/* Of the parent's descriptors only 0-2 are here, and the result's. */
	return fcntl(4, F_GETFD) < 0 && errno == EBADF ? 0 : err_set(e, -EIO, "fd 4 is open");
}

static int work_badly(void *arg, struct err *e)
{
	return err_set(e, -ENOSPC, "no room for %s", (const char *)arg);
}

static int work_for_ever(void *arg, struct err *e)
{
	while (true)
		pause();
	return 0;
}

static int work_and_die(void *arg, struct err *e)
{
	raise(SIGKILL);
	return 0;
}

static struct result work(struct fixture *t, int (*fn)(void *arg, struct err *e), uint64_t ms)
{
	struct result r = { 0 };

	assert_int_equal(child_work(&t->agent.reaper, "the test", fn, "it", ms, on_done, &r, &r.e),
			 0);
	assert_int_equal(loop_run_until(t->loop, &r.ended, DEADLINE_MS), 0);
	return r;
}

static void test_workers(void **state)
{
	struct fixture *t = *state;

	assert_int_equal(work(t, work_well, DEADLINE_MS).e.code, 0);
	assert_int_equal(work(t, work_badly, DEADLINE_MS).e.code, -ENOSPC);
	assert_string_equal(work(t, work_badly, DEADLINE_MS).e.msg, "no room for it");
	assert_int_equal(work(t, work_for_ever, 20).e.code, -ETIMEDOUT);
	/* That it ends is seen later than that its time is over. */
	while (!list_empty(&t->agent.reaper.entries))
		assert_int_equal(loop_run_until(t->loop, &(bool){ false }, 5), -ETIMEDOUT);
	assert_string_equal(work(t, work_and_die, DEADLINE_MS).e.msg,
			    "the test was ended by signal 9");
}

static void test_programs(void **state)
{
	struct fixture *t = *state;
	struct spawn s = SPAWN_INIT;
	struct result r = { 0 };

	s.path = "/bin/sh";
	s.argv = (char *[]){ "sh", "-c", "exit 4", NULL };
	assert_int_equal(child_run(&t->agent.reaper, &s, DEADLINE_MS, on_done, &r, &r.e), 0);
	assert_int_equal(loop_run_until(t->loop, &r.ended, DEADLINE_MS), 0);
	assert_string_equal(r.e.msg, "/bin/sh failed (4)");
	s.path = "/nonexistent";
	assert_int_equal(child_run(&t->agent.reaper, &s, DEADLINE_MS, on_done, &r, &r.e), -ENOENT);
}

static void on_ended(struct reaper_entry *entry, int status)
{
	fail();
}

/* A process that was over before anybody knew its pid. */
static void test_unclaimed_end(void **state)
{
	struct fixture *t = *state;
	struct reaper_entry entry = { .ended = on_ended };
	struct result r = { 0 };
	int status = 0;
	pid_t pid;

	reaper_hold(&t->agent.reaper);
	pid = fork();
	if (pid == 0)
		_exit(9);
	assert_int_equal(child_work(&t->agent.reaper, "the test", work_well, NULL, DEADLINE_MS,
				    on_done, &r, &r.e),
			 0);
	while (kill(pid, 0) == 0 || !r.ended)
		assert_int_equal(loop_run_until(t->loop, &(bool){ false }, 5), -ETIMEDOUT);
	entry.pid = pid;
	assert_int_equal(reaper_watch(&t->agent.reaper, &entry, &status), 1);
	assert_int_equal(status, 9 | REAPER_NEVER_RAN);
	reaper_release(&t->agent.reaper);
	/* Without the hold nothing is kept. */
	assert_int_equal(reaper_watch(&t->agent.reaper, &entry, &status), 0);
	list_remove(&entry.node);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_hello),
		TEST(test_metrics),
		TEST(test_unknown),
		TEST(test_read_file),
		TEST(test_create_is_checked),
		TEST(test_exec_is_checked),
		TEST(test_exit_status),
		TEST(test_detached_exec),
		TEST(test_signal),
		TEST(test_output),
		TEST(test_input),
		TEST(test_input_nobody_reads),
		TEST(test_much_data),
		TEST(test_no_terminal),
		TEST(test_resize),
		TEST(test_template),
		TEST(test_template_practice),
		TEST(test_events),
		TEST(test_events_lost),
		TEST(test_workers),
		TEST(test_programs),
		TEST(test_unclaimed_end),
	};

	return cmocka_run_group_tests_name("agent_service", tests, NULL, NULL);
}
