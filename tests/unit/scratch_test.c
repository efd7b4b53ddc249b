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
#include <string.h>
#include <sys/file.h>
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

/* A container's directories are in it, with modes that don't depend on anybody's umask. */
static void test_has_the_directories_of_a_layer(void **state)
{
	static char *const list[] = { (char *)"debugfs", (char *)"-R", (char *)"ls -p",
				      (char *)"/proc/self/fd/3", NULL };
	_cleanup_(freep) char *out = NULL;
	mode_t mask = umask(077);
	_cleanup_(close_fdp) int fd = create(*state, SIZE);

	umask(mask);
	assert_int_equal(check_disk("debugfs", list, fd, &out), 0);
	assert_non_null(strstr(out, "/040755/0/0/upper/"));
	assert_non_null(strstr(out, "/040755/0/0/work/"));
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

/* ---- with a name ---- */

/* An upper directory below the test's, made if it isn't there. */
static const char *upper(void **state)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/upper", (char *)*state);
	(void)mkdir(path, 0755);
	return path;
}

static int open_kept(void **state)
{
	struct err e = { 0 };
	int fd = scratch_open_kept(upper(state), *state, SIZE, &e);

	if (fd < 0)
		fail_msg("%s", e.msg);
	return fd;
}

static void set_state(int fd, char value)
{
	assert_int_equal(pwrite(fd, &value, 1, 1024 + 0x3a), 1);
}

static void test_kept_disk_is_found_again(void **state)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	struct stat first;
	struct stat second;

	assert_false(scratch_is_kept(upper(state)));
	fd = open_kept(state);
	assert_true(scratch_is_kept(upper(state)));
	assert_int_equal(fstat(fd, &first), 0);
	assert_int_equal(first.st_mode & 07777, 0600);
	assert_int_equal(first.st_nlink, 1);
	close(TAKE_FD(fd));
	fd = open_kept(state);
	assert_int_equal(fstat(fd, &second), 0);
	assert_int_equal(first.st_ino, second.st_ino);
}

/* The guest was killed while it was mounted, or has found errors. */
static void test_kept_disk_that_was_not_unmounted_is_made_anew(void **state)
{
	static const char states[] = { 0, 3 };
	struct stat before;
	struct stat after;

	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		_cleanup_(close_fdp) int fd = open_kept(state);

		assert_int_equal(fstat(fd, &before), 0);
		assert_int_equal(pwrite(fd, "mine", 4, 1 << 20), 4);
		set_state(fd, states[i]);
		close(TAKE_FD(fd));
		fd = open_kept(state);
		assert_int_equal(fstat(fd, &after), 0);
		assert_true(after.st_blocks <= before.st_blocks);
		set_state(fd, 1);
	}
}

static void test_kept_disk_has_one_user(void **state)
{
	_cleanup_(close_fdp) int fd = open_kept(state);
	_cleanup_(close_fdp) int other = -EBADF;
	char path[160];

	snprintf(path, sizeof(path), "%s/" SCRATCH_KEPT, upper(state));
	other = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(flock(other, LOCK_EX | LOCK_NB), -1);
	close(TAKE_FD(fd));
	assert_int_equal(flock(other, LOCK_EX | LOCK_NB), 0);
}

static void test_what_is_no_kept_disk(void **state)
{
	char path[160];
	char target[160];
	struct err e = { 0 };

	snprintf(path, sizeof(path), "%s/" SCRATCH_KEPT, upper(state));
	snprintf(target, sizeof(target), "%s/target", (char *)*state);
	close(open(target, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	assert_int_equal(symlink(target, path), 0);
	assert_int_equal(scratch_open_kept(upper(state), *state, SIZE, &e), -ELOOP);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(link(target, path), 0);
	assert_int_equal(scratch_open_kept(upper(state), *state, SIZE, &e), -EINVAL);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(scratch_open_kept(upper(state), *state, SIZE, &e), -EINVAL);
}

/* The disk of an emptyDir has a journal, and is used again whatever happened. */
static void test_volume_outlives_a_crash(void **state)
{
	static char *const fsck[] = { (char *)"e2fsck", (char *)"-fn", (char *)"/proc/self/fd/3",
				      NULL };
	struct err e = { 0 };
	_cleanup_(close_fdp) int fd = scratch_open_volume(upper(state), *state, SIZE, &e);
	uint32_t features = 0;
	struct stat first;
	struct stat second;

	assert_true(fd >= 0);
	assert_int_equal(check_disk("/sbin/e2fsck", fsck, fd, NULL), 0);
	assert_int_equal(pread(fd, &features, 4, 1024 + 0x5c), 4);
	assert_int_equal(features & 4, 4);
	assert_int_equal(fstat(fd, &first), 0);
	assert_true(first.st_blocks * 512 < 4 << 20);
	set_state(fd, 0);
	close(TAKE_FD(fd));
	fd = scratch_open_volume(upper(state), *state, SIZE, &e);
	assert_int_equal(fstat(fd, &second), 0);
	assert_int_equal(first.st_ino, second.st_ino);
	/* A layer of the same size has none. */
	close(TAKE_FD(fd));
	fd = open_kept(state);
	assert_int_equal(pread(fd, &features, 4, 1024 + 0x5c), 4);
	assert_int_equal(features & 4, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_is_a_sparse_clean_ext4),
		T(test_has_the_directories_of_a_layer),
		T(test_disks_are_separate),
		T(test_each_size_has_a_template),
		T(test_sizes_out_of_range),
		T(test_not_a_directory),
		T(test_kept_disk_is_found_again),
		T(test_kept_disk_that_was_not_unmounted_is_made_anew),
		T(test_kept_disk_has_one_user),
		T(test_what_is_no_kept_disk),
		T(test_volume_outlives_a_crash),
	};

	return cmocka_run_group_tests_name("scratch", tests, NULL, NULL);
}
