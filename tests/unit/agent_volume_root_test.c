/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent changes in a volume before containers see it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/volume_root.h"
#include "base/cleanup.h"
#include "base/fd.h"

struct fixture {
	char dir[64];
	int fd;
	struct err e;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/podvm-root-XXXXXX");
	*state = f;
	if (geteuid() != 0 || !mkdtemp(f->dir))
		return -1;
	f->fd = open(f->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return f->fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->fd);
	(void)rm_rf(AT_FDCWD, f->dir);
	free(f);
	return 0;
}

static int make(struct fixture *f, const char *path, bool attributes)
{
	Podvm__Agent__V1__Storage s = PODVM__AGENT__V1__STORAGE__INIT;
	Podvm__Agent__V1__DirectoryMode mode = PODVM__AGENT__V1__DIRECTORY_MODE__INIT;
	char *paths[] = { (char *)path };

	mode.mode = 02770;
	mode.uid = 5;
	mode.gid = 6;
	s.directories = paths;
	s.n_directories = 1;
	s.directory_mode = attributes ? &mode : NULL;
	return volume_root_directories(&s, f->fd, &f->e);
}

static struct stat look(struct fixture *f, const char *path)
{
	struct stat st;

	assert_int_equal(fstatat(f->fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st;
}

static void touch(struct fixture *f, const char *path, mode_t mode)
{
	int fd = openat(f->fd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void test_directories(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(make(f, "/a/b", false), 0);
	assert_int_equal(look(f, "a/b").st_mode, S_IFDIR | 0755);
	assert_int_equal(make(f, "/a/c/d", true), 0);
	assert_int_equal(look(f, "a/c").st_mode, S_IFDIR | 02770);
	assert_int_equal(look(f, "a/c/d").st_uid, 5);
	assert_int_equal(look(f, "a/c/d").st_gid, 6);
	/* What is there stays as it is. */
	assert_int_equal(make(f, "/a/b", true), 0);
	assert_int_equal(look(f, "a/b").st_mode, S_IFDIR | 0755);
}

static void test_the_last_part_may_be_a_file_of_a_volume(void **state)
{
	struct fixture *f = *state;

	touch(f, "file", 0600);
	assert_int_equal(make(f, "/file", true), 0);
	assert_int_equal(make(f, "/file/more", true), -ENOTDIR);
	assert_int_equal(make(f, "/file", false), -ENOTDIR);
}

static void test_links_do_not_lead_out(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(symlinkat("/..", f->fd, "out"), 0);
	assert_int_equal(make(f, "/out/inside", true), 0);
	assert_int_equal(look(f, "inside").st_mode, S_IFDIR | 02770);
}

static void give(struct fixture *f, gid_t gid, bool on_mismatch)
{
	Podvm__Agent__V1__FsGroup group = PODVM__AGENT__V1__FS_GROUP__INIT;

	group.gid = gid;
	group.on_root_mismatch = on_mismatch;
	assert_int_equal(volume_root_group(&group, f->fd, &f->e), 0);
}

static void test_group(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(make(f, "/a/b", false), 0);
	touch(f, "a/b/file", 0640);
	touch(f, "a/program", 0755);
	assert_int_equal(symlinkat("/etc/passwd", f->fd, "a/link"), 0);
	give(f, 2000, false);
	assert_int_equal(look(f, ".").st_gid, 2000);
	assert_int_equal(look(f, ".").st_mode & 07777, 02770);
	assert_int_equal(look(f, "a/b").st_mode & 07777, 02775);
	assert_int_equal(look(f, "a/b/file").st_mode & 07777, 0660);
	assert_int_equal(look(f, "a/b/file").st_gid, 2000);
	assert_int_equal(look(f, "a/program").st_mode & 07777, 0775);
	assert_int_equal(look(f, "a/link").st_gid, 2000);
}

static void test_group_of_a_volume_that_has_it(void **state)
{
	struct fixture *f = *state;

	give(f, 2000, true);
	touch(f, "file", 0600);
	assert_int_equal(fchownat(f->fd, "file", 0, 0, 0), 0);
	/* The root directory has it: nothing is looked at. */
	give(f, 2000, true);
	assert_int_equal(look(f, "file").st_gid, 0);
	give(f, 2000, false);
	assert_int_equal(look(f, "file").st_gid, 2000);
	give(f, 2001, true);
	assert_int_equal(look(f, "file").st_gid, 2001);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_directories),
		T(test_the_last_part_may_be_a_file_of_a_volume),
		T(test_links_do_not_lead_out),
		T(test_group),
		T(test_group_of_a_volume_that_has_it),
	};

	return cmocka_run_group_tests_name("agent_volume_root", tests, NULL, NULL);
}
