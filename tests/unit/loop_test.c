/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "loop/loop.h"

#define DEADLINE_MS 60000

static int setup(void **state)
{
	return loop_new((struct loop **)state);
}

static int teardown(void **state)
{
	loop_free(*state);
	return 0;
}

/**
 * struct seen - What the callbacks of a test saw
 * @count:	How often one was called
 * @value:	The last argument
 * @done:	Ends loop_run_until(), set at @count == @wanted
 * @io:		Freed by the callback when set; so are the next three
 */
struct seen {
	int count;
	int wanted;
	int value;
	bool done;
	struct loop *loop;
	struct loop_io *io;
	struct loop_timer *timer;
	struct loop_signal *signal;
	struct loop_child *child;
};

static void see(struct seen *s, int value)
{
	s->value = value;
	s->done = ++s->count >= s->wanted;
	loop_io_free(TAKE_PTR(s->io));
	loop_timer_free(TAKE_PTR(s->timer));
	loop_signal_free(TAKE_PTR(s->signal));
	loop_child_free(TAKE_PTR(s->child));
}

static void on_event(void *data, int value)
{
	see(data, value);
}

static void on_timer(void *data)
{
	see(data, 0);
}

static void count_turn(void *data)
{
	(*(int *)data)++;
}

static void stop_loop(void *data)
{
	loop_stop(((struct seen *)data)->loop);
}

/* Give the loop time to do what it shouldn't. */
static void settle(struct loop *loop)
{
	bool never = false;

	assert_int_equal(loop_run_until(loop, &never, 30), -ETIMEDOUT);
}

static void make_pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

/* ---- running ---- */

static void run_until_keeps_its_deadline(void **state)
{
	bool never = false;
	uint64_t start = clock_ms();

	assert_int_equal(loop_run_until(*state, &never, 50), -ETIMEDOUT);
	assert_in_range(clock_ms() - start, 49, DEADLINE_MS);
}

static void run_until_sees_a_condition_that_holds_already(void **state)
{
	bool done = true;

	assert_int_equal(loop_run_until(*state, &done, 0), 0);
}

static void run_until_sees_timers_that_are_due_already(void **state)
{
	struct seen s = { .wanted = 1 };
	struct timespec past = { .tv_nsec = 10000000 };
	struct loop_timer *timer;
	struct loop_io *io;
	int fds[2];

	/* A source on which nothing ever happens: waiting for events has no end. */
	make_pair(fds);
	assert_int_equal(loop_io_new(*state, fds[0], LOOP_READ, on_event, &s, &io), 0);
	assert_int_equal(loop_timer_new(*state, 1, on_timer, &s, &timer), 0);
	nanosleep(&past, NULL);
	assert_int_equal(loop_run_until(*state, &s.done, -1), 0);
	loop_timer_free(timer);
	loop_io_free(io);
	close(fds[0]);
	close(fds[1]);
}

static void run_until_ends_without_sources(void **state)
{
	bool never = false;

	assert_int_equal(loop_run_until(*state, &never, -1), -ECANCELED);
}

static void stop_ends_the_loop(void **state)
{
	struct seen s = { .loop = *state };
	struct loop_timer *timer;
	bool never = false;

	assert_int_equal(loop_timer_new(*state, 0, stop_loop, &s, &timer), 0);
	assert_int_equal(loop_run_until(*state, &never, DEADLINE_MS), -ECANCELED);
	/* It can be run again. */
	assert_int_equal(loop_run_until(*state, &never, 10), -ETIMEDOUT);
	loop_timer_free(timer);
	loop_run(*state);
}

static void free_takes_what_is_left(void **state)
{
	struct seen s = { .wanted = 1 };
	struct loop_io *io;
	struct loop_timer *timer;
	struct loop_signal *sig;
	struct loop *loop;
	int fds[2];

	make_pair(fds);
	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(loop_io_new(loop, fds[0], LOOP_READ, on_event, &s, &io), 0);
	assert_int_equal(loop_timer_new(loop, 0, on_timer, &s, &timer), 0);
	assert_int_equal(loop_signal_new(loop, SIGUSR1, on_event, &s, &sig), 0);
	loop_free(loop);
	assert_int_equal(s.count, 0);
	close(fds[0]);
	close(fds[1]);
	loop_free(NULL);
}

/* ---- descriptors ---- */

static void io_reports_what_is_watched(void **state)
{
	struct seen s = { .wanted = 1 };
	struct loop_io *io;
	int fds[2];

	make_pair(fds);
	assert_int_equal(loop_io_new(*state, fds[0], LOOP_READ, on_event, &s, &io), 0);
	settle(*state);
	assert_int_equal(s.count, 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	assert_int_equal(s.value, LOOP_READ);
	/* Unread data is reported again, unless nobody wants to know. */
	s.done = false;
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	assert_int_equal(loop_io_set(io, 0), 0);
	s.count = 0;
	settle(*state);
	assert_int_equal(s.count, 0);
	s.done = false;
	assert_int_equal(loop_io_set(io, LOOP_READ | LOOP_WRITE), 0);
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	assert_int_equal(s.value, LOOP_READ | LOOP_WRITE);
	loop_io_free(io);
	close(fds[0]);
	close(fds[1]);
}

static void io_reports_a_hang_up(void **state)
{
	struct seen s = { .wanted = 1 };
	struct loop_io *io;
	int fds[2];

	make_pair(fds);
	assert_int_equal(loop_io_new(*state, fds[0], LOOP_READ, on_event, &s, &io), 0);
	close(fds[1]);
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	assert_true(s.value & LOOP_READ);
	loop_io_free(io);
	close(fds[0]);
	loop_io_free(NULL);
}

static void io_reports_an_error_as_both(void **state)
{
	struct seen s = { .wanted = 1 };
	int fds[2];

	/* A pipe whose reader has gone: the writing end polls as an error. */
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	close(fds[0]);
	assert_int_equal(loop_io_new(*state, fds[1], LOOP_READ, on_event, &s, &s.io), 0);
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	assert_int_equal(s.value, LOOP_READ | LOOP_WRITE);
	close(fds[1]);
}

static void io_refuses_regular_files(void **state)
{
	_cleanup_(close_fdp) int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct seen s = { 0 };
	struct loop_io *io;

	assert_int_equal(loop_io_new(*state, fd, LOOP_READ, on_event, &s, &io), -EPERM);
}

static void io_is_freed_in_its_callback(void **state)
{
	struct seen s = { .wanted = 1 };
	int fds[2];

	make_pair(fds);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(loop_io_new(*state, fds[0], LOOP_READ, on_event, &s, &s.io), 0);
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	/* The descriptor may be closed and its number used again at once. */
	close(fds[0]);
	close(fds[1]);
	make_pair(fds);
	assert_int_equal(write(fds[1], "x", 1), 1);
	s.done = false;
	assert_int_equal(loop_io_new(*state, fds[0], LOOP_READ, on_event, &s, &s.io), 0);
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	assert_int_equal(s.count, 2);
	settle(*state);
	assert_int_equal(s.count, 2);
	close(fds[0]);
	close(fds[1]);
}

/* ---- timers ---- */

static void timer_runs_once(void **state)
{
	struct seen s = { .wanted = 1 };
	struct loop_timer *timer;
	uint64_t start = clock_ms();

	assert_int_equal(loop_timer_new(*state, 20, on_timer, &s, &timer), 0);
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	assert_in_range(clock_ms() - start, 19, DEADLINE_MS);
	settle(*state);
	assert_int_equal(s.count, 1);
	/* And again when it's told to. */
	s.done = false;
	assert_int_equal(loop_timer_set(timer, 0), 0);
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	loop_timer_free(timer);
	loop_timer_free(NULL);
}

static void timer_counts_from_now(void **state)
{
	struct seen s = { .wanted = 1 };
	struct loop_timer *timer;
	struct timespec busy = { .tv_nsec = 60000000 };
	uint64_t start;

	/* The loop's own clock stands still while a callback works; here it's 60 ms behind. */
	settle(*state);
	nanosleep(&busy, NULL);
	start = clock_ms();
	assert_int_equal(loop_timer_new(*state, 50, on_timer, &s, &timer), 0);
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	assert_in_range(clock_ms() - start, 49, DEADLINE_MS);
	loop_timer_free(timer);
}

static void timer_is_moved_and_freed(void **state)
{
	struct seen moved = { .wanted = 1 };
	struct seen freed = { .wanted = 1 };
	struct loop_timer *a;
	struct loop_timer *b;

	assert_int_equal(loop_timer_new(*state, 5, on_timer, &moved, &a), 0);
	assert_int_equal(loop_timer_new(*state, 5, on_timer, &freed, &b), 0);
	assert_int_equal(loop_timer_set(a, DEADLINE_MS), 0);
	loop_timer_free(b);
	settle(*state);
	assert_int_equal(moved.count + freed.count, 0);
	loop_timer_free(a);
	assert_int_equal(loop_timer_new(*state, 0, on_timer, &moved, &moved.timer), 0);
	assert_int_equal(loop_run_until(*state, &moved.done, DEADLINE_MS), 0);
	assert_null(moved.timer);
}

static void idle_loop_does_not_turn(void **state)
{
	struct seen s = { .wanted = 1 };
	struct loop_io *io;
	struct loop_timer *timer;
	int turns = 0;
	int fds[2];

	make_pair(fds);
	assert_int_equal(loop_io_new(*state, fds[0], LOOP_READ, on_event, &s, &io), 0);
	assert_int_equal(loop_timer_new(*state, 20, count_turn, &turns, &timer), 0);
	settle(*state);
	assert_int_equal(turns, 1);
	assert_int_equal(s.count, 0);
	loop_timer_free(timer);
	loop_io_free(io);
	close(fds[0]);
	close(fds[1]);
}

/* ---- signals ---- */

static void signal_is_reported(void **state)
{
	struct seen s = { .wanted = 2 };
	struct loop_signal *sig;

	assert_int_equal(loop_signal_new(*state, SIGUSR1, on_event, &s, &sig), 0);
	raise(SIGUSR1);
	settle(*state);
	assert_int_equal(s.count, 1);
	assert_int_equal(s.value, SIGUSR1);
	raise(SIGUSR1);
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	loop_signal_free(sig);
	loop_signal_free(NULL);
}

static void signal_is_freed_in_its_callback(void **state)
{
	struct seen s = { .wanted = 1 };

	assert_int_equal(loop_signal_new(*state, SIGUSR1, on_event, &s, &s.signal), 0);
	raise(SIGUSR1);
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	assert_null(s.signal);
}

/* ---- children ---- */

static int start(const char *script, pid_t *pid)
{
	struct spawn spec = SPAWN_INIT;
	char *argv[] = { (char *)"sh", (char *)"-c", (char *)(uintptr_t)script, NULL };
	int pidfd;

	spec.path = "sh";
	spec.argv = argv;
	pidfd = spawn_start(&spec, pid, NULL);
	assert_true(pidfd >= 0);
	return pidfd;
}

static void child_tells_its_exit_code(void **state)
{
	struct seen s = { .wanted = 1 };
	struct loop_child *child;

	assert_int_equal(loop_child_new(*state, start("exit 7", NULL), on_event, &s, &child), 0);
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	assert_int_equal(s.value, 7);
	assert_int_equal(loop_child_kill(child, SIGTERM), -ESRCH);
	loop_child_free(child);
	loop_child_free(NULL);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void child_tells_the_signal(void **state)
{
	struct seen s = { .wanted = 1 };
	struct loop_child *child;

	assert_int_equal(
		loop_child_new(*state, start("exec sleep 100", NULL), on_event, &s, &child), 0);
	settle(*state);
	assert_int_equal(s.count, 0);
	assert_int_equal(loop_child_kill(child, SIGTERM), 0);
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	assert_int_equal(s.value, 128 + SIGTERM);
	loop_child_free(child);
}

static void child_that_ended_is_reaped_by_free(void **state)
{
	struct seen s = { .wanted = 1 };
	struct loop_child *child;
	siginfo_t info;
	pid_t pid;

	assert_int_equal(loop_child_new(*state, start("exit 0", &pid), on_event, &s, &child), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	loop_child_free(child);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(s.count, 0);
}

static void child_that_runs_is_killed_and_reaped_by_free(void **state)
{
	struct seen s = { .wanted = 1 };
	struct loop_child *child;

	assert_int_equal(
		loop_child_new(*state, start("exec sleep 100", NULL), on_event, &s, &child), 0);
	settle(*state);
	loop_child_free(child);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(s.count, 0);
}

static void child_that_another_reaped_still_ends(void **state)
{
	struct seen s = { .wanted = 1 };
	struct loop_child *child;
	pid_t pid;

	assert_int_equal(loop_child_new(*state, start("exit 3", &pid), on_event, &s, &child), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	assert_int_equal(s.value, 255);
	loop_child_free(child);
}

static void child_ends_with_its_loop(void **state)
{
	struct seen s = { .wanted = 1 };
	struct loop_child *child;
	struct loop *loop;

	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(loop_child_new(loop, start("exec sleep 100", NULL), on_event, &s, &child),
			 0);
	loop_free(loop);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(s.count, 0);
}

static void child_is_freed_in_its_callback(void **state)
{
	struct seen s = { .wanted = 1 };

	assert_int_equal(loop_child_new(*state, start("exit 1", NULL), on_event, &s, &s.child), 0);
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	assert_null(s.child);
	assert_int_equal(s.value, 1);
}

static void many_children_end_in_any_order(void **state)
{
	struct seen s = { .wanted = 20 };
	struct loop_child *children[20];

	for (size_t i = 0; i < ARRAY_SIZE(children); i++)
		assert_int_equal(
			loop_child_new(*state, start("exit 0", NULL), on_event, &s, &children[i]),
			0);
	assert_int_equal(loop_run_until(*state, &s.done, DEADLINE_MS), 0);
	assert_int_equal(s.count, 20);
	for (size_t i = 0; i < ARRAY_SIZE(children); i++)
		loop_child_free(children[i]);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

#define loop_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		loop_test(run_until_keeps_its_deadline),
		loop_test(run_until_sees_a_condition_that_holds_already),
		loop_test(run_until_sees_timers_that_are_due_already),
		loop_test(run_until_ends_without_sources),
		loop_test(stop_ends_the_loop),
		loop_test(free_takes_what_is_left),
		loop_test(io_reports_what_is_watched),
		loop_test(io_reports_a_hang_up),
		loop_test(io_reports_an_error_as_both),
		loop_test(io_refuses_regular_files),
		loop_test(io_is_freed_in_its_callback),
		loop_test(timer_runs_once),
		loop_test(timer_counts_from_now),
		loop_test(timer_is_moved_and_freed),
		loop_test(idle_loop_does_not_turn),
		loop_test(signal_is_reported),
		loop_test(signal_is_freed_in_its_callback),
		loop_test(child_tells_its_exit_code),
		loop_test(child_tells_the_signal),
		loop_test(child_that_ended_is_reaped_by_free),
		loop_test(child_that_runs_is_killed_and_reaped_by_free),
		loop_test(child_that_another_reaped_still_ends),
		loop_test(child_ends_with_its_loop),
		loop_test(child_is_freed_in_its_callback),
		loop_test(many_children_end_in_any_order),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
