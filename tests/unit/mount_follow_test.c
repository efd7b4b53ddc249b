/* SPDX-License-Identifier: Apache-2.0 */
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
#include "base/mountinfo.h"
#include "base/str.h"
#include "storage/mount_follow.h"
#include "storage/virtiofs.h"

/* <dir>/host is the host's, <dir>/shared/0 what the guest sees of it. */
struct fixture {
	char dir[64];
	struct mount_follow *follow;
	struct err e;
};

static const char *in_dir(const struct fixture *f, const char *name)
{
	static char path[2][256];
	static unsigned int turn;
	char *ret = path[turn++ % 2];

	snprintf(ret, sizeof(path[0]), "%s/%s", f->dir, name);
	return ret;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/podvm-follow-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(mkdir_p(in_dir(f, "host/a"), 0755), 0);
	assert_int_equal(mkdir_p(in_dir(f, "host/b"), 0755), 0);
	assert_int_equal(mkdir_p(in_dir(f, "shared"), 0755), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	char *text;

	mount_follow_free(f->follow);
	umount2(in_dir(f, "shared/0"), MNT_DETACH);
	umount2(in_dir(f, "host/b"), MNT_DETACH);
	while (umount2(in_dir(f, "host/a"), MNT_DETACH) == 0)
		;
	assert_int_equal(mountinfo_read(&text, &e), 0);
	assert_null(strstr(text, f->dir));
	free(text);
	assert_int_equal(rm_rf(AT_FDCWD, f->dir), 0);
	free(f);
	return 0;
}

static void start_at(struct fixture *f, const char *source, bool readonly)
{
	const struct virtiofs_source s = { .path = source, .mount_ns = -EBADF, .alone = true };
	const char *shared = in_dir(f, "shared");

	if (virtiofs_share_add_from(&s, shared, "0", &f->e) < 0 ||
	    mount_follow_new(source, shared, "0", readonly, &f->follow, &f->e) < 0)
		fail_msg("%s", f->e.msg);
}

static void start(struct fixture *f, bool readonly)
{
	start_at(f, in_dir(f, "host"), readonly);
}

/* Return: Whether a mount has gone */
static bool update(struct fixture *f)
{
	_cleanup_(freep) char *text = NULL;

	assert_int_equal(mountinfo_read(&text, &f->e), 0);
	return mount_follow_update(f->follow, text);
}

/* A file system with one file in it. */
static void mount_with(struct fixture *f, const char *dir, const char *file)
{
	_cleanup_(freep) char *path = str_printf("%s/%s", in_dir(f, dir), file);

	assert_int_equal(mount("tmpfs", in_dir(f, dir), "tmpfs", 0, "size=64k"), 0);
	assert_int_equal(mknod(path, S_IFREG | 0644, 0), 0);
}

static bool sees(struct fixture *f, const char *path)
{
	return access(in_dir(f, path), F_OK) == 0;
}

static void test_mounts_come_and_go(void **state)
{
	struct fixture *f = *state;

	mount_with(f, "host/a", "before");
	start(f, false);
	assert_false(sees(f, "shared/0/a/before"));
	assert_false(update(f));
	assert_true(sees(f, "shared/0/a/before"));
	mount_with(f, "host/b", "later");
	assert_int_equal(mkdir(in_dir(f, "host/b/in"), 0755), 0);
	mount_with(f, "host/b/in", "deep");
	assert_false(update(f));
	assert_true(sees(f, "shared/0/b/later"));
	assert_true(sees(f, "shared/0/b/in/deep"));
	/* Nothing has changed. */
	assert_false(update(f));
	assert_int_equal(umount(in_dir(f, "host/a")), 0);
	assert_true(update(f));
	assert_false(sees(f, "shared/0/a/before"));
	assert_true(sees(f, "shared/0/b/in/deep"));
	assert_int_equal(umount2(in_dir(f, "host/b"), MNT_DETACH), 0);
	assert_true(update(f));
	assert_false(sees(f, "shared/0/b/later"));
}

static void test_host_can_unmount_what_is_open(void **state)
{
	struct fixture *f = *state;
	_cleanup_(close_fdp) int fd = -EBADF;

	start(f, false);
	mount_with(f, "host/a", "file");
	update(f);
	fd = open(in_dir(f, "shared/0/a/file"), O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(umount(in_dir(f, "host/a")), 0);
	assert_true(update(f));
	assert_false(sees(f, "shared/0/a/file"));
}

/* The number of a mount is soon another one's. */
static void test_one_in_the_place_of_another(void **state)
{
	struct fixture *f = *state;

	start(f, false);
	mount_with(f, "host/a", "old");
	update(f);
	assert_int_equal(umount(in_dir(f, "host/a")), 0);
	mount_with(f, "host/b", "new");
	assert_true(update(f));
	assert_false(sees(f, "shared/0/a/old"));
	assert_true(sees(f, "shared/0/b/new"));
}

static void test_one_over_another(void **state)
{
	struct fixture *f = *state;

	start(f, false);
	mount_with(f, "host/a", "lower");
	mount_with(f, "host/a", "upper");
	update(f);
	assert_true(sees(f, "shared/0/a/upper"));
	assert_int_equal(umount(in_dir(f, "host/a")), 0);
	assert_true(update(f));
	assert_true(sees(f, "shared/0/a/lower"));
}

static void test_readonly(void **state)
{
	struct fixture *f = *state;

	start(f, true);
	mount_with(f, "host/a", "file");
	update(f);
	assert_int_equal(mkdir(in_dir(f, "shared/0/a/new"), 0755), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(mkdir(in_dir(f, "host/a/new"), 0755), 0);
}

/* A guest may have put a link there, between the mount and now. */
static void test_no_link_is_followed(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *text = NULL;
	struct statx st;

	start(f, false);
	assert_int_equal(mkdir(in_dir(f, "host/b/in"), 0755), 0);
	assert_int_equal(symlink("b", in_dir(f, "host/link")), 0);
	mount_with(f, "host/b/in", "file");
	assert_int_equal(statx(AT_FDCWD, in_dir(f, "host/b/in"), 0, STATX_MNT_ID, &st), 0);
	text = str_printf("%llu 1 0:1 / %s/host/link/in rw - tmpfs tmpfs rw\n",
			  (unsigned long long)st.stx_mnt_id, f->dir);
	assert_false(mount_follow_update(f->follow, text));
	assert_false(sees(f, "shared/0/b/in/file"));
	assert_int_equal(umount(in_dir(f, "host/b/in")), 0);
}

/* What is shared may lie below what is shared. */
static void test_not_itself(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *text = NULL;

	start_at(f, f->dir, false);
	mount_with(f, "host/a", "file");
	update(f);
	update(f);
	assert_true(sees(f, "shared/0/host/a/file"));
	assert_int_equal(mountinfo_read(&text, &f->e), 0);
	assert_null(strstr(text, "shared/0/shared/0"));
}

static void test_root_directory(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *path = str_printf("shared/0%s/host/a/file", f->dir);

	start_at(f, "/", false);
	mount_with(f, "host/a", "file");
	update(f);
	assert_true(sees(f, path));
	assert_int_equal(umount(in_dir(f, "host/a")), 0);
	assert_true(update(f));
	assert_false(sees(f, path));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_mounts_come_and_go, setup, teardown),
		cmocka_unit_test_setup_teardown(test_host_can_unmount_what_is_open, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_one_in_the_place_of_another, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_over_another, setup, teardown),
		cmocka_unit_test_setup_teardown(test_readonly, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_link_is_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(test_root_directory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
