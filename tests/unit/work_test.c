/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "loop/work.h"

#define DEADLINE_MS 60000

/* A loop, and how the work has ended. */
struct fixture {
	struct loop *loop;
	struct work *work;
	bool done;
	struct err e;
	size_t n_fds;
	int fd;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	f->fd = -EBADF;
	return loop_new(&f->loop);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	work_free(f->work);
	close_fdp(&f->fd);
	loop_free(f->loop);
	free(f);
	return 0;
}

/* Takes the first descriptor only. */
static void on_done(void *data, struct work_result *result, const struct err *e)
{
	struct fixture *f = data;

	assert_false(f->done);
	f->done = true;
	if (e)
		f->e = *e;
	else
		f->n_fds = result->n_fds;
	if (result && result->n_fds > 0)
		f->fd = TAKE_FD(result->fds[0]);
}

static void begin(struct fixture *f, work_fn fn, void *arg, uint64_t timeout_ms)
{
	assert_int_equal(
		work_new(f->loop, "the test", fn, arg, timeout_ms, on_done, f, &f->work, NULL), 0);
}

static void run(struct fixture *f, work_fn fn, void *arg)
{
	begin(f, fn, arg, DEADLINE_MS);
	assert_int_equal(loop_run_until(f->loop, &f->done, DEADLINE_MS), 0);
}

static int open_two(void *arg, struct work_result *result, struct err *e)
{
	result->fds[result->n_fds++] = open(arg, O_RDONLY);
	result->fds[result->n_fds++] = open("/dev/null", O_RDWR);
	return 0;
}

static void test_files_come_back(void **state)
{
	struct fixture *f = *state;
	char path[] = "/proc/self/exe";
	char magic[4];

	run(f, open_two, path);
	assert_int_equal(f->e.code, 0);
	assert_int_equal(f->n_fds, 2);
	assert_int_equal(read(f->fd, magic, 4), 4);
	assert_memory_equal(magic, "\177ELF", 4);
	assert_true(fcntl(f->fd, F_GETFD) & FD_CLOEXEC);
}

static int nothing(void *arg, struct work_result *result, struct err *e)
{
	return 0;
}

static void test_no_files_are_fine(void **state)
{
	struct fixture *f = *state;

	run(f, nothing, NULL);
	assert_int_equal(f->e.code, 0);
	assert_int_equal(f->n_fds, 0);
}

static int refuse(void *arg, struct work_result *result, struct err *e)
{
	err_set(e, -ENOSPC, "there is no room");
	err_hint(e, "Make some.");
	return -ENOSPC;
}

static void test_error_comes_back(void **state)
{
	struct fixture *f = *state;

	run(f, refuse, NULL);
	assert_int_equal(f->e.code, -ENOSPC);
	assert_string_equal(f->e.msg, "there is no room");
	assert_string_equal(f->e.hint, "Make some.");
}

static int die(void *arg, struct work_result *result, struct err *e)
{
	_exit(5);
}

static void test_child_that_dies(void **state)
{
	struct fixture *f = *state;

	run(f, die, NULL);
	assert_int_equal(f->e.code, -ECHILD);
	assert_string_equal(f->e.msg, "the test ended without a result (5)");
}

static int hang(void *arg, struct work_result *result, struct err *e)
{
	while (pause() < 0)
		;
	return 0;
}

static void test_deadline(void **state)
{
	struct fixture *f = *state;

	begin(f, hang, NULL, 10);
	assert_int_equal(loop_run_until(f->loop, &f->done, DEADLINE_MS), 0);
	assert_int_equal(f->e.code, -ETIMEDOUT);
}

/* The child holds the pipe's end in no descriptor but its standard output. */
static int report(void *arg, struct work_result *result, struct err *e)
{
	(void)!write(STDOUT_FILENO, "up", 2);
	return hang(arg, result, e);
}

static void test_freed_work_is_killed_and_nobody_called(void **state)
{
	struct fixture *f = *state;
	_cleanup_(close_fdp) int saved = dup(STDOUT_FILENO);
	char text[3] = "";
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	fflush(stdout);
	dup2(p[1], STDOUT_FILENO);
	close(p[1]);
	begin(f, report, NULL, DEADLINE_MS);
	dup2(saved, STDOUT_FILENO);
	assert_int_equal(read(p[0], text, 2), 2);
	work_free(TAKE_PTR(f->work));
	assert_int_equal(read(p[0], text, 2), 0);
	close(p[0]);
	assert_false(f->done);
}

/* A pipe of ours ends when we close it, though the child lives. */
static void test_child_holds_no_descriptors(void **state)
{
	struct fixture *f = *state;
	char c;
	int p[2];

	assert_int_equal(pipe2(p, 0), 0);
	begin(f, hang, NULL, DEADLINE_MS);
	close(p[1]);
	assert_int_equal(read(p[0], &c, 1), 0);
	close(p[0]);
}

/* libuv does things at a fork, also at that of a child. */
static int run_program(void *arg, struct work_result *result, struct err *e)
{
	static char *argv[] = { (char *)"sh", (char *)"-c", (char *)"echo -n seen >&3", NULL };
	struct spawn s = SPAWN_INIT;
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	for (int i = 0; i < 8; i++)
		result->fds[result->n_fds++] = fcntl(p[0], F_DUPFD_CLOEXEC, 3);
	s.path = "/bin/sh";
	s.argv = argv;
	spawn_fd(&s, p[1]);
	return spawn_run(&s, DEADLINE_MS, NULL, e);
}

static void test_child_runs_programs(void **state)
{
	struct fixture *f = *state;
	char text[5] = "";

	run(f, run_program, NULL);
	assert_string_equal(f->e.msg, "");
	assert_int_equal(read(f->fd, text, 4), 4);
	assert_string_equal(text, "seen");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_files_come_back),
		TEST(test_no_files_are_fine),
		TEST(test_error_comes_back),
		TEST(test_child_that_dies),
		TEST(test_deadline),
		TEST(test_freed_work_is_killed_and_nobody_called),
		TEST(test_child_holds_no_descriptors),
		TEST(test_child_runs_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
