/* SPDX-License-Identifier: Apache-2.0 */
/* Who listens at a path, and what comes from a unix socket, of either type. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fdpass.h"
#include "base/str.h"
#include "base/unixsock.h"

struct pair {
	int a;
	int b;
};

static int setup(void **state, int type)
{
	struct pair *p = calloc(1, sizeof(*p));
	int fds[2];

	if (!p || socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) < 0)
		return -1;
	*p = (struct pair){ fds[0], fds[1] };
	*state = p;
	return 0;
}

static int setup_stream(void **state)
{
	return setup(state, SOCK_STREAM);
}

static int setup_messages(void **state)
{
	return setup(state, SOCK_SEQPACKET);
}

static int teardown(void **state)
{
	struct pair *p = *state;

	close(p->a);
	if (p->b >= 0)
		close(p->b);
	free(p);
	return 0;
}

static void say(struct pair *p, const char *text)
{
	assert_int_equal(send(p->b, text, strlen(text), 0), strlen(text));
}

static void assert_next(struct pair *p, const char *want)
{
	char text[64];
	ssize_t n = unixsock_receive(p->a, text, sizeof(text));

	assert_int_equal(n, strlen(want));
	assert_memory_equal(text, want, strlen(want));
}

static void assert_nothing(struct pair *p, int why)
{
	char text[64];

	assert_int_equal(unixsock_receive(p->a, text, sizeof(text)), why);
}

/* ---- paths ---- */

static char dir[] = "/tmp/unixsock.XXXXXX";

static int make_dir(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	return rm_rf(AT_FDCWD, dir);
}

static void assert_connects(const char *path, int type, int want)
{
	_cleanup_(close_fdp) int fd = unixsock_connect(path, type);

	assert_int_equal(MIN(fd, 0), want);
}

static void test_listen_and_connect(void **state)
{
	_cleanup_(freep) char *path = str_printf("%s/socket", dir);
	_cleanup_(close_fdp) int fd = -EBADF;
	struct stat st;

	assert_connects(path, SOCK_STREAM, -ENOENT);
	fd = unixsock_listen(path, SOCK_STREAM, 1);
	assert_true(fd >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_connects(path, SOCK_STREAM, 0);
	assert_connects(path, SOCK_SEQPACKET, -EPROTOTYPE);
	assert_int_equal(unixsock_listen(path, SOCK_STREAM, 1), -EADDRINUSE);
	close(TAKE_FD(fd));
	assert_connects(path, SOCK_STREAM, -ECONNREFUSED);
}

static void test_path_too_long(void **state)
{
	char path[200];

	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	assert_connects(path, SOCK_STREAM, -ENAMETOOLONG);
	assert_int_equal(unixsock_listen(path, SOCK_STREAM, 1), -ENAMETOOLONG);
}

/* ---- what comes ---- */

static void test_stream(void **state)
{
	struct pair *p = *state;

	assert_nothing(p, -EAGAIN);
	say(p, "one");
	say(p, "two");
	assert_int_equal(unixsock_queued(p->a), 6);
	assert_next(p, "onetwo");
	assert_int_equal(unixsock_queued(p->a), 1);
}

static void test_ends(void **state)
{
	struct pair *p = *state;

	say(p, "last");
	shutdown(p->b, SHUT_WR);
	assert_next(p, "last");
	assert_nothing(p, 0);
	assert_false(unixsock_hung_up(p->a));
	close(p->b);
	p->b = -1;
	assert_nothing(p, 0);
	assert_true(unixsock_hung_up(p->a));
}

static void test_messages(void **state)
{
	struct pair *p = *state;

	say(p, "one");
	say(p, "");
	say(p, "");
	say(p, "two");
	assert_next(p, "one");
	assert_next(p, "two");
	assert_nothing(p, -EAGAIN);
	say(p, "");
	assert_nothing(p, -EAGAIN);
}

static void test_empty_before_the_end(void **state)
{
	struct pair *p = *state;

	say(p, "");
	say(p, "last");
	close(p->b);
	p->b = -1;
	assert_next(p, "last");
	assert_nothing(p, 0);
}

static void test_too_long(void **state)
{
	struct pair *p = *state;
	char text[65] = { 0 };

	assert_int_equal(send(p->b, text, 64, 0), 64);
	assert_int_equal(send(p->b, text, 65, 0), 65);
	assert_int_equal(unixsock_receive(p->a, text, 64), 64);
	assert_int_equal(unixsock_receive(p->a, text, 64), -EMSGSIZE);
}

static void test_descriptor(void **state)
{
	struct pair *p = *state;

	assert_int_equal(fdpass_send(p->b, "x", 1, &p->b, 1), 0);
	assert_nothing(p, -EBADMSG);
	/* It isn't open here: the other end is the last one. */
	close(p->b);
	p->b = -1;
	assert_true(unixsock_hung_up(p->a));
}

#define STREAM(f)   cmocka_unit_test_setup_teardown(f, setup_stream, teardown)
#define MESSAGES(f) cmocka_unit_test_setup_teardown(f, setup_messages, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_listen_and_connect),
		cmocka_unit_test(test_path_too_long),
		STREAM(test_stream),
		STREAM(test_ends),
		STREAM(test_descriptor),
		MESSAGES(test_messages),
		MESSAGES(test_empty_before_the_end),
		MESSAGES(test_too_long),
		MESSAGES(test_descriptor),
		MESSAGES(test_ends),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
