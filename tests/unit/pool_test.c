/* SPDX-License-Identifier: Apache-2.0 */
/* Taking machines that wait, from guards that are played by the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fdpass.h"
#include "sandbox/pool.h"

#define PATIENCE_MS 60000
#define N_FDS	    (VMM_HANDOVER_FDS + 2)

/* What happens to who connects. */
enum behaviour { GIVES, HANGS_UP, TOO_FEW };

/* A guard: its socket, and what it was asked. */
struct guard {
	struct bed *bed;
	enum behaviour behaviour;
	int listen_fd;
	struct loop_io *listen_io;
	int peer;
	struct loop_io *peer_io;
	unsigned int asked;
	char request;
};

struct bed {
	struct loop *loop;
	char dir[64];
	int dir_fd;
	struct guard guards[2];
	struct pool_take *take;
	bool done;
	bool found;
	struct pool_machine m;
};

static int setup(void **state)
{
	struct bed *bed = calloc(1, sizeof(*bed));

	if (!bed)
		return -1;
	*state = bed;
	snprintf(bed->dir, sizeof(bed->dir), "/tmp/podvm-pool-test-XXXXXX");
	if (!mkdtemp(bed->dir) || loop_new(&bed->loop) < 0)
		return -1;
	bed->dir_fd = open(bed->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bed->m = POOL_MACHINE_INIT;
	for (size_t i = 0; i < ARRAY_SIZE(bed->guards); i++)
		bed->guards[i] = (struct guard){ .bed = bed, .listen_fd = -1, .peer = -1 };
	return 0;
}

static int teardown(void **state)
{
	struct bed *bed = *state;

	pool_take_free(bed->take);
	pool_machine_done(&bed->m);
	for (size_t i = 0; i < ARRAY_SIZE(bed->guards); i++) {
		loop_io_free(bed->guards[i].listen_io);
		loop_io_free(bed->guards[i].peer_io);
		close_fdp(&bed->guards[i].listen_fd);
		close_fdp(&bed->guards[i].peer);
	}
	loop_free(bed->loop);
	close(bed->dir_fd);
	(void)rm_rf(AT_FDCWD, bed->dir);
	free(bed);
	return 0;
}

static void answer(struct guard *g)
{
	struct pool_answer a = { .vmm_pid = getpid(), .agent_next = 7, .nic = true, .uid = true };
	int fds[N_FDS];

	for (size_t i = 0; i < N_FDS; i++)
		fds[i] = g->bed->dir_fd;
	assert_int_equal(fdpass_send(g->peer, &a, sizeof(a), fds,
				     g->behaviour == TOO_FEW ? N_FDS - 1 : N_FDS),
			 0);
}

static void on_request(void *data, int events)
{
	struct guard *g = data;

	assert_int_equal(recv(g->peer, &g->request, 1, 0), 1);
	g->asked++;
	loop_io_free(TAKE_PTR(g->peer_io));
	if (g->behaviour == HANGS_UP)
		close(TAKE_FD(g->peer));
	else
		answer(g);
}

static void on_connection(void *data, int events)
{
	struct guard *g = data;

	g->peer = accept4(g->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(g->peer >= 0);
	assert_int_equal(loop_io_new(g->bed->loop, g->peer, LOOP_READ, on_request, g, &g->peer_io),
			 0);
}

static void add_guard(struct bed *bed, size_t i, const char *key, enum behaviour behaviour)
{
	struct guard *g = &bed->guards[i];
	char name[80];

	snprintf(name, sizeof(name), POOL_PREFIX "%s-%zu", key, 100 + i);
	g->behaviour = behaviour;
	g->listen_fd = pool_listen(bed->dir_fd, name);
	assert_true(g->listen_fd >= 0);
	assert_int_equal(
		loop_io_new(bed->loop, g->listen_fd, LOOP_READ, on_connection, g, &g->listen_io),
		0);
}

static void on_taken(void *data, struct pool_machine *m)
{
	struct bed *bed = data;

	assert_false(bed->done);
	bed->done = true;
	bed->found = m;
	if (m) {
		bed->m = *m;
		*m = POOL_MACHINE_INIT;
	}
}

static bool take(struct bed *bed, const char *key)
{
	bed->done = false;
	pool_take_free(bed->take);
	bed->take = NULL;
	assert_int_equal(pool_take(bed->loop, bed->dir, key, on_taken, bed, &bed->take), 0);
	assert_false(bed->done);
	assert_int_equal(loop_run_until(bed->loop, &bed->done, PATIENCE_MS), 0);
	return bed->found;
}

static bool is_dir(const struct bed *bed, int fd)
{
	struct stat a;
	struct stat b;

	assert_int_equal(fstat(fd, &a), 0);
	assert_int_equal(fstat(bed->dir_fd, &b), 0);
	return a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static void test_taking_one(void **state)
{
	struct bed *bed = *state;

	add_guard(bed, 0, "aa", GIVES);
	assert_true(take(bed, "aa"));
	assert_int_equal(bed->guards[0].request, POOL_TAKE);
	assert_int_equal(bed->m.vmm.pid, getpid());
	assert_int_equal(bed->m.guard_pid, getpid());
	assert_int_equal(bed->m.agent_next, 7);
	for (size_t i = 0; i < VMM_HANDOVER_FDS; i++)
		assert_true(is_dir(bed, bed->m.vmm.fds[i]));
	assert_true(is_dir(bed, bed->m.nic_fd));
	assert_true(is_dir(bed, bed->m.uid_fd));
	assert_true(bed->m.guard_fd >= 0);
}

static void test_nobody_waits(void **state)
{
	struct bed *bed = *state;

	assert_true(pool_is_empty(bed->dir));
	assert_true(pool_is_empty("/nonexistent"));
	assert_false(take(bed, "aa"));
}

static void test_another_key_is_left_alone(void **state)
{
	struct bed *bed = *state;

	add_guard(bed, 0, "ab", GIVES);
	assert_false(pool_is_empty(bed->dir));
	assert_false(take(bed, "aa"));
	assert_int_equal(bed->guards[0].asked, 0);
}

static void test_who_has_been_given_away_hangs_up_and_the_next_is_asked(void **state)
{
	struct bed *bed = *state;

	add_guard(bed, 0, "aa", HANGS_UP);
	assert_false(take(bed, "aa"));
	add_guard(bed, 1, "aa", GIVES);
	assert_true(take(bed, "aa"));
	assert_int_equal(bed->guards[1].asked, 1);
}

static void test_an_answer_without_all_of_it_is_none(void **state)
{
	struct bed *bed = *state;

	add_guard(bed, 0, "aa", TOO_FEW);
	assert_false(take(bed, "aa"));
	assert_int_equal(bed->guards[0].asked, 1);
}

static void test_the_socket_of_the_dead_is_removed(void **state)
{
	struct pool_entry *v = NULL;
	struct bed *bed = *state;

	add_guard(bed, 0, "aa", GIVES);
	loop_io_free(TAKE_PTR(bed->guards[0].listen_io));
	close(bed->guards[0].listen_fd);
	bed->guards[0].listen_fd = -1;
	assert_int_equal(pool_list(bed->dir, &v), 1);
	assert_string_equal(v[0].key, "aa");
	assert_int_equal(v[0].pid, 100);
	free(v);
	assert_false(take(bed, "aa"));
	assert_true(pool_is_empty(bed->dir));
}

static void test_dropping_one(void **state)
{
	struct pool_entry entry = { .key = "aa", .pid = 100 };
	struct bed *bed = *state;

	add_guard(bed, 0, "aa", HANGS_UP);
	assert_int_equal(pool_drop(bed->dir, &entry), 0);
	while (!bed->guards[0].asked)
		assert_int_not_equal(loop_run_until(bed->loop, &bed->done, 1), 0);
	assert_int_equal(bed->guards[0].request, POOL_DROP);
	entry.pid = 101;
	assert_int_equal(pool_drop(bed->dir, &entry), -ENOENT);
}

static void test_names_that_are_no_machines(void **state)
{
	static const char *const names[] = {
		".pool-", ".pool-aa", ".pool-aa-", ".pool-aa-x", ".pool-aa-99999999999", "pool-aa-1"
	};
	struct pool_entry *v = NULL;
	struct bed *bed = *state;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(file_replace(bed->dir_fd, names[i], "", 0, 0600), 0);
	assert_int_equal(pool_list(bed->dir, &v), 0);
	free(v);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_taking_one),
		TEST(test_nobody_waits),
		TEST(test_another_key_is_left_alone),
		TEST(test_who_has_been_given_away_hangs_up_and_the_next_is_asked),
		TEST(test_an_answer_without_all_of_it_is_none),
		TEST(test_the_socket_of_the_dead_is_removed),
		TEST(test_dropping_one),
		TEST(test_names_that_are_no_machines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
