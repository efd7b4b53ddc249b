/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP client against a QEMU that is played here, honest and otherwise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "vmm/qmp.h"

#define GREETING    "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n"
#define PATIENCE_MS 60000

/* A client and the other end of its socket. */
struct bed {
	struct loop *loop;
	struct qmp *qmp;
	int peer;
	char events[256]; /* names, each followed by a space */
	int closed;	  /* why: 0 while it's open */
	bool is_closed;
};

/* How a command ended. */
struct result {
	bool over;
	int code; /* 0 or the error's */
	char msg[256];
	char ret[256]; /* the answer as JSON */
	struct bed *free_bed;
};

static void on_event(void *user, const char *name, struct json_object *data)
{
	struct bed *bed = user;

	strncat(bed->events, name, sizeof(bed->events) - strlen(bed->events) - 2);
	strcat(bed->events, " ");
}

static void on_closed(void *user, const struct err *e)
{
	struct bed *bed = user;

	assert_false(bed->is_closed);
	bed->closed = e->code;
	bed->is_closed = true;
}

static void on_done(void *user, struct json_object *ret, const struct err *e)
{
	struct result *result = user;

	assert_false(result->over);
	result->over = true;
	result->code = e ? e->code : 0;
	if (e)
		snprintf(result->msg, sizeof(result->msg), "%.255s", e->msg);
	if (ret)
		snprintf(result->ret, sizeof(result->ret), "%.255s",
			 json_object_to_json_string_ext(ret, JSON_C_TO_STRING_PLAIN));
	if (result->free_bed) {
		qmp_free(result->free_bed->qmp);
		result->free_bed->qmp = NULL;
	}
}

static int setup(void **state)
{
	static const struct qmp_handlers handlers = { on_event, on_closed };
	struct bed *bed = calloc(1, sizeof(*bed));
	int fds[2];

	if (!bed || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return -1;
	bed->peer = fds[1];
	*state = bed;
	if (loop_new(&bed->loop) < 0)
		return -1;
	return qmp_new(bed->loop, fds[0], &handlers, bed, &bed->qmp);
}

static int teardown(void **state)
{
	struct bed *bed = *state;

	qmp_free(bed->qmp);
	loop_free(bed->loop);
	if (bed->peer >= 0)
		close(bed->peer);
	free(bed);
	return 0;
}

static void say(struct bed *bed, const char *text)
{
	assert_int_equal(send(bed->peer, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Let the client do what it can do now. */
static void turn(struct bed *bed)
{
	bool never = false;

	assert_int_equal(loop_run_until(bed->loop, &never, 2), -ETIMEDOUT);
}

static void wait_for(struct bed *bed, const bool *flag)
{
	assert_int_equal(loop_run_until(bed->loop, flag, PATIENCE_MS), 0);
}

/* The next line that the client sends, and the descriptor that came with its first byte. */
static char *hear(struct bed *bed, int *ret_fd)
{
	static char line[4096];
	uint64_t deadline = clock_ms() + PATIENCE_MS;
	size_t len = 0;

	while (len == 0 || line[len - 1] != '\n') {
		char control[CMSG_SPACE(sizeof(int))];
		struct iovec iov = { .iov_base = line + len, .iov_len = 1 };
		struct msghdr msg = { .msg_iov = &iov,
				      .msg_iovlen = 1,
				      .msg_control = control,
				      .msg_controllen = sizeof(control) };

		assert_true(clock_ms() < deadline);
		if (recvmsg(bed->peer, &msg, MSG_CMSG_CLOEXEC) != 1) {
			turn(bed);
			continue;
		}
		if (msg.msg_controllen > 0) {
			assert_non_null(ret_fd);
			assert_int_equal(len, 0);
			memcpy(ret_fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
		}
		assert_true(++len < sizeof(line));
	}
	line[len] = '\0';
	return line;
}

static void assert_silent(struct bed *bed)
{
	char byte;

	turn(bed);
	assert_int_equal(recv(bed->peer, &byte, 1, MSG_PEEK), -1);
	assert_int_equal(errno, EAGAIN);
}

static void negotiate(struct bed *bed)
{
	say(bed, GREETING);
	assert_non_null(strstr(hear(bed, NULL), "\"qmp_capabilities\""));
	say(bed, "{\"return\": {}, \"id\": 1}\r\n");
	turn(bed);
}

static void call(struct bed *bed, const char *command, const char *args, struct result *result)
{
	assert_int_equal(qmp_call(bed->qmp, command, args, -1, PATIENCE_MS, on_done, result), 0);
}

static void test_command_and_answer(void **state)
{
	struct bed *bed = *state;
	struct result result = { 0 };

	negotiate(bed);
	call(bed, "device_del", "{\"id\":\"disk0\"}", &result);
	assert_string_equal(hear(bed, NULL),
			    "{\"execute\":\"device_del\",\"id\":2,\"arguments\":{\"id\":\"disk0\"}}"
			    "\n");
	assert_false(result.over);
	say(bed, "{\"return\": {\"x\": [1]}, \"id\": 2}\r\n");
	wait_for(bed, &result.over);
	assert_int_equal(result.code, 0);
	assert_string_equal(result.ret, "{\"x\":[1]}");
}

static void test_nothing_is_sent_before_the_greeting(void **state)
{
	struct bed *bed = *state;
	struct result result = { 0 };

	call(bed, "query-status", NULL, &result);
	assert_silent(bed);
	negotiate(bed);
	assert_non_null(strstr(hear(bed, NULL), "\"query-status\""));
	qmp_free(TAKE_PTR(bed->qmp));
	assert_int_equal(result.code, -ECONNRESET);
}

static void test_answers_in_pieces_out_of_order_with_events_between(void **state)
{
	struct bed *bed = *state;
	struct result first = { 0 };
	struct result second = { 0 };
	const char *bytes = "{\"event\": \"RESUME\", \"timestamp\": {}}\r\n"
			    "{\"id\": 3, \"return\": 3}\r\n"
			    "\r\n"
			    "{\"data\": {\"reason\": \"guest-reset\"}, \"event\": \"SHUTDOWN\"}\n"
			    "{\"id\": 2, \"return\": 2}\n";

	negotiate(bed);
	call(bed, "one", NULL, &first);
	call(bed, "two", NULL, &second);
	hear(bed, NULL);
	hear(bed, NULL);
	for (; *bytes; bytes++) {
		assert_int_equal(send(bed->peer, bytes, 1, 0), 1);
		turn(bed);
	}
	assert_string_equal(first.ret, "2");
	assert_string_equal(second.ret, "3");
	assert_string_equal(bed->events, "RESUME SHUTDOWN ");
	assert_false(bed->is_closed);
}

static void test_errors_have_codes_and_printable_texts(void **state)
{
	static const struct {
		const char *class;
		int code;
	} cases[] = {
		{ "GenericError", -EIO },
		{ "CommandNotFound", -EOPNOTSUPP },
		{ "DeviceNotFound", -ENODEV },
	};
	struct bed *bed = *state;

	negotiate(bed);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct result result = { 0 };
		char answer[256];

		call(bed, "cmd", NULL, &result);
		hear(bed, NULL);
		snprintf(answer, sizeof(answer),
			 "{\"id\": %zu, \"error\": {\"class\": \"%s\", \"desc\": "
			 "\"no\\u001b[2J!\"}}\n",
			 i + 2, cases[i].class);
		say(bed, answer);
		wait_for(bed, &result.over);
		assert_int_equal(result.code, cases[i].code);
		assert_string_equal(result.msg, "cmd: no!");
	}
}

/* A line after which the client must hang up; it must not crash nor believe it. */
static void test_what_is_not_qmp_ends_the_connection(void **state)
{
	static const char *const lines[] = {
		"garbage\n",
		"[]\n",
		"{\"return\": {}}\n",		  /* to nothing */
		"{\"return\": {}, \"id\": 77}\n", /* to what was never asked */
		"{\"return\": {}, \"id\": \"2\"}\n",
		"{\"return\": {}, \"id\": -1}\n",
		"{\"event\": 7}\n",
		"{\"return\": {}, \"id\": 2} trailing\n",
		"{\"return\": {}, \"id\": 2\n",
		"{\"return\": \"\xff\xfe\", \"id\": 2}\n",
		/* valid, but nested 40 levels deep */
		"{\"event\": \"X\", \"data\": {\"a\": "
		"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
		"]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}}\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		struct bed *bed;
		struct result result = { 0 };

		if (i > 0)
			assert_int_equal(setup(state), 0);
		bed = *state;
		negotiate(bed);
		call(bed, "cmd", NULL, &result);
		hear(bed, NULL);
		say(bed, lines[i]);
		wait_for(bed, &result.over);
		assert_int_equal(result.code, -ECONNRESET);
		assert_true(bed->is_closed);
		assert_int_equal(bed->closed, -EPROTO);
		assert_int_equal(qmp_call(bed->qmp, "cmd", NULL, -1, 1000, on_done, &result),
				 -ENOTCONN);
		if (i + 1 < ARRAY_SIZE(lines))
			teardown(state);
	}
}

static void test_a_peer_without_greeting_is_not_qemu(void **state)
{
	struct bed *bed = *state;

	say(bed, "{\"return\": {}, \"id\": 1}\n");
	wait_for(bed, &bed->is_closed);
	assert_int_equal(bed->closed, -EPROTO);
}

static void test_a_line_without_end_is_cut_off(void **state)
{
	struct bed *bed = *state;
	char chunk[4096];
	size_t sent = 0;

	memset(chunk, ' ', sizeof(chunk));
	negotiate(bed);
	while (!bed->is_closed && sent < 8 * QMP_LINE_MAX) {
		ssize_t n = send(bed->peer, chunk, sizeof(chunk), MSG_NOSIGNAL);

		sent += n > 0 ? (size_t)n : 0;
		turn(bed);
	}
	assert_int_equal(bed->closed, -EPROTO);
	assert_true(sent >= QMP_LINE_MAX && sent < 3 * QMP_LINE_MAX);
}

static void test_the_end_in_the_middle_of_a_line_fails_what_is_pending(void **state)
{
	struct bed *bed = *state;
	struct result sent = { 0 };
	struct result unsent = { 0 };

	negotiate(bed);
	call(bed, "sent", NULL, &sent);
	hear(bed, NULL);
	call(bed, "unsent", NULL, &unsent);
	say(bed, "{\"return\": ");
	close(TAKE_FD(bed->peer));
	wait_for(bed, &bed->is_closed);
	assert_int_equal(bed->closed, -ECONNRESET);
	assert_int_equal(sent.code, -ECONNRESET);
	assert_int_equal(unsent.code, -ECONNRESET);
}

static void test_a_deadline_passes_and_the_late_answer_is_dropped(void **state)
{
	struct bed *bed = *state;
	struct result late = { 0 };
	struct result next = { 0 };

	negotiate(bed);
	assert_int_equal(qmp_call(bed->qmp, "slow", NULL, -1, 20, on_done, &late), 0);
	hear(bed, NULL);
	wait_for(bed, &late.over);
	assert_int_equal(late.code, -ETIMEDOUT);
	call(bed, "next", NULL, &next);
	hear(bed, NULL);
	say(bed, "{\"return\": 1, \"id\": 2}\n{\"return\": 2, \"id\": 3}\n");
	wait_for(bed, &next.over);
	assert_string_equal(next.ret, "2");
	assert_int_equal(late.code, -ETIMEDOUT);
}

static void test_a_command_that_was_too_late_to_be_sent_never_is(void **state)
{
	struct bed *bed = *state;
	struct result late = { 0 };

	assert_int_equal(qmp_call(bed->qmp, "device_add", NULL, -1, 10, on_done, &late), 0);
	wait_for(bed, &late.over);
	assert_int_equal(late.code, -ETIMEDOUT);
	negotiate(bed);
	assert_silent(bed);
}

static void assert_same_file(int a, int b)
{
	struct stat x, y;

	assert_int_equal(fstat(a, &x), 0);
	assert_int_equal(fstat(b, &y), 0);
	assert_true(x.st_ino == y.st_ino && x.st_dev == y.st_dev);
}

static void test_descriptors_travel_one_at_a_time(void **state)
{
	struct bed *bed = *state;
	struct result results[3] = { 0 };
	_cleanup_(close_fdp) int got = -EBADF;
	_cleanup_(close_fdp) int got_second = -EBADF;
	int pipe_fds[2];

	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	negotiate(bed);
	for (int i = 0; i < 2; i++)
		assert_int_equal(qmp_call(bed->qmp, "add-fd", NULL, pipe_fds[0], PATIENCE_MS,
					  on_done, &results[i]),
				 0);
	close(pipe_fds[0]);
	call(bed, "after", NULL, &results[2]);

	assert_non_null(strstr(hear(bed, &got), "\"add-fd\""));
	assert_same_file(got, pipe_fds[1]);
	assert_silent(bed);
	say(bed, "{\"return\": {}, \"id\": 2}\n");
	assert_non_null(strstr(hear(bed, &got_second), "\"add-fd\""));
	assert_same_file(got_second, pipe_fds[1]);
	assert_non_null(strstr(hear(bed, NULL), "\"after\""));
	close(pipe_fds[1]);
	qmp_free(TAKE_PTR(bed->qmp));
}

static void test_the_client_may_be_freed_in_a_callback(void **state)
{
	struct bed *bed = *state;
	struct result first = { .free_bed = bed };
	struct result second = { 0 };

	negotiate(bed);
	call(bed, "one", NULL, &first);
	call(bed, "two", NULL, &second);
	hear(bed, NULL);
	hear(bed, NULL);
	say(bed, "{\"return\": {}, \"id\": 2}\n{\"return\": {}, \"id\": 3}\n");
	wait_for(bed, &first.over);
	assert_int_equal(first.code, 0);
	assert_int_equal(second.code, -ECONNRESET);
	assert_false(bed->is_closed); /* nobody is told who knows already */
}

static void test_there_is_a_limit_to_what_is_under_way(void **state)
{
	static struct result results[QMP_SLOTS_MAX];
	struct bed *bed = *state;

	for (size_t i = 0; i + 1 < QMP_SLOTS_MAX; i++)
		call(bed, "cmd", NULL, &results[i]);
	assert_int_equal(qmp_call(bed->qmp, "cmd", NULL, -1, 1000, on_done, &results[0]), -EBUSY);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_command_and_answer),
		TEST(test_nothing_is_sent_before_the_greeting),
		TEST(test_answers_in_pieces_out_of_order_with_events_between),
		TEST(test_errors_have_codes_and_printable_texts),
		TEST(test_what_is_not_qmp_ends_the_connection),
		TEST(test_a_peer_without_greeting_is_not_qemu),
		TEST(test_a_line_without_end_is_cut_off),
		TEST(test_the_end_in_the_middle_of_a_line_fails_what_is_pending),
		TEST(test_a_deadline_passes_and_the_late_answer_is_dropped),
		TEST(test_a_command_that_was_too_late_to_be_sent_never_is),
		TEST(test_descriptors_travel_one_at_a_time),
		TEST(test_the_client_may_be_freed_in_a_callback),
		TEST(test_there_is_a_limit_to_what_is_under_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
