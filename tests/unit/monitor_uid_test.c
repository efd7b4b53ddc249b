/* SPDX-License-Identifier: Apache-2.0 */
/* Users of monitors: each has its own, and one that nobody has any more is given away again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "sandbox/monitor_uid.h"

#define BASE 1000

static char dir[64];

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/podvm-uid-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	return rm_rf(AT_FDCWD, dir);
}

static int take(uid_t expected)
{
	uid_t uid = 0;
	int fd = monitor_uid_take(dir, BASE, &uid);

	assert_true(fd >= 0);
	assert_int_equal(uid, expected);
	return fd;
}

static void test_each_has_its_own(void **state)
{
	_cleanup_(close_fdp) int a = take(BASE);
	_cleanup_(close_fdp) int b = take(BASE + 1);
	_cleanup_(close_fdp) int c = take(BASE + 2);

	close(TAKE_FD(b));
	b = take(BASE + 1);
}

static void test_the_dead_have_none(void **state)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		uid_t uid;

		_exit(monitor_uid_take(dir, BASE, &uid) >= 0 && uid == BASE ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	fd = take(BASE);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_each_has_its_own),
		T(test_the_dead_have_none),
	};

	return cmocka_run_group_tests_name("monitor_uid", tests, NULL, NULL);
}
