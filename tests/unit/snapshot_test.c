/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
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

static struct snapshot_cache cache_of(bool verity)
{
	static char path[80];

	snprintf(path, sizeof(path), "%s/cache", base);
	return (struct snapshot_cache){ .dir = path, .verity = verity };
}

/* As the worker of the shim does: in a child, which may change its mount namespace. */
static int image(const char *const *names, size_t n, struct err *e)
{
	_cleanup_(snapshot_file_done) struct snapshot_file file = SNAPSHOT_FILE_INIT;
	_cleanup_(strv_done) struct strv dirs = { 0 };
	struct snapshot_cache cache = cache_of(false);
	int r;

	for (size_t i = 0; i < n; i++)
		assert_int_equal(strv_addf(&dirs, "%s/%s", base, names[i]), 0);
	r = snapshot_image(&cache, dirs.v, n, &file, e);
	return r < 0 ? r : TAKE_FD(file.fd);
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

static struct prune_result prune(bool all)
{
	struct snapshot_cache cache = cache_of(false);
	struct prune_result result = { 0 };

	assert_int_equal(snapshot_prune(cache.dir,
					&(struct prune_rules){ .all = all, .unneeded = true },
					&result),
			 0);
	return result;
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

static void test_half_removed_file_is_made_again(void **state)
{
	sh("mkdir layer && echo x >layer/file");
	close(good_image_of("layer"));
	sh("rm cache/snapshots/*/layer.erofs");
	close(good_image_of("layer"));
	assert_int_equal(entries("cache/snapshots"), 1);
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

static int key_of(const char *path, struct err *e)
{
	struct snapshot_recipe recipe = { .paths = (char *[]){ (char *)path }, .n = 1 };
	char key[SNAPSHOT_KEY_SIZE];

	return snapshot_key(&recipe, key, e);
}

static void test_what_is_no_layer(void **state)
{
	struct err e = { 0 };

	sh("touch file && ln -s / link");
	assert_int_equal(image_of("missing", &e), -ENOENT);
	assert_int_equal(image_of("file", &e), -EOPNOTSUPP);
	assert_int_equal(image_of("link", &e), -EOPNOTSUPP);
	/* A mount: its device number may be that of something else later. */
	assert_int_equal(key_of("/proc", &e), -EOPNOTSUPP);
	assert_int_equal(key_of("etc", &e), -EOPNOTSUPP);
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

/* Their paths are many times the page that mount(2) takes. */
static int joined_many(void)
{
	_cleanup_(snapshot_file_done) struct snapshot_file file = SNAPSHOT_FILE_INIT;
	_cleanup_(strv_done) struct strv dirs = { 0 };
	struct snapshot_cache cache = cache_of(false);
	struct err e = { 0 };

	for (int i = 0; i < 200; i++)
		strv_addf(&dirs, "%s/a:layer,of\\many/%d", base, i);
	if (snapshot_image(&cache, dirs.v, dirs.n, &file, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return 1;
	}
	unpack(file.fd);
	sh("[ $(ls out | wc -l) = 201 ] && grep -qx 0 out/top");
	return 0;
}

static void test_many_joined_layers(void **state)
{
	int status = 0;
	pid_t pid;

	sh("d='a:layer,of\\many'; mkdir $d; for i in $(seq 0 199); do mkdir $d/$i; "
	   "touch $d/$i/$i; echo $i >$d/$i/top; done");
	pid = fork();
	if (pid == 0)
		_exit(joined_many());
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	assert_int_equal(entries("cache/snapshots"), 1);
	assert_int_equal(entries("cache/snapshots/tmp"), 0);
}

static void make_blobs(void)
{
	sh("mkdir -p 7/fs 8/fs 9/fs content more && echo x >content/file && echo y >more/file2\n"
	   "mkfs.erofs --quiet 7/layer.erofs content && mkfs.erofs --quiet 9/layer.erofs more\n"
	   "echo no >8/layer.erofs");
}

/* Return: As snapshot_blob() */
static int blob_of(const char *dir, bool verity, struct snapshot_file *ret)
{
	_cleanup_(freep) char *path = path_of(dir);
	struct snapshot_cache cache = cache_of(verity);
	struct err e = { 0 };
	int r = snapshot_blob(&cache, path, ret, &e);

	if (r < 0 && r != -ENOENT)
		fail_msg("%s", e.msg);
	return r;
}

static void test_own_file_of_the_erofs_snapshotter(void **state)
{
	_cleanup_(snapshot_file_done) struct snapshot_file file = SNAPSHOT_FILE_INIT;

	make_blobs();
	assert_int_equal(blob_of("7/fs", false, &file), 0);
	assert_int_equal(file.parts.n, 0);
	unpack(file.fd);
	sh("[ -e out/file ]");
	assert_int_equal(entries("cache/snapshots"), 0);
	assert_int_equal(blob_of("8/fs", false, &file), -ENOENT);
	assert_int_equal(blob_of("nowhere/fs", false, &file), -ENOENT);
}

/* What veritysetup says of a part of a file that has a hash tree. */
static int verify(int fd, const struct disk_part *part)
{
	char hash[2 * PART_HASH_SIZE + 1];
	char command[512];
	char *argv[] = { (char *)"sh", (char *)"-ec", command, NULL };
	struct spawn s = SPAWN_INIT;

	disk_hash_text(part->root_hash, hash);
	snprintf(command, sizeof(command),
		 "tail -c +%llu /proc/%d/fd/%d | head -c %llu >part && veritysetup verify "
		 "--no-superblock --hash=sha256 --salt=- --data-blocks=%llu --hash-offset=%llu "
		 "part part %s",
		 (unsigned long long)part->offset + 1, getpid(), fd,
		 part->size ? (unsigned long long)part->size : 1ULL << 40,
		 (unsigned long long)part->data / PART_BLOCK, (unsigned long long)part->data, hash);
	s.path = "/bin/sh";
	s.argv = argv;
	s.cwd = base;
	return spawn_run(&s, 60000, NULL, NULL);
}

static void test_hash_tree(void **state)
{
	_cleanup_(snapshot_file_done) struct snapshot_file file = SNAPSHOT_FILE_INIT;
	_cleanup_(snapshot_file_done) struct snapshot_file again = SNAPSHOT_FILE_INIT;
	_cleanup_(freep) char *dir = path_of("layer");
	_cleanup_(close_fdp) int plain = -EBADF;
	struct snapshot_cache cache = cache_of(true);
	struct err e = { 0 };

	sh("mkdir layer && head -c 3000000 /dev/urandom >layer/file");
	plain = good_image_of("layer");
	if (snapshot_image(&cache, &dir, 1, &file, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(entries("cache/snapshots"), 2);
	assert_int_equal(file.parts.n, 1);
	assert_int_equal(file.parts.v[0].size, 0);
	assert_int_equal(verify(file.fd, &file.parts.v[0]), 0);
	assert_int_equal(snapshot_image(&cache, &dir, 1, &again, &e), 0);
	assert_int_equal(inode(file.fd), inode(again.fd));
	assert_memory_equal(file.parts.v, again.parts.v, sizeof(*file.parts.v));
	/* One byte. */
	sh("printf x | dd of=$(echo cache/snapshots/*v/layer.erofs) bs=1 seek=1000000 "
	   "conv=notrunc");
	assert_int_equal(verify(file.fd, &file.parts.v[0]), -ECHILD);
}

static void test_several_files_in_one(void **state)
{
	_cleanup_(snapshot_file_done) struct snapshot_file pack = SNAPSHOT_FILE_INIT;
	struct snapshot_file files[2] = { SNAPSHOT_FILE_INIT, SNAPSHOT_FILE_INIT };
	struct snapshot_cache cache = cache_of(true);
	struct err e = { 0 };

	make_blobs();
	assert_int_equal(blob_of("7/fs", true, &files[0]), 0);
	assert_int_equal(blob_of("9/fs", true, &files[1]), 0);
	if (snapshot_pack(&cache, files, 2, &pack, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(pack.parts.n, 2);
	assert_int_equal(verify(pack.fd, &pack.parts.v[0]), 0);
	sh("fsck.erofs --extract=out part && [ -e out/file ]");
	assert_int_equal(verify(pack.fd, &pack.parts.v[1]), 0);
	sh("rm -r out && fsck.erofs --extract=out part && [ -e out/file2 ]");
	assert_int_equal(entries("cache/snapshots"), 3);
	for (size_t i = 0; i < 2; i++)
		snapshot_file_done(&files[i]);
	snapshot_file_done(&pack);
	/* Nobody wants it any more when one of its files has gone. */
	sh("rm -r 7");
	assert_int_equal(prune(false).removed, 1);
	assert_int_equal(prune(false).removed, 1);
	assert_int_equal(entries("cache/snapshots"), 1);
}

static void test_content_of_a_writable_directory(void **state)
{
	_cleanup_(snapshot_file_done) struct snapshot_file file = SNAPSHOT_FILE_INIT;
	_cleanup_(freep) char *upper = path_of("upper");
	struct snapshot_cache cache = cache_of(true);
	struct err e = { 0 };

	sh("mkdir upper upper/d && echo seen >upper/d/file && echo disk >upper/.podvm-scratch");
	if (snapshot_image_once(&cache, upper, ".podvm-scratch", &file, &e) < 0)
		fail_msg("%s", e.msg);
	unpack(file.fd);
	sh("grep -qx seen out/d/file && [ ! -e out/.podvm-scratch ]");
	assert_int_equal(verify(file.fd, &file.parts.v[0]), 0);
	assert_int_equal(entries("cache/snapshots"), 0);
	assert_int_equal(entries("cache/snapshots/tmp"), 0);
}

static void test_limits(void **state)
{
	_cleanup_(freep) char *dir = path_of("layer");
	struct snapshot_tree tree = { .limits = { .bytes = 1 << 20, .entries = 10, .depth = 3 } };
	struct snapshot_tree full = tree;
	struct snapshot_tree huge = tree;
	struct snapshot_tree deep = tree;
	struct err e = { 0 };

	sh("mkdir -p layer/a/b && echo x >layer/a/b/c");
	assert_int_equal(snapshot_scan(dir, &tree, &e), 0);
	assert_int_equal(tree.entries, 4);
	sh("mkdir layer/a/b/d && touch layer/a/b/d/e");
	assert_int_equal(snapshot_scan(dir, &deep, &e), -EFBIG);
	assert_non_null(strstr(e.msg, "3 directories in each other"));
	sh("rm -r layer/a/b/d && touch layer/1 layer/2 layer/3 layer/4 layer/5 layer/6 layer/7");
	assert_int_equal(snapshot_scan(dir, &full, &e), -EFBIG);
	assert_non_null(strstr(e.msg, "10 files"));
	/* It takes up nothing, but would have to be read. */
	sh("rm layer/[1-7] && truncate -s 1T layer/holes");
	assert_int_equal(snapshot_scan(dir, &huge, &e), -EFBIG);
	assert_non_null(strstr(e.msg, "1048576 bytes"));
}

/* Who died half-way has left a work directory without a lock. */
static void test_leftovers_are_taken_over(void **state)
{
	_cleanup_(freep) char *dir = path_of("layer");
	struct snapshot_recipe recipe = { .paths = &dir, .n = 1 };
	_cleanup_(close_fdp) int fd = -EBADF;
	char key[SNAPSHOT_KEY_SIZE];
	char command[256];

	sh("mkdir layer && echo x >layer/file");
	assert_int_equal(snapshot_key(&recipe, key, NULL), 0);
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

/* Works on the layer's file without an end. */
__attribute__((noreturn)) static void begin_and_hang(const char *key, int ready)
{
	_cleanup_(freep) char *store = path_of("cache/snapshots");
	struct workdir *work = NULL;

	if (workdir_open(store, key, 60000, &work, NULL) < 0 ||
	    mkdirat(work->fd, "entry", 0700) < 0 ||
	    file_replace(work->fd, "entry/layer.erofs", "half", 4, 0600) < 0)
		_exit(1);
	(void)!write(ready, "x", 1);
	for (;;)
		pause();
}

static void test_who_waits_goes_on_after_the_death_of_who_worked(void **state)
{
	_cleanup_(freep) char *dir = path_of("layer");
	struct snapshot_recipe recipe = { .paths = &dir, .n = 1 };
	char key[SNAPSHOT_KEY_SIZE];
	pid_t worker;
	pid_t waiter;
	int status;
	int fds[2];
	char c;

	sh("mkdir layer && echo x >layer/file");
	assert_int_equal(snapshot_key(&recipe, key, NULL), 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	worker = fork();
	if (worker == 0)
		begin_and_hang(key, fds[1]);
	assert_int_equal(read(fds[0], &c, 1), 1);
	waiter = fork();
	if (waiter == 0) {
		(void)!write(fds[1], "x", 1);
		_exit(image_of("layer", NULL) < 0);
	}
	assert_int_equal(read(fds[0], &c, 1), 1);
	kill(worker, SIGKILL);
	assert_int_equal(waitpid(worker, &status, 0), worker);
	assert_int_equal(waitpid(waiter, &status, 0), waiter);
	assert_int_equal(status, 0);
	unpack(good_image_of("layer"));
	sh("[ -e out/file ]");
	assert_int_equal(entries("cache/snapshots/tmp"), 0);
	close(fds[0]);
	close(fds[1]);
}

static void test_several_at_once_get_the_same(void **state)
{
	struct stat first;
	int fds[2];

	sh("mkdir layer && head -c 1000000 /dev/urandom >layer/file");
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	for (int i = 0; i < 4; i++) {
		if (fork() == 0) {
			int fd = image_of("layer", NULL);
			struct stat st = { 0 };

			if (fd < 0 || fstat(fd, &st) < 0)
				_exit(1);
			_exit(write(fds[1], &st, sizeof(st)) != sizeof(st));
		}
	}
	for (int i = 0; i < 4; i++) {
		struct stat st;
		int status;

		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
		assert_int_equal(read(fds[0], &st, sizeof(st)), sizeof(st));
		if (i == 0)
			first = st;
		assert_int_equal(st.st_ino, first.st_ino);
	}
	assert_int_equal(entries("cache/snapshots"), 1);
	close(fds[0]);
	close(fds[1]);
}

static void test_prune(void **state)
{
	_cleanup_(close_fdp) int used = -EBADF;
	struct prune_result gone;

	assert_int_equal(prune(true).removed, 0);
	sh("mkdir kept gone used && echo x >kept/file");
	used = good_image_of("used");
	close(good_image_of("kept"));
	close(good_image_of("gone"));
	assert_int_equal(entries("cache/snapshots"), 3);
	sh("rm -r gone used");
	gone = prune(false);
	assert_int_equal(gone.removed, 1);
	assert_true(gone.freed > 0);
	assert_int_equal(entries("cache/snapshots"), 2);
	/* Another one is made: what is gone and no longer used goes then. */
	close(TAKE_FD(used));
	sh("mkdir new");
	close(good_image_of("new"));
	assert_int_equal(entries("cache/snapshots"), 2);
	assert_int_equal(prune(true).removed, 2);
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
		TEST(test_half_removed_file_is_made_again),
		TEST(test_directory_of_the_same_name_is_another_layer),
		TEST(test_everything_that_overlayfs_needs_is_kept),
		TEST(test_layers_of_renamed_things_are_refused),
		TEST(test_what_is_no_layer),
		TEST(test_joined_layers),
		TEST(test_many_joined_layers),
		TEST(test_own_file_of_the_erofs_snapshotter),
		TEST(test_hash_tree),
		TEST(test_several_files_in_one),
		TEST(test_limits),
		TEST(test_content_of_a_writable_directory),
		TEST(test_leftovers_are_taken_over),
		TEST(test_who_waits_goes_on_after_the_death_of_who_worked),
		TEST(test_several_at_once_get_the_same),
		TEST(test_prune),
		TEST(test_full_disk),
	};

	/* Owners, device nodes and trusted attributes are root's. */
	return geteuid() == 0 ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
