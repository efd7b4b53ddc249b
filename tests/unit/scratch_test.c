/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "base/str.h"
#include "storage/scratch.h"

#define SIZE ((uint64_t)1 << 30)

static int setup(void **state)
{
	static char dir[64];

	snprintf(dir, sizeof(dir), "/tmp/podvm-scratch-XXXXXX");
	*state = mkdtemp(dir);
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	return rm_rf(AT_FDCWD, *state);
}

static int create(const char *dir, uint64_t size)
{
	struct err e = { 0 };
	int fd = scratch_create(dir, size, &e);

	if (fd < 0)
		fail_msg("%s", e.msg);
	return fd;
}

static size_t files_in(const char *dir)
{
	_cleanup_(closedirp) DIR *d = opendir(dir);
	struct dirent *entry;
	size_t n = 0;

	while ((entry = readdir(d)))
		n += entry->d_name[0] != '.' || entry->d_name[1] == 's';
	return n;
}

/* Runs a program on the disk as its descriptor 3. */
static int check_disk(const char *program, char *const *argv, int fd, char **out)
{
	struct spawn s = SPAWN_INIT;
	struct err e = { 0 };
	int r;

	s.path = program;
	s.argv = argv;
	assert_int_equal(spawn_fd(&s, fd), 3);
	r = spawn_run(&s, 60000, out, &e);
	if (r < 0)
		print_message("%s\n", e.msg);
	return r;
}

static void test_is_a_sparse_clean_ext4(void **state)
{
	static char *const fsck[] = { (char *)"e2fsck", (char *)"-fn", (char *)"/proc/self/fd/3",
				      NULL };
	_cleanup_(close_fdp) int fd = create(*state, SIZE);
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	assert_true(st.st_blocks * 512 < 1 << 20);
	assert_int_equal(st.st_nlink, 0);
	assert_int_equal(check_disk("e2fsck", fsck, fd, NULL), 0);
}

/* The second one is a copy that shares nothing with the first. */
static void test_disks_are_separate(void **state)
{
	_cleanup_(close_fdp) int a = create(*state, SIZE);
	_cleanup_(close_fdp) int b = -EBADF;
	_cleanup_(close_fdp) int c = -EBADF;
	char text[6] = { 0 };

	assert_int_equal(pwrite(a, "mine", 4, 1 << 20), 4);
	b = create(*state, SIZE);
	assert_int_equal(pread(b, text, 4, 1 << 20), 4);
	assert_string_equal(text, "");
	assert_int_equal(pwrite(b, "xx", 2, 0), 2);
	c = create(*state, SIZE);
	assert_int_equal(pread(c, text, 2, 0), 2);
	assert_string_equal(text, "");
	/* Only the template has a name. */
	assert_int_equal(files_in(*state), 1);
}

static void test_each_size_has_a_template(void **state)
{
	_cleanup_(close_fdp) int a = create(*state, SIZE);
	_cleanup_(close_fdp) int b = create(*state, SIZE + 1);
	struct stat st;

	assert_int_equal(fstat(b, &st), 0);
	assert_int_equal(st.st_size, SIZE + 4096);
	assert_int_equal(files_in(*state), 2);
}

static void test_sizes_out_of_range(void **state)
{
	struct err e = { 0 };

	assert_int_equal(scratch_create(*state, 4096, &e), -EINVAL);
	assert_string_not_equal(e.hint, "");
	assert_int_equal(scratch_create(*state, UINT64_MAX, &e), -EINVAL);
	assert_int_equal(files_in(*state), 0);
}

static void test_not_a_directory(void **state)
{
	struct err e = { 0 };
	char file[128];
	int fd;

	snprintf(file, sizeof(file), "%s/file", (char *)*state);
	fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_true(scratch_create(file, SIZE, &e) < 0);
	assert_non_null(strstr(e.msg, file));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_is_a_sparse_clean_ext4),	  T(test_disks_are_separate),
		T(test_each_size_has_a_template), T(test_sizes_out_of_range),
		T(test_not_a_directory),
	};

	return cmocka_run_group_tests_name("scratch", tests, NULL, NULL);
}
