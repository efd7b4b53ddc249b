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
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "base/str.h"
#include "storage/snapshot_internal.h"
#include "storage/workdir.h"

/* The test's directory, with cache/ and layers in it. */
static char base[64];

static char *path_of(const char *name)
{
	return str_printf("%s/%s", base, name);
}

/* Runs a shell command in the test's directory. */
static void sh(const char *command)
{
	char *argv[] = { (char *)"sh", (char *)"-ec", (char *)command, NULL };
	struct spawn s = SPAWN_INIT;
	struct err e = { 0 };

	s.path = "/bin/sh";
	s.argv = argv;
	s.cwd = base;
	if (spawn_run(&s, 60000, NULL, &e) < 0)
		fail_msg("%s: %s", command, e.msg);
}

static int setup(void **state)
{
	snprintf(base, sizeof(base), "/tmp/podvm-snapshot-XXXXXX");
	return mkdtemp(base) ? 0 : -1;
}

static int teardown(void **state)
{
	return rm_rf(AT_FDCWD, base);
}

/* As the worker of the shim does: in a child, which may change its mount namespace. */
static int image(const char *const *names, size_t n, struct err *e)
{
	_cleanup_(strv_done) struct strv dirs = { 0 };
	_cleanup_(freep) char *cache = path_of("cache");

	for (size_t i = 0; i < n; i++)
		assert_int_equal(strv_addf(&dirs, "%s/%s", base, names[i]), 0);
	return snapshot_image(cache, dirs.v, n, e);
}

static int image_of(const char *name, struct err *e)
{
	return image(&name, 1, e);
}

static int good_image_of(const char *name)
{
	struct err e = { 0 };
	int fd = image_of(name, &e);

	if (fd < 0)
		fail_msg("%s", e.msg);
	return fd;
}

static ino_t inode(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

static size_t entries(const char *name)
{
	_cleanup_(freep) char *path = path_of(name);
	_cleanup_(closedirp) DIR *d = opendir(path);
	struct dirent *entry;
	size_t n = 0;

	while (d && (entry = readdir(d)))
		n += entry->d_name[0] != '.' && !str_eq(entry->d_name, "tmp");
	return n;
}

/* Whether the EROFS file has what fsck.erofs unpacks from it. */
static void unpack(int fd)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf out && fsck.erofs --extract=out /proc/%d/fd/%d",
		 getpid(), fd);
	sh(command);
}

static void test_layer_is_made_once(void **state)
{
	_cleanup_(close_fdp) int first = -EBADF;
	_cleanup_(close_fdp) int second = -EBADF;

	sh("mkdir -p layer/etc && echo hello >layer/etc/motd");
	first = good_image_of("layer");
	second = good_image_of("layer");
	assert_int_equal(inode(first), inode(second));
	assert_int_equal(entries("cache/snapshots"), 1);
	assert_int_equal(entries("cache/snapshots/tmp"), 0);
	unpack(first);
	sh("grep -qx hello out/etc/motd");
}

static void test_directory_of_the_same_name_is_another_layer(void **state)
{
	_cleanup_(close_fdp) int first = -EBADF;
	_cleanup_(close_fdp) int second = -EBADF;

	sh("mkdir layer && echo old >layer/file");
	first = good_image_of("layer");
	sh("rm -r layer && mkdir layer && echo new >layer/file");
	second = good_image_of("layer");
	unpack(second);
	sh("grep -qx new out/file");
}

static void set_xattr(const char *file, const char *name, const char *value)
{
	_cleanup_(freep) char *path = path_of(file);

	assert_int_equal(lsetxattr(path, name, value, strlen(value), 0), 0);
}

static bool has_xattr(const char *file, const char *name, const char *value)
{
	char buf[64];
	ssize_t n = lgetxattr(file, name, buf, sizeof(buf));

	return n == (ssize_t)strlen(value) && memcmp(buf, value, (size_t)n) == 0;
}

/* In a child, in the mounted file: 0 or the line that isn't as it should be. */
static int look(void)
{
	struct stat st;
	struct stat other;

#define CHECK(what)  \
	if (!(what)) \
	return __LINE__ - start
	const int start = __LINE__;
	CHECK(lstat("gone", &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0);
	CHECK(lstat("null", &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
	CHECK(has_xattr("opaque", "trusted.overlay.opaque", "y"));
	CHECK(has_xattr("opaque", "user.color", "blue"));
	CHECK(lstat("a", &st) == 0 && st.st_uid == 1000 && st.st_gid == 70000);
	CHECK((st.st_mode & 07777) == 04755 && st.st_nlink == 2);
	CHECK(lstat("b", &other) == 0 && other.st_ino == st.st_ino);
	CHECK(lstat("fifo", &st) == 0 && S_ISFIFO(st.st_mode));
	CHECK(lgetxattr("cap", "security.capability", NULL, 0) > 0);
	CHECK(lstat("cap", &st) == 0 && st.st_mtime == 1000000000);
	CHECK(lstat("holes", &st) == 0 && st.st_size == 1 << 20);
#undef CHECK
	return 0;
}

/* fsck.erofs of Debian 12 doesn't unpack everything, so these are looked at through a mount. */
static void test_everything_that_overlayfs_needs_is_kept(void **state)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	char command[256];
	int status = 0;
	pid_t pid;

	sh("mkdir layer layer/opaque m && mknod layer/gone c 0 0 && mknod layer/null c 1 3\n"
	   "echo x >layer/a && ln layer/a layer/b && chown 1000:70000 layer/a && chmod 4755 "
	   "layer/a\n"
	   "cp /bin/true layer/cap && setcap cap_net_raw+ep layer/cap\n"
	   "mkfifo layer/fifo && truncate -s 1M layer/holes && touch -d @1000000000 layer/cap");
	set_xattr("layer/opaque", "trusted.overlay.opaque", "y");
	set_xattr("layer/opaque", "user.color", "blue");
	fd = good_image_of("layer");
	snprintf(command, sizeof(command), "cat /proc/%d/fd/%d >copy", getpid(), fd);
	sh(command);
	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
			_exit(100);
		sh("mount -o loop,ro copy m");
		_exit(chdir(base) < 0 || chdir("m") < 0 ? 101 : look());
	}
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

static void test_layers_of_renamed_things_are_refused(void **state)
{
	struct err e = { 0 };

	sh("mkdir -p dir/sub file && touch file/f");
	set_xattr("dir/sub", "trusted.overlay.redirect", "/other");
	set_xattr("file/f", "trusted.overlay.metacopy", "");
	assert_int_equal(image_of("dir", &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.msg, "was renamed"));
	assert_int_equal(image_of("file", &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.msg, "another layer"));
	assert_int_equal(entries("cache/snapshots"), 0);
	assert_int_equal(entries("cache/snapshots/tmp"), 0);
}

static void test_what_is_no_layer(void **state)
{
	struct err e = { 0 };

	sh("touch file && ln -s / link");
	assert_int_equal(image_of("missing", &e), -ENOENT);
	assert_int_equal(image_of("file", &e), -EOPNOTSUPP);
	assert_int_equal(image_of("link", &e), -EOPNOTSUPP);
	/* A mount: its device number may be that of something else later. */
	assert_int_equal(snapshot_image(base, (char *[]){ (char *)"/proc" }, 1, &e), -EOPNOTSUPP);
	assert_int_equal(snapshot_image(base, (char *[]){ (char *)"etc" }, 1, &e), -EOPNOTSUPP);
}

/* Runs in a child, because joining changes the mount namespace. */
static int joined(int out)
{
	static const char *const names[] = { "top", "middle", "bottom" };
	struct err e = { 0 };
	int fd = image(names, 3, &e);
	char chunk[65536];
	ssize_t n;

	if (fd < 0)
		fprintf(stderr, "%s\n", e.msg);
	while (fd >= 0 && (n = read(fd, chunk, sizeof(chunk))) > 0)
		if (write(out, chunk, (size_t)n) != n)
			return 1;
	return fd < 0;
}

static void test_joined_layers(void **state)
{
	_cleanup_(freep) char *path = path_of("copy");
	_cleanup_(close_fdp) int out = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int status = 0;
	pid_t pid;

	sh("mkdir top middle bottom bottom/d middle/d\n"
	   "echo bottom >bottom/both && echo top >top/both && echo b >bottom/gone\n"
	   "mknod middle/gone c 0 0 && echo b >bottom/d/hidden && echo m >middle/d/seen");
	set_xattr("middle/d", "trusted.overlay.opaque", "y");
	pid = fork();
	if (pid == 0)
		_exit(joined(out));
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	unpack(out);
	sh("grep -qx top out/both && [ ! -e out/gone ] && [ ! -e out/d/hidden ] && "
	   "grep -qx m out/d/seen");
	assert_int_equal(entries("cache/snapshots"), 1);
	assert_int_equal(entries("cache/snapshots/tmp"), 0);
}

static void test_own_file_of_the_erofs_snapshotter(void **state)
{
	_cleanup_(freep) char *fs = path_of("7/fs");
	_cleanup_(freep) char *wrong = path_of("8/fs");
	_cleanup_(close_fdp) int fd = -EBADF;

	sh("mkdir -p 7/fs 8/fs content && echo x >content/file\n"
	   "mkfs.erofs --quiet 7/layer.erofs content && echo no >8/layer.erofs");
	fd = snapshot_blob(fs);
	assert_true(fd >= 0);
	unpack(fd);
	sh("[ -e out/file ]");
	assert_int_equal(snapshot_blob(wrong), -ENOENT);
	assert_int_equal(snapshot_blob("/nowhere/fs"), -ENOENT);
}

static void test_content_of_a_writable_directory(void **state)
{
	_cleanup_(freep) char *cache = path_of("cache");
	_cleanup_(freep) char *upper = path_of("upper");
	_cleanup_(close_fdp) int fd = -EBADF;
	struct err e = { 0 };

	sh("mkdir upper upper/d && echo seen >upper/d/file && echo disk >upper/.podvm-scratch");
	fd = snapshot_image_once(cache, upper, ".podvm-scratch", &e);
	if (fd < 0)
		fail_msg("%s", e.msg);
	unpack(fd);
	sh("grep -qx seen out/d/file && [ ! -e out/.podvm-scratch ]");
	assert_int_equal(entries("cache/snapshots"), 0);
	assert_int_equal(entries("cache/snapshots/tmp"), 0);
}

/* Who died half-way has left a work directory without a lock. */
static void test_leftovers_are_taken_over(void **state)
{
	_cleanup_(freep) char *dir = path_of("layer");
	_cleanup_(close_fdp) int fd = -EBADF;
	char key[STR_HASH_SIZE];
	char command[256];

	sh("mkdir layer && echo x >layer/file");
	assert_int_equal(snapshot_key(&dir, 1, key, NULL), 0);
	snprintf(command, sizeof(command),
		 "mkdir -p cache/snapshots/tmp/%s/entry cache/snapshots/tmp/another && "
		 "echo half >cache/snapshots/tmp/%s/entry/layer.erofs",
		 key, key);
	sh(command);
	fd = good_image_of("layer");
	unpack(fd);
	sh("[ -e out/file ]");
	assert_int_equal(entries("cache/snapshots/tmp"), 0);
}

static void test_prune(void **state)
{
	_cleanup_(freep) char *cache = path_of("cache");
	_cleanup_(close_fdp) int used = -EBADF;
	uint64_t freed = 0;

	assert_int_equal(snapshot_prune(cache, true, &freed), 0);
	sh("mkdir kept gone used && echo x >kept/file");
	used = good_image_of("used");
	close(good_image_of("kept"));
	close(good_image_of("gone"));
	assert_int_equal(entries("cache/snapshots"), 3);
	sh("rm -r gone used");
	assert_int_equal(snapshot_prune(cache, false, &freed), 1);
	assert_true(freed > 0);
	assert_int_equal(entries("cache/snapshots"), 2);
	/* Another one is made: what is gone and no longer used goes then. */
	close(TAKE_FD(used));
	sh("mkdir new");
	close(good_image_of("new"));
	assert_int_equal(entries("cache/snapshots"), 2);
	assert_int_equal(snapshot_prune(cache, true, &freed), 2);
	assert_int_equal(entries("cache/snapshots"), 0);
}

static void test_full_disk(void **state)
{
	struct err e = { 0 };
	int status = 0;
	pid_t pid;

	sh("mkdir layer cache && head -c 8M /dev/urandom >layer/file");
	pid = fork();
	if (pid == 0) {
		_cleanup_(freep) char *cache = path_of("cache");

		if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mount("tmpfs", cache, "tmpfs", 0, "size=20m") < 0)
			_exit(2);
		_exit(image_of("layer", &e) != -ENOSPC || !strstr(e.hint, "prune") ||
		      entries("cache/snapshots/tmp") != 0);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_layer_is_made_once),
		TEST(test_directory_of_the_same_name_is_another_layer),
		TEST(test_everything_that_overlayfs_needs_is_kept),
		TEST(test_layers_of_renamed_things_are_refused),
		TEST(test_what_is_no_layer),
		TEST(test_joined_layers),
		TEST(test_own_file_of_the_erofs_snapshotter),
		TEST(test_content_of_a_writable_directory),
		TEST(test_leftovers_are_taken_over),
		TEST(test_prune),
		TEST(test_full_disk),
	};

	/* Owners, device nodes and trusted attributes are root's. */
	return geteuid() == 0 ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
