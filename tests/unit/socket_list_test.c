/* SPDX-License-Identifier: Apache-2.0 */
/* Which sockets of the host are listed, by all paths that they have; in a mount namespace of our
 * own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "sandbox/socket_list.h"

/* @list holds patterns below @root. */
struct fixture {
	char root[32];
	char path[256];
	char list[512];
	struct err e;
};

static const char *at(struct fixture *f, const char *path)
{
	snprintf(f->path, sizeof(f->path), "%s/%s", f->root, path);
	return f->path;
}

static void make_socket(struct fixture *f, const char *path)
{
	assert_int_equal(mknod(at(f, path), S_IFSOCK | 0600, 0), 0);
}

static void make_dir(struct fixture *f, const char *path)
{
	assert_int_equal(mkdir_p(at(f, path), 0755), 0);
}

static void bind_to(struct fixture *f, const char *from, const char *to)
{
	_cleanup_(freep) char *source = str_printf("%s/%s", f->root, from);

	assert_int_equal(mount(source, at(f, to), NULL, MS_BIND, NULL), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	if (!f)
		return -1;
	snprintf(f->root, sizeof(f->root), "/tmp/podvm-test.XXXXXX");
	if (!mkdtemp(f->root) || mount("tmpfs", f->root, "tmpfs", 0, NULL) < 0)
		return -1;
	make_dir(f, "run/agent");
	make_dir(f, "run/other");
	make_dir(f, "run/agent/deep");
	make_socket(f, "run/agent/a.sock");
	make_socket(f, "run/agent/plain");
	make_socket(f, "run/other/a.sock");
	make_socket(f, "run/agent/deep/a.sock");
	snprintf(f->list, sizeof(f->list), " %s/run/agent/*.sock\t%s/run/one ", f->root, f->root);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	while (umount2(f->root, MNT_DETACH) == 0)
		;
	rmdir(f->root);
	free(f);
	return 0;
}

static int source(struct fixture *f, const char *path)
{
	f->e = (struct err){ 0 };
	return socket_list_source(f->list, at(f, path), &f->e);
}

static void test_sockets(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(source(f, "run/agent/a.sock"), 1);
	assert_int_equal(source(f, "run/agent/plain"), -EPERM);
	assert_non_null(strstr(f->e.hint, "host_sockets in [storage]"));
	assert_int_equal(source(f, "run/other/a.sock"), -EPERM);
	assert_int_equal(source(f, "run/agent/deep/a.sock"), -EPERM);
	assert_int_equal(source(f, "missing"), -ENOENT);
	assert_int_equal(socket_list_source("", at(f, "run/agent/a.sock"), &f->e), -EPERM);
}

static void test_directories(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(source(f, "run/agent"), 1);
	assert_int_equal(source(f, "run"), 1); /* because of run/one */
	assert_int_equal(source(f, "run/other"), 0);
	assert_int_equal(source(f, "run/agent/deep"), 0);
	assert_int_equal(source(f, ""), 0);
	assert_int_equal(socket_list_source("", at(f, "run/agent"), &f->e), 0);
}

/* It's shared, as if nothing were listed. */
static void test_directory_that_is_no_copy(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkfifo(at(f, "run/agent/pipe"), 0600), 0);
	assert_int_equal(source(f, "run/agent"), 0);
	assert_int_equal(source(f, "run/agent/a.sock"), 1);
	assert_int_equal(unlink(at(f, "run/agent/pipe")), 0);
	assert_int_equal(source(f, "run/agent"), 1);
}

static void test_links_are_followed_first(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(symlink("agent", at(f, "run/link")), 0);
	assert_int_equal(symlink("other", at(f, "run/agent/out")), 0);
	assert_int_equal(symlink("../other/a.sock", at(f, "run/agent/x.sock")), 0);
	assert_int_equal(source(f, "run/link/a.sock"), 1);
	assert_int_equal(source(f, "run/link"), 1);
	assert_int_equal(source(f, "run/agent/x.sock"), -EPERM);
}

static void test_other_mounts_of_a_directory(void **state)
{
	struct fixture *f = *state;

	make_dir(f, "pods/1/agent");
	make_dir(f, "pods/1/run");
	make_dir(f, "pods/1/other");
	bind_to(f, "run/agent", "pods/1/agent");
	bind_to(f, "run", "pods/1/run");
	bind_to(f, "run/other", "pods/1/other");
	assert_int_equal(source(f, "pods/1/agent"), 1);
	assert_int_equal(source(f, "pods/1/agent/a.sock"), 1);
	assert_int_equal(source(f, "pods/1/agent/plain"), -EPERM);
	assert_int_equal(source(f, "pods/1/run/agent"), 1);
	assert_int_equal(source(f, "pods/1/run/agent/a.sock"), 1);
	assert_int_equal(source(f, "pods/1/other"), 0);
}

static void test_a_socket_that_is_mounted(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(close(open(at(f, "here"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	bind_to(f, "run/agent/a.sock", "here");
	assert_int_equal(source(f, "here"), 1);
	assert_int_equal(umount(at(f, "here")), 0);
	bind_to(f, "run/other/a.sock", "here");
	assert_int_equal(source(f, "here"), -EPERM);
}

/* Of a file system's root there is nothing above it to name. */
static void test_root_of_a_file_system(void **state)
{
	struct fixture *f = *state;

	make_dir(f, "run/fs");
	make_dir(f, "pod");
	assert_int_equal(mount("tmpfs", at(f, "run/fs"), "tmpfs", 0, NULL), 0);
	make_socket(f, "run/fs/a");
	bind_to(f, "run/fs", "pod");
	snprintf(f->list, sizeof(f->list), "%s/run/fs/*", f->root);
	assert_int_equal(source(f, "run/fs"), 1);
	assert_int_equal(source(f, "pod"), 1);
	assert_int_equal(source(f, "pod/a"), 1);
}

/* What is mounted over the listed directory is another one. */
static void test_hidden(void **state)
{
	struct fixture *f = *state;

	make_dir(f, "pod");
	bind_to(f, "run/agent", "pod");
	bind_to(f, "run/other", "run/agent");
	assert_int_equal(source(f, "pod"), 0);
	assert_int_equal(source(f, "pod/a.sock"), -EPERM);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sockets),
		TEST(test_directories),
		TEST(test_directory_that_is_no_copy),
		TEST(test_links_are_followed_first),
		TEST(test_other_mounts_of_a_directory),
		TEST(test_a_socket_that_is_mounted),
		TEST(test_root_of_a_file_system),
		TEST(test_hidden),
	};

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
