/* SPDX-License-Identifier: Apache-2.0 */
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
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "proto/agent.pb-c.h"
#include "sandbox/streams.h"

#include "fake_agent.h"

#define DEADLINE_MS 60000
#define PIPE_SIZE   65536

/**
 * struct agent - A guest agent with one process, served on a socket pair
 * @output:	What is left of each stream
 * @error:	Answered to ReadOutput instead, when set
 * @endless:	Streams don't end: a read of an empty one is never answered
 * @held:	Such reads
 * @input:	What the process has got
 * @closed:	Its input was closed
 * @deaf:	It takes no input any more
 */
struct agent {
	struct buf output[STREAMS_COUNT];
	enum ttrpc_code error;
	bool endless;
	struct ttrpc_call *held[STREAMS_COUNT];
	struct buf input;
	bool closed;
	bool deaf;
	size_t taken[STREAMS_COUNT];
};

struct fixture {
	struct loop *loop;
	struct agent agent;
	struct fake_agent server;
	struct ttrpc_client *client;
	struct streams *streams;
	size_t seen; /* bytes that the output callback saw */
	int broken;
	bool done;
	struct err err;
};

static void read_output(struct ttrpc_call *call, const ProtobufCMessage *req, void *data)
{
	const Podvm__Agent__V1__ReadOutputRequest *r = (const void *)req;
	Podvm__Agent__V1__ReadOutputResponse resp = PODVM__AGENT__V1__READ_OUTPUT_RESPONSE__INIT;
	struct agent *a = data;
	bool err = r->stream == PODVM__AGENT__V1__READ_OUTPUT_REQUEST__STREAM__STDERR;
	struct buf *b = &a->output[err];

	assert_string_equal(r->container_id, "box");
	assert_string_equal(r->exec_id, "exec");
	if (a->error) {
		ttrpc_reply_error(call, a->error, "no output for you");
		return;
	}
	if (buf_len(b) == 0 && a->endless) {
		assert_null(a->held[err]);
		a->held[err] = call;
		return;
	}
	resp.data.data = buf_head(b);
	resp.data.len = MIN(buf_len(b), r->max);
	resp.eof = resp.data.len == buf_len(b) && !a->endless;
	a->taken[err] += resp.data.len;
	ttrpc_reply(call, &resp.base);
	buf_consume(b, resp.data.len);
}

static void write_input(struct ttrpc_call *call, const ProtobufCMessage *req, void *data)
{
	const Podvm__Agent__V1__WriteInputRequest *r = (const void *)req;
	struct agent *a = data;

	assert_false(a->closed);
	assert_true(r->data.len > 0 && r->data.len <= 1 << 20);
	if (a->deaf) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "it has gone");
		return;
	}
	assert_int_equal(buf_append(&a->input, r->data.data, r->data.len), 0);
	reply_empty(call);
}

static void close_input(struct ttrpc_call *call, const ProtobufCMessage *req, void *data)
{
	struct agent *a = data;

	a->closed = true;
	reply_empty(call);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	signal(SIGPIPE, SIG_IGN);
	*state = f;
	if (!f || loop_new(&f->loop) < 0)
		return -1;
	fake_agent_serve(&f->server, "ReadOutput", read_output);
	fake_agent_serve(&f->server, "WriteInput", write_input);
	fake_agent_serve(&f->server, "CloseInput", close_input);
	return fake_agent_start(&f->server, f->loop, &f->agent, &f->client);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	streams_free(f->streams);
	ttrpc_client_free(f->client);
	fake_agent_end(&f->server);
	for (int i = 0; i < STREAMS_COUNT; i++) {
		if (f->agent.held[i])
			ttrpc_reply_error(f->agent.held[i], TTRPC_UNAVAILABLE, "the end");
		buf_done(&f->agent.output[i]);
	}
	buf_done(&f->agent.input);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void on_output(void *data, enum streams_which stream, const void *bytes, size_t n)
{
	struct fixture *f = data;

	f->seen += n;
}

static void on_broken(void *data)
{
	struct fixture *f = data;

	f->broken++;
}

static void on_done(void *data, const struct err *e)
{
	struct fixture *f = data;

	assert_false(f->done);
	f->done = true;
	if (e)
		f->err = *e;
}

static void begin(struct fixture *f, int in, int out, int err, bool terminal)
{
	const struct streams_config config = {
		.loop = f->loop,
		.client = f->client,
		.container_id = "box",
		.exec_id = "exec",
		.terminal = terminal,
		.fds = { out, err },
		.stdin_fd = in,
		.output = on_output,
		.broken = on_broken,
		.done = on_done,
		.data = f,
	};

	assert_int_equal(streams_new(&config, &f->streams), 0);
	assert_false(streams_done(f->streams));
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

static void make_pipe(int fds[2])
{
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_true(fcntl(fds[0], F_SETPIPE_SZ, PIPE_SIZE) == PIPE_SIZE);
}

static void print(struct fixture *f, enum streams_which stream, size_t n)
{
	struct buf *b = &f->agent.output[stream];

	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)(i * 131 >> 3);

		assert_int_equal(buf_append(b, &c, 1), 0);
	}
}

static void expect_bytes(int fd, const char *want)
{
	char got[64] = "";

	assert_int_equal(read(fd, got, sizeof(got) - 1), strlen(want));
	assert_string_equal(got, want);
}

static void test_output_goes_where_it_belongs(void **state)
{
	struct fixture *f = *state;
	int out[2];
	int err[2];

	make_pipe(out);
	make_pipe(err);
	assert_int_equal(buf_printf(&f->agent.output[STREAMS_STDOUT], "out\n"), 0);
	assert_int_equal(buf_printf(&f->agent.output[STREAMS_STDERR], "error\n"), 0);
	begin(f, -1, out[1], err[1], false);
	await(f, &f->done);
	assert_int_equal(f->err.code, 0);
	assert_true(streams_done(f->streams));
	assert_int_equal(f->seen, strlen("out\nerror\n"));
	expect_bytes(out[0], "out\n");
	expect_bytes(err[0], "error\n");
	for (int i = 0; i < 2; i++) {
		close(out[i]);
		close(err[i]);
	}
}

static void test_output_that_nobody_wants_is_read(void **state)
{
	struct fixture *f = *state;

	print(f, STREAMS_STDOUT, 3 << 20);
	begin(f, -1, -1, -1, false);
	await(f, &f->done);
	assert_int_equal(f->err.code, 0);
	assert_int_equal(f->seen, 3 << 20);
}

/* The last of a slow reader's bytes are still written; what it doesn't take isn't asked for. */
static void test_slow_reader_stalls_the_stream(void **state)
{
	const size_t n = 8 << 20;
	struct fixture *f = *state;
	_cleanup_(freep) char *got = malloc(PIPE_SIZE);
	size_t sum = 0;
	int out[2];

	make_pipe(out);
	print(f, STREAMS_STDOUT, n);
	begin(f, -1, out[1], -1, false);
	settle(f);
	assert_true(f->agent.taken[STREAMS_STDOUT] > 0);
	assert_true(f->agent.taken[STREAMS_STDOUT] < 1 << 20);
	assert_int_equal(fd_nonblock(out[0]), 0);
	while (sum < n) {
		ssize_t r = read(out[0], got, PIPE_SIZE);
		bool never = false;

		if (r < 0 && errno == EAGAIN) {
			(void)loop_run_until(f->loop, &never, 1);
			continue;
		}
		assert_true(r > 0);
		for (ssize_t i = 0; i < r; i++)
			if ((unsigned char)got[i] != (unsigned char)((sum + (size_t)i) * 131 >> 3))
				fail_msg("byte %zu is wrong", sum + (size_t)i);
		sum += (size_t)r;
	}
	if (!f->done)
		await(f, &f->done);
	assert_int_equal(f->err.code, 0);
	close(out[0]);
	close(out[1]);
}

static void test_flags_of_the_original_stay(void **state)
{
	struct fixture *f = *state;
	int out[2];

	make_pipe(out);
	begin(f, -1, out[1], -1, false);
	await(f, &f->done);
	assert_int_equal(fcntl(out[1], F_GETFL) & O_NONBLOCK, 0);
	close(out[0]);
	close(out[1]);
}

static void test_reader_that_has_gone(void **state)
{
	struct fixture *f = *state;
	int out[2];

	make_pipe(out);
	close(out[0]);
	print(f, STREAMS_STDOUT, 1 << 20);
	begin(f, -1, out[1], -1, false);
	await(f, &f->done);
	assert_int_equal(f->broken, 1);
	assert_int_equal(f->err.code, 0);
	/* The guest's process isn't stalled by it. */
	assert_int_equal(f->agent.taken[STREAMS_STDOUT], 1 << 20);
	close(out[1]);
}

static void test_terminal_has_one_stream(void **state)
{
	struct fixture *f = *state;
	int out[2];

	make_pipe(out);
	print(f, STREAMS_STDERR, 100);
	assert_int_equal(buf_printf(&f->agent.output[STREAMS_STDOUT], "tty"), 0);
	begin(f, -1, out[1], out[1], true);
	await(f, &f->done);
	expect_bytes(out[0], "tty");
	assert_int_equal(f->agent.taken[STREAMS_STDERR], 0);
	close(out[0]);
	close(out[1]);
}

static void test_failure_ends_it(void **state)
{
	struct fixture *f = *state;

	f->agent.error = TTRPC_UNAVAILABLE;
	begin(f, -1, -1, -1, false);
	await(f, &f->done);
	assert_true(f->err.code < 0);
	assert_non_null(strstr(f->err.msg, "no output for you"));
}

static void test_removed_process_is_an_end(void **state)
{
	struct fixture *f = *state;

	f->agent.error = TTRPC_NOT_FOUND;
	begin(f, -1, -1, -1, false);
	await(f, &f->done);
	assert_int_equal(f->err.code, 0);
}

static void test_lost_connection(void **state)
{
	struct fixture *f = *state;

	f->agent.endless = true;
	begin(f, -1, -1, -1, false);
	settle(f);
	assert_non_null(f->agent.held[STREAMS_STDOUT]);
	fake_agent_end(&f->server);
	await(f, &f->done);
	assert_int_equal(f->err.code, -ECONNRESET);
}

static void test_input_from_a_pipe(void **state)
{
	struct fixture *f = *state;
	int in[2];

	make_pipe(in);
	f->agent.endless = true;
	begin(f, in[0], -1, -1, false);
	assert_int_equal(write(in[1], "hello ", 6), 6);
	settle(f);
	assert_int_equal(buf_len(&f->agent.input), 6);
	assert_false(f->agent.closed);
	assert_int_equal(write(in[1], "world", 5), 5);
	close(in[1]);
	await(f, &f->agent.closed);
	assert_string_equal(buf_cstr(&f->agent.input), "hello world");
	close(in[0]);
}

static void test_input_from_a_file(void **state)
{
	struct fixture *f = *state;
	char path[] = "/tmp/podvm-streams-XXXXXX";
	_cleanup_(close_fdp) int fd = mkstemp(path);
	_cleanup_(freep) char *data = calloc(1, 3 << 20);

	assert_true(fd >= 0);
	unlink(path);
	memset(data, 'x', 3 << 20);
	assert_int_equal(fd_write_all(fd, data, 3 << 20), 0);
	lseek(fd, 1 << 20, SEEK_SET);
	f->agent.endless = true;
	begin(f, fd, -1, -1, false);
	await(f, &f->agent.closed);
	/* It begins where the file's position is. */
	assert_int_equal(buf_len(&f->agent.input), 2 << 20);
}

static void test_input_that_is_not_taken(void **state)
{
	struct fixture *f = *state;
	int in[2];

	make_pipe(in);
	f->agent.deaf = true;
	assert_int_equal(write(in[1], "hello", 5), 5);
	f->agent.endless = true;
	begin(f, in[0], -1, -1, false);
	settle(f);
	assert_false(f->done);
	assert_int_equal(f->err.code, 0);
	/* Output goes on and ends as ever. */
	f->agent.endless = false;
	for (int i = 0; i < STREAMS_COUNT; i++) {
		Podvm__Agent__V1__ReadOutputResponse resp =
			PODVM__AGENT__V1__READ_OUTPUT_RESPONSE__INIT;

		resp.eof = true;
		ttrpc_reply(TAKE_PTR(f->agent.held[i]), &resp.base);
	}
	await(f, &f->done);
	assert_int_equal(f->err.code, 0);
	close(in[0]);
	close(in[1]);
}

static void test_freed_in_the_middle(void **state)
{
	struct fixture *f = *state;
	int in[2];
	int out[2];

	make_pipe(in);
	make_pipe(out);
	print(f, STREAMS_STDOUT, 1 << 20);
	assert_int_equal(write(in[1], "hello", 5), 5);
	begin(f, in[0], out[1], -1, false);
	settle(f);
	streams_free(TAKE_PTR(f->streams));
	settle(f);
	assert_false(f->done);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_output_goes_where_it_belongs),
		TEST(test_output_that_nobody_wants_is_read),
		TEST(test_slow_reader_stalls_the_stream),
		TEST(test_flags_of_the_original_stay),
		TEST(test_reader_that_has_gone),
		TEST(test_terminal_has_one_stream),
		TEST(test_failure_ends_it),
		TEST(test_removed_process_is_an_end),
		TEST(test_lost_connection),
		TEST(test_input_from_a_pipe),
		TEST(test_input_from_a_file),
		TEST(test_input_that_is_not_taken),
		TEST(test_freed_in_the_middle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
