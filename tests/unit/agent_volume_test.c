/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of a volume in the guest, as the host asks for them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/volume.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define DIRECTORY PODVM__AGENT__V1__VOLUME_CHANGE__KIND__DIRECTORY
#define FILE_	  PODVM__AGENT__V1__VOLUME_CHANGE__KIND__FILE
#define LINK	  PODVM__AGENT__V1__VOLUME_CHANGE__KIND__LINK
#define REMOVE	  PODVM__AGENT__V1__VOLUME_CHANGE__KIND__REMOVE

struct fixture {
	char path[32];
	int fd;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	if (!f)
		return -1;
	snprintf(f->path, sizeof(f->path), "/tmp/podvm-test.XXXXXX");
	if (!mkdtemp(f->path))
		return -1;
	f->fd = open(f->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return f->fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->fd);
	rm_rf(AT_FDCWD, f->path);
	free(f);
	return 0;
}

/* @text: content of a file, target of a link */
static int change(struct fixture *f, Podvm__Agent__V1__VolumeChange__Kind kind, const char *path,
		  unsigned int mode, const char *text)
{
	Podvm__Agent__V1__VolumeChange c = PODVM__AGENT__V1__VOLUME_CHANGE__INIT;
	struct err e = { 0 };
	int r;

	c.kind = kind;
	c.path = (char *)path;
	c.mode = mode;
	c.uid = 7;
	c.gid = 8;
	c.target = (char *)text;
	c.data.data = (uint8_t *)text;
	c.data.len = strlen(text);
	r = volume_change(f->fd, NULL, &c, &e);
	assert_true(r == 0 || *e.msg);
	return r;
}

static void assert_content(struct fixture *f, const char *path, const char *want)
{
	_cleanup_(freep) char *text = NULL;

	assert_int_equal(file_read(f->fd, path, 4096, &text, NULL), 0);
	assert_string_equal(text, want);
}

static struct stat status(struct fixture *f, const char *path)
{
	struct stat st;

	assert_int_equal(fstatat(f->fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st;
}

static void test_published_as_the_kubelet_does(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(change(f, DIRECTORY, "", 02775, ""), 0);
	assert_int_equal(change(f, DIRECTORY, "..1", 0755, ""), 0);
	assert_int_equal(change(f, FILE_, "..1/key", 0400, "one"), 0);
	assert_int_equal(change(f, LINK, "..data", 0, "..1"), 0);
	assert_int_equal(change(f, LINK, "key", 0, "..data/key"), 0);
	assert_content(f, "key", "one");
	assert_int_equal(status(f, "..1/key").st_mode, S_IFREG | 0400);
	assert_int_equal(status(f, "..1/key").st_uid, 7);
	assert_int_equal(status(f, "..1/key").st_gid, 8);
	assert_int_equal(status(f, "..1").st_mode, S_IFDIR | 0755);
	assert_int_equal(status(f, ".").st_mode, S_IFDIR | 02775);
	assert_int_equal(status(f, "..data").st_gid, 8);
}

/* Who watches the directory sees what it would see of the kubelet. */
static void test_link_is_replaced_by_renaming(void **state)
{
	struct fixture *f = *state;
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	_cleanup_(close_fdp) int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	char seen[256] = "";
	ssize_t n;

	assert_int_equal(change(f, LINK, "..data", 0, "..1"), 0);
	assert_true(inotify_add_watch(watch, f->path, IN_CREATE | IN_MOVE | IN_DELETE) >= 0);
	assert_int_equal(change(f, LINK, "..data", 0, "..2"), 0);
	n = read(watch, buf, sizeof(buf));
	for (ssize_t i = 0; i < n;) {
		const struct inotify_event *ev = (const void *)(buf + i);

		snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%s:%s ",
			 ev->mask & IN_CREATE	    ? "create"
			 : ev->mask & IN_MOVED_FROM ? "from"
			 : ev->mask & IN_MOVED_TO   ? "to"
						    : "?",
			 ev->name);
		i += (ssize_t)sizeof(*ev) + ev->len;
	}
	assert_string_equal(seen, "create:..data_tmp from:..data_tmp to:..data ");
}

static void test_file_is_written_in_place(void **state)
{
	struct fixture *f = *state;
	_cleanup_(close_fdp) int fd = -EBADF;
	char text[16] = "";

	assert_int_equal(change(f, FILE_, "hosts", 0644, "a longer text"), 0);
	fd = openat(f->fd, "hosts", O_RDONLY | O_CLOEXEC);
	assert_int_equal(change(f, FILE_, "hosts", 0600, "short"), 0);
	assert_int_equal(read(fd, text, sizeof(text)), 5);
	assert_string_equal(text, "short");
	assert_int_equal(status(f, "hosts").st_mode, S_IFREG | 0600);
}

static void test_what_is_in_the_way_goes(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(change(f, DIRECTORY, "x", 0755, ""), 0);
	assert_int_equal(change(f, FILE_, "x/y", 0644, "y"), 0);
	assert_int_equal(change(f, FILE_, "x", 0644, "file"), 0);
	assert_content(f, "x", "file");
	assert_int_equal(change(f, DIRECTORY, "x", 0755, ""), 0);
	assert_int_equal(change(f, FILE_, "x/y", 0644, "y"), 0);
	assert_int_equal(change(f, LINK, "x", 0, "target"), 0);
	assert_true(S_ISLNK(status(f, "x").st_mode));
	assert_int_equal(change(f, DIRECTORY, "x", 0755, ""), 0);
	assert_true(S_ISDIR(status(f, "x").st_mode));
	assert_int_equal(mkfifoat(f->fd, "fifo", 0600), 0);
	assert_int_equal(change(f, FILE_, "fifo", 0644, "file"), 0);
	assert_content(f, "fifo", "file");
}

static void test_removed_with_everything_below(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(change(f, DIRECTORY, "x", 0755, ""), 0);
	assert_int_equal(change(f, FILE_, "x/y", 0644, "y"), 0);
	assert_int_equal(change(f, REMOVE, "x", 0, ""), 0);
	assert_int_equal(fstatat(f->fd, "x", &st, 0), -1);
	assert_int_equal(change(f, REMOVE, "x", 0, ""), 0);
	assert_int_equal(change(f, REMOVE, "no/such", 0, ""), 0);
}

static void test_kept_if_it_is_there(void **state)
{
	struct fixture *f = *state;
	Podvm__Agent__V1__VolumeChange c = PODVM__AGENT__V1__VOLUME_CHANGE__INIT;

	assert_int_equal(change(f, FILE_, "x", 0644, "mine"), 0);
	c.kind = DIRECTORY;
	c.path = (char *)"x";
	c.mode = 0755;
	c.keep = true;
	assert_int_equal(volume_change(f->fd, NULL, &c, NULL), 0);
	assert_content(f, "x", "mine");
	c.path = (char *)"y";
	assert_int_equal(volume_change(f->fd, NULL, &c, NULL), 0);
	assert_int_equal(status(f, "y").st_mode, S_IFDIR | 0755);
}

static void test_nothing_leads_out_of_it(void **state)
{
	struct fixture *f = *state;
	static const char *const bad[] = {
		"..", "../x", "a/../../x", "/etc/x", "a//b", "./x", "x/"
	};

	assert_int_equal(change(f, DIRECTORY, "a", 0755, ""), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (change(f, FILE_, bad[i], 0644, "out") != -EINVAL)
			fail_msg("%s was taken", bad[i]);
	/* As a container would put it there. */
	assert_int_equal(symlinkat("/tmp", f->fd, "link"), 0);
	assert_int_equal(change(f, FILE_, "link/podvm-test-out", 0644, "out"), -ELOOP);
	assert_int_equal(access("/tmp/podvm-test-out", F_OK), -1);
}

static void test_the_volume_itself_is_only_a_directory(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(change(f, FILE_, "", 0644, "x"), -EINVAL);
	assert_int_equal(change(f, LINK, "", 0644, "x"), -EINVAL);
	assert_int_equal(change(f, PODVM__AGENT__V1__VOLUME_CHANGE__KIND__UNSPECIFIED, "x", 0, ""),
			 -EINVAL);
}

static void test_devices_by_name(void **state)
{
	Podvm__Agent__V1__Device d = PODVM__AGENT__V1__DEVICE__INIT;

	device_lookup("null", &d);
	assert_true(d.found);
	assert_false(d.block);
	assert_int_equal(d.major, 1);
	assert_int_equal(d.minor, 3);
	podvm__agent__v1__device__init(&d);
	device_lookup("../etc/passwd", &d);
	device_lookup("no-such-device", &d);
	device_lookup("pts", &d);
	device_lookup("", &d);
	assert_false(d.found);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_published_as_the_kubelet_does),
		TEST(test_link_is_replaced_by_renaming),
		TEST(test_file_is_written_in_place),
		TEST(test_what_is_in_the_way_goes),
		TEST(test_removed_with_everything_below),
		TEST(test_kept_if_it_is_there),
		TEST(test_nothing_leads_out_of_it),
		TEST(test_the_volume_itself_is_only_a_directory),
		TEST(test_devices_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
