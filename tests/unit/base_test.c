/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/spawn.h"
#include "base/str.h"

/* Every test that needs files gets an empty directory as its state. */
struct dir {
	char path[64];
	int fd;
};

static int dir_setup(void **state)
{
	struct dir *d = calloc(1, sizeof(*d));

	if (!d)
		return -1;
	snprintf(d->path, sizeof(d->path), "/tmp/podvm-base-test-XXXXXX");
	if (!mkdtemp(d->path))
		return -1;
	d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = d;
	return d->fd < 0 ? -1 : 0;
}

static int dir_teardown(void **state)
{
	struct dir *d = *state;
	int r = rm_rf(AT_FDCWD, d->path);

	close(d->fd);
	free(d);
	return r;
}

static void put_file(int dirfd, const char *path, const char *text)
{
	assert_int_equal(file_replace(dirfd, path, text, strlen(text), 0644), 0);
}

static void assert_file(int dirfd, const char *path, const char *text)
{
	_cleanup_(freep) char *got = NULL;

	assert_int_equal(file_read(dirfd, path, 4096, &got, NULL), 0);
	assert_string_equal(got, text);
}

/* ---- err ---- */

static void err_message_is_built_from_the_inside_out(void **state)
{
	struct err e = { 0 };

	assert_int_equal(err_errno(&e, -ENOENT, "cannot open %s", "/x"), -ENOENT);
	err_hint(&e, "create %s", "/x");
	assert_int_equal(err_wrap(&e, "starting %s", "web"), -ENOENT);
	err_stage(&e, "image");
	assert_string_equal(e.msg, "starting web: cannot open /x: No such file or directory");
	assert_string_equal(e.hint, "create /x");
	assert_string_equal(e.stage, "image");
	assert_int_equal(e.code, -ENOENT);
}

static void err_deepest_hint_and_stage_win(void **state)
{
	struct err e = { 0 };

	err_set(&e, -EIO, "no");
	err_hint(&e, "deep");
	err_hint(&e, "shallow");
	err_stage(&e, "boot");
	err_stage(&e, "start");
	assert_string_equal(e.hint, "deep");
	assert_string_equal(e.stage, "boot");
	err_set(&e, -EPERM, "another");
	assert_string_equal(e.hint, "");
	assert_string_equal(e.stage, "");
}

static void err_long_messages_are_cut(void **state)
{
	char text[4096];
	struct err e = { 0 };

	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	err_errno(&e, -EIO, "%s", text);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	err_wrap(&e, "%s", text);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	err_hint(&e, "%s", text);
	assert_int_equal(strlen(e.hint), sizeof(e.hint) - 1);
	err_stage(&e, text);
	assert_int_equal(strlen(e.stage), sizeof(e.stage) - 1);
}

static void err_null_is_allowed(void **state)
{
	assert_int_equal(err_set(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_errno(NULL, -ENOENT, "x"), -ENOENT);
	assert_int_equal(err_wrap(NULL, "x"), -EIO);
	assert_int_equal(err_oom(NULL), -ENOMEM);
	err_hint(NULL, "x");
	err_stage(NULL, "x");
}

/* ---- buf ---- */

static void buf_is_a_queue_of_bytes(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	assert_int_equal(buf_append(&b, "hello", 5), 0);
	assert_int_equal(buf_printf(&b, " %s %d", "world", 7), 0);
	assert_string_equal(buf_cstr(&b), "hello world 7");
	buf_consume(&b, 6);
	assert_string_equal(buf_cstr(&b), "world 7");
	buf_consume(&b, 1000);
	assert_int_equal(buf_len(&b), 0);
	assert_string_equal(buf_cstr(&b), "");
}

static void buf_keeps_its_limit(void **state)
{
	_cleanup_(buf_done) struct buf b = { .limit = 8 };

	assert_int_equal(buf_append(&b, "12345678", 8), 0);
	assert_int_equal(buf_append(&b, "9", 1), -ENOBUFS);
	assert_int_equal(buf_printf(&b, "x"), -ENOBUFS);
	assert_int_equal(buf_reserve(&b, SIZE_MAX), -ENOBUFS);
	assert_string_equal(buf_cstr(&b), "12345678");
	buf_consume(&b, 3);
	assert_int_equal(buf_append(&b, "abc", 3), 0);
	assert_string_equal(buf_cstr(&b), "45678abc");
}

static void buf_holds_what_went_through(void **state)
{
	_cleanup_(buf_done) struct buf b = { .limit = 1000 };
	unsigned int in = 0;
	unsigned int out = 0;

	for (int i = 0; i < 5000; i++) {
		for (int n = 0; n < 7 && buf_len(&b) < 1000; n++) {
			uint8_t byte = (uint8_t)in++;

			assert_int_equal(buf_append(&b, &byte, 1), 0);
		}
		for (int n = 0; n < 6; n++) {
			assert_int_equal(*buf_head(&b), (uint8_t)out++);
			buf_consume(&b, 1);
		}
	}
	assert_int_equal(buf_len(&b), in - out);
	assert_true(b.size <= 2048);
}

/* ---- str ---- */

static void parse_u64_takes_whole_numbers_only(void **state)
{
	uint64_t v = 1;

	assert_int_equal(parse_u64("0", 10, &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(parse_u64("18446744073709551615", UINT64_MAX, &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(parse_u64("18446744073709551616", UINT64_MAX, &v), -ERANGE);
	assert_int_equal(parse_u64("11", 10, &v), -ERANGE);
	assert_int_equal(parse_u64("", 10, &v), -EINVAL);
	assert_int_equal(parse_u64("-1", 10, &v), -EINVAL);
	assert_int_equal(parse_u64("+1", 10, &v), -EINVAL);
	assert_int_equal(parse_u64(" 1", 10, &v), -EINVAL);
	assert_int_equal(parse_u64("1 ", 10, &v), -EINVAL);
	assert_int_equal(parse_u64("0x10", 100, &v), -EINVAL);
	assert_true(v == UINT64_MAX);
}

static void parse_size_takes_what_podman_takes(void **state)
{
	static const struct {
		const char *text;
		int r;
		uint64_t v;
	} cases[] = {
		{ "0", 0, 0 },
		{ "512", 0, 512 },
		{ "12b", 0, 12 },
		{ "1k", 0, 1024 },
		{ "2K", 0, 2048 },
		{ "64m", 0, (uint64_t)64 << 20 },
		{ "64MB", 0, (uint64_t)64 << 20 },
		{ "64MiB", 0, (uint64_t)64 << 20 },
		{ "3g", 0, (uint64_t)3 << 30 },
		{ "1t", 0, (uint64_t)1 << 40 },
		{ "16777215t", 0, (uint64_t)16777215 << 40 },
		{ "16777216t", -ERANGE, 0 },
		{ "99999999999999999999", -ERANGE, 0 },
		{ "9999999999999999999999999999", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "m", -EINVAL, 0 },
		{ "-1m", -EINVAL, 0 },
		{ "1.5g", -EINVAL, 0 },
		{ "1x", -EINVAL, 0 },
		{ "1bb", -EINVAL, 0 },
		{ "1mm", -EINVAL, 0 },
		{ "1mibs", -EINVAL, 0 },
		{ "1 m", -EINVAL, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t v = 0;

		if (parse_size(cases[i].text, &v) != cases[i].r || v != cases[i].v)
			fail_msg("parse_size(\"%s\") went wrong", cases[i].text);
	}
}

static void strings_are_owned_copies(void **state)
{
	_cleanup_(freep) char *p = NULL;
	_cleanup_(freep) char *text = str_printf("%d-%s", 3, "x");

	assert_string_equal(text, "3-x");
	assert_int_equal(str_set(&p, text), 0);
	assert_ptr_not_equal(p, text);
	assert_string_equal(p, "3-x");
	assert_int_equal(str_set(&p, NULL), 0);
	assert_null(p);
	assert_true(str_empty(NULL) && str_empty("") && !str_empty("x"));
	assert_true(str_starts("sandbox", "sand") && !str_starts("sand", "sandbox"));
}

static void strv_is_always_terminated(void **state)
{
	_cleanup_(strv_done) struct strv sv = { 0 };

	assert_int_equal(strv_add(&sv, "a"), 0);
	assert_null(sv.v[1]);
	assert_int_equal(strv_addf(&sv, "b%d", 2), 0);
	assert_int_equal(strv_add_all(&sv, "c", "d", NULL), 0);
	assert_int_equal(sv.n, 4);
	assert_string_equal(sv.v[1], "b2");
	assert_string_equal(sv.v[3], "d");
	assert_null(sv.v[4]);
	strv_done(&sv);
	assert_int_equal(strv_add(&sv, "again"), 0);
	assert_int_equal(sv.n, 1);
}

/* ---- list ---- */

struct item {
	int value;
	struct list node;
};

static void list_keeps_order_and_survives_removal(void **state)
{
	struct item items[4] = { { .value = 0 }, { .value = 1 }, { .value = 2 }, { .value = 3 } };
	struct item *i;
	struct item *tmp;
	struct list head;
	int sum = 0;

	list_init(&head);
	assert_true(list_empty(&head));
	for (size_t n = 0; n < ARRAY_SIZE(items); n++)
		list_append(&head, &items[n].node);
	list_for_each_safe (i, tmp, &head, node)
		if (i->value % 2)
			list_remove(&i->node);
	list_for_each (i, &head, node)
		sum = sum * 10 + i->value;
	assert_int_equal(sum, 2);
	list_remove(&items[1].node);
	list_remove(&items[0].node);
	list_remove(&items[2].node);
	assert_true(list_empty(&head));
}

/* ---- log ---- */

static void log_quote_shows_no_foreign_control_characters(void **state)
{
	char buf[64];
	char tiny[3];
	char small[8];

	assert_string_equal(log_quote(buf, sizeof(buf), "plain text"), "\"plain text\"");
	assert_string_equal(log_quote(buf, sizeof(buf), NULL), "\"\"");
	assert_string_equal(log_quote(buf, sizeof(buf), "a\nb\x1b[0m"), "\"a\\x0ab\\x1b[0m\"");
	assert_string_equal(log_quote(buf, sizeof(buf), "say \"x\" \\"),
			    "\"say \\x22x\\x22 \\x5c\"");
	assert_string_equal(log_quote(tiny, sizeof(tiny), "abc"), "\"\"");
	assert_string_equal(log_quote(small, sizeof(small), "abcdefgh"), "\"abcde\"");
	assert_string_equal(log_quote(small, sizeof(small), "abc\n"), "\"abc\"");
}

static void log_writes_one_line_per_record(void **state)
{
	struct dir *d = *state;
	_cleanup_(close_fdp) int fd = openat(d->fd, "log", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	_cleanup_(freep) char *text = NULL;

	assert_true(fd >= 0);
	log_init(fd, LOG_FORMAT_KMSG, LOG_LEVEL_INFO);
	log_info("guest is up", "sandbox=%s", "we\nb");
	log_debug("not this", "n=%d", 1);
	log_error("bad", "n=%d", 2);
	log_init(STDERR_FILENO, LOG_FORMAT_TEXT, LOG_LEVEL_WARN);
	assert_int_equal(file_read(d->fd, "log", 4096, &text, NULL), 0);
	assert_string_equal(text, "<6>podvm-agent: level=info msg=\"guest is up\" sandbox=we b\n"
				  "<3>podvm-agent: level=error msg=\"bad\" n=2\n");
	assert_int_equal(log_parse_level("debug"), LOG_LEVEL_DEBUG);
	assert_int_equal(log_parse_level("loud"), -EINVAL);
}

/* ---- fd ---- */

static void file_read_stops_at_its_limit(void **state)
{
	struct dir *d = *state;
	_cleanup_(freep) char *text = NULL;
	size_t n = 0;

	put_file(d->fd, "ten", "0123456789");
	put_file(d->fd, "none", "");
	assert_int_equal(file_read(d->fd, "ten", 9, &text, &n), -EFBIG);
	assert_null(text);
	assert_int_equal(file_read(d->fd, "ten", 10, &text, &n), 0);
	assert_int_equal(n, 10);
	assert_string_equal(text, "0123456789");
	free(TAKE_PTR(text));
	assert_int_equal(file_read(d->fd, "none", 0, &text, &n), 0);
	assert_int_equal(n, 0);
	assert_string_equal(text, "");
	free(TAKE_PTR(text));
	assert_int_equal(file_read(d->fd, "missing", 10, &text, &n), -ENOENT);
	/* A file without an end, and one that has no size. */
	assert_int_equal(file_read(AT_FDCWD, "/dev/zero", 100000, &text, &n), -EFBIG);
	assert_int_equal(file_read(AT_FDCWD, "/proc/self/status", 100000, &text, &n), 0);
	assert_true(n > 100);
}

static void file_read_takes_big_files(void **state)
{
	struct dir *d = *state;
	size_t size = 300001;
	_cleanup_(freep) char *big = malloc(size);
	_cleanup_(freep) char *got = NULL;
	size_t n = 0;

	assert_non_null(big);
	for (size_t i = 0; i < size; i++)
		big[i] = (char)(i % 251);
	assert_int_equal(file_replace(d->fd, "big", big, size, 0600), 0);
	assert_int_equal(file_read(d->fd, "big", size - 1, &got, &n), -EFBIG);
	assert_int_equal(file_read(d->fd, "big", size, &got, &n), 0);
	assert_int_equal(n, size);
	assert_memory_equal(got, big, size);
}

static size_t count_entries(const char *path)
{
	_cleanup_(closedirp) DIR *dir = opendir(path);
	size_t n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	return n - 2; /* . and .. */
}

static void file_replace_replaces_as_a_whole(void **state)
{
	struct dir *d = *state;
	struct stat st;

	put_file(d->fd, "f", "old and longer");
	assert_int_equal(file_replace(d->fd, "f", "new", 3, 0640), 0);
	assert_file(d->fd, "f", "new");
	assert_int_equal(fstatat(d->fd, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	/* A symbolic link is replaced, what it points to isn't touched. */
	assert_int_equal(symlinkat("f", d->fd, "link"), 0);
	put_file(d->fd, "link", "mine");
	assert_file(d->fd, "f", "new");
	assert_file(d->fd, "link", "mine");
	/* What can't be put in place leaves nothing behind. */
	assert_int_equal(mkdirat(d->fd, "dir", 0700), 0);
	assert_true(file_replace(d->fd, "dir", "x", 1, 0600) < 0);
	assert_int_equal(file_replace(d->fd, "no/f", "x", 1, 0600), -ENOENT);
	assert_int_equal(count_entries(d->path), 3);
}

static void file_write_needs_an_existing_file(void **state)
{
	struct dir *d = *state;

	assert_int_equal(file_write(d->fd, "f", "x"), -ENOENT);
	put_file(d->fd, "f", "");
	assert_int_equal(file_write(d->fd, "f", "text"), 0);
	assert_file(d->fd, "f", "text");
}

static void mkdir_p_makes_parents(void **state)
{
	struct dir *d = *state;
	_cleanup_(freep) char *deep = str_printf("%s/a/b/c", d->path);
	_cleanup_(freep) char *bad = str_printf("%s/f/x", d->path);

	assert_int_equal(mkdir_p(deep, 0700), 0);
	assert_int_equal(mkdir_p(deep, 0700), 0);
	assert_int_equal(faccessat(d->fd, "a/b/c", X_OK, 0), 0);
	put_file(d->fd, "f", "");
	assert_int_equal(mkdir_p(bad, 0700), -ENOTDIR);
}

static void rm_rf_removes_trees_and_follows_no_links(void **state)
{
	struct dir *d = *state;
	_cleanup_(freep) char *deep = str_printf("%s/tree/a/b", d->path);

	assert_int_equal(mkdir_p(deep, 0700), 0);
	assert_int_equal(mkdirat(d->fd, "keep", 0700), 0);
	put_file(d->fd, "keep/f", "precious");
	put_file(d->fd, "tree/a/f", "x");
	assert_int_equal(symlinkat("../keep", d->fd, "tree/relative"), 0);
	assert_int_equal(symlinkat(d->path, d->fd, "tree/a/absolute"), 0);
	assert_int_equal(symlinkat("nowhere", d->fd, "tree/a/b/dangling"), 0);
	assert_int_equal(mkfifoat(d->fd, "tree/fifo", 0600), 0);
	assert_int_equal(rm_rf(d->fd, "tree"), 0);
	assert_int_equal(faccessat(d->fd, "tree", F_OK, AT_SYMLINK_NOFOLLOW), -1);
	assert_file(d->fd, "keep/f", "precious");
	/* A link itself is removed, and nothing is fine. */
	assert_int_equal(symlinkat("keep", d->fd, "link"), 0);
	assert_int_equal(rm_rf(d->fd, "link"), 0);
	assert_int_equal(rm_rf(d->fd, "link"), 0);
	assert_file(d->fd, "keep/f", "precious");
	/* Everything in a directory, but not that. */
	assert_int_equal(rm_children(d->fd), 0);
	assert_int_equal(faccessat(d->fd, "keep", F_OK, 0), -1);
	assert_int_equal(access(d->path, F_OK), 0);
}

/* In a mount namespace of its own: 0 as it should be, 77 when mounting isn't allowed. */
static int rm_rf_beside_a_bind_mount(const struct dir *d)
{
	_cleanup_(freep) char *source = str_printf("%s/keep", d->path);
	_cleanup_(freep) char *tree = str_printf("%s/tree", d->path);
	_cleanup_(freep) char *target = str_printf("%s/mnt", tree);

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount(source, target, NULL, MS_BIND, NULL) < 0)
		return 77;
	/* By path: descriptors from before still show the old namespace. */
	if (rm_rf(AT_FDCWD, tree) != -EBUSY)
		return 1;
	return faccessat(d->fd, "keep/f", F_OK, 0) == 0 ? 0 : 2;
}

static void rm_rf_leaves_what_is_mounted(void **state)
{
	struct dir *d = *state;
	int status = 0;
	pid_t pid;

	assert_int_equal(mkdirat(d->fd, "keep", 0700), 0);
	assert_int_equal(mkdirat(d->fd, "tree", 0700), 0);
	assert_int_equal(mkdirat(d->fd, "tree/mnt", 0700), 0);
	put_file(d->fd, "keep/f", "precious");
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(rm_rf_beside_a_bind_mount(d));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void assert_in_root(int rootfd, const char *path, const char *text)
{
	_cleanup_(close_fdp) int fd = open_in_root(rootfd, path, O_RDONLY, 0);
	char got[32] = "";

	if (fd < 0)
		fail_msg("%s: %s", path, strerror(-fd));
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fd_read_full(fd, got, sizeof(got) - 1), strlen(text));
	assert_string_equal(got, text);
}

static void open_in_root_never_leaves_the_root(void **state)
{
	struct dir *d = *state;
	_cleanup_(close_fdp) int root = -EBADF;
	_cleanup_(close_fdp) int made = -EBADF;

	assert_int_equal(mkdirat(d->fd, "root", 0700), 0);
	assert_int_equal(mkdirat(d->fd, "root/etc", 0700), 0);
	put_file(d->fd, "secret", "outside");
	put_file(d->fd, "root/secret", "inside");
	put_file(d->fd, "root/etc/f", "etc");
	assert_int_equal(symlinkat("/secret", d->fd, "root/absolute"), 0);
	assert_int_equal(symlinkat("../../../secret", d->fd, "root/etc/up"), 0);
	assert_int_equal(symlinkat("/", d->fd, "root/etc/top"), 0);
	assert_int_equal(symlinkat("loop", d->fd, "root/loop"), 0);
	assert_int_equal(symlinkat("/proc/self/fd/0", d->fd, "root/magic"), 0);
	root = openat(d->fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(root >= 0);
	assert_in_root(root, "etc/f", "etc");
	assert_in_root(root, "/etc/f", "etc");
	assert_in_root(root, "../secret", "inside");
	assert_in_root(root, "etc/../../../secret", "inside");
	assert_in_root(root, "absolute", "inside");
	assert_in_root(root, "etc/up", "inside");
	assert_in_root(root, "etc/top/etc/top/secret", "inside");
	assert_int_equal(open_in_root(root, "loop", O_RDONLY, 0), -ELOOP);
	assert_int_equal(open_in_root(root, "magic", O_RDONLY, 0), -ENOENT);
	assert_int_equal(open_in_root(root, "none", O_RDONLY, 0), -ENOENT);
	made = open_in_root(root, "../new", O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(made >= 0);
	assert_int_equal(faccessat(d->fd, "root/new", F_OK, 0), 0);
}

static void random_hex_is_hex(void **state)
{
	char a[33];
	char b[33];

	assert_int_equal(random_hex(a, 32), 0);
	assert_int_equal(random_hex(b, 32), 0);
	assert_int_equal(strspn(a, "0123456789abcdef"), 32);
	assert_int_equal(strlen(a), 32);
	assert_string_not_equal(a, b);
}

/* ---- spawn ---- */

static int run_sh(struct spawn *s, const char *script, int timeout_ms, char **out, struct err *e)
{
	char *argv[] = { (char *)"sh", (char *)"-c", (char *)script, NULL };

	s->path = "sh";
	s->argv = argv;
	return spawn_run(s, timeout_ms, out, e);
}

static void spawn_run_collects_output(void **state)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_(freep) char *out = NULL;
	struct err e = { 0 };

	assert_int_equal(run_sh(&s, "echo out; echo err >&2; cat", 60000, &out, &e), 0);
	assert_string_equal(out, "out\nerr\n");
}

static void spawn_run_tells_the_last_line_of_a_failure(void **state)
{
	struct spawn s = SPAWN_INIT;
	struct err e = { 0 };

	assert_int_equal(run_sh(&s, "echo one; echo the reason; exit 3", 60000, NULL, &e), -ECHILD);
	assert_string_equal(e.msg, "sh failed (3): the reason");
	assert_int_equal(run_sh(&s, "kill -9 $$", 60000, NULL, &e), -ECHILD);
	assert_string_equal(e.msg, "sh failed (137): ");
}

static void spawn_run_keeps_64_kib_of_output(void **state)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_(freep) char *out = NULL;
	struct err e = { 0 };

	assert_int_equal(run_sh(&s, "head -c 300000 /dev/zero | tr '\\0' x", 60000, &out, &e), 0);
	assert_int_equal(strlen(out), 65536);
}

static void spawn_run_kills_at_the_deadline(void **state)
{
	struct spawn s = SPAWN_INIT;
	struct err e = { 0 };
	uint64_t start = clock_ms();

	assert_int_equal(run_sh(&s, "exec sleep 100", 200, NULL, &e), -ETIMEDOUT);
	assert_in_range(clock_ms() - start, 190, 60000);
	/* Also one that closed its output, and one that doesn't listen. */
	assert_int_equal(run_sh(&s, "exec >&- 2>&-; exec sleep 100", 200, NULL, &e), -ETIMEDOUT);
	assert_int_equal(run_sh(&s, "trap '' TERM; yes", 200, NULL, &e), -ETIMEDOUT);
	assert_in_range(clock_ms() - start, 500, 60000);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nothing is left */
}

static void spawn_start_reports_a_failed_exec(void **state)
{
	struct dir *d = *state;
	struct spawn s = SPAWN_INIT;
	char *argv[] = { (char *)"x", NULL };
	_cleanup_(freep) char *path = str_printf("%s/broken", d->path);
	struct err e = { 0 };

	s.argv = argv;
	s.path = "podvm-no-such-program";
	assert_int_equal(spawn_start(&s, NULL, &e), -ENOENT);
	assert_string_equal(e.msg, "cannot run podvm-no-such-program: No such file or directory");
	assert_int_equal(file_replace(d->fd, "broken",
				      "\x7f"
				      "ELF?",
				      5, 0755),
			 0);
	s.path = path;
	assert_int_equal(spawn_start(&s, NULL, &e), -ENOEXEC);
	assert_non_null(strstr(e.msg, path));
	assert_int_equal(file_replace(d->fd, "broken", "#!/no/such\n", 11, 0755), 0);
	assert_int_equal(spawn_start(&s, NULL, &e), -ENOENT);
	s.path = "sh";
	s.cwd = "/no/such/dir";
	assert_int_equal(spawn_start(&s, NULL, &e), -ENOENT);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void spawn_gives_exactly_the_descriptors(void **state)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_(freep) char *out = NULL;
	struct err e = { 0 };
	int leak[2];
	int given[2];
	char got[8] = "";

	/* A pair without close-on-exec, as if inherited from a careless parent. */
	assert_int_equal(pipe(leak), 0);
	assert_int_equal(pipe2(given, O_CLOEXEC), 0);
	/* ls opens the directory itself at the first free number. */
	assert_int_equal(run_sh(&s, "exec ls /proc/self/fd", 60000, &out, &e), 0);
	assert_string_equal(out, "0\n1\n2\n3\n");
	free(TAKE_PTR(out));
	assert_int_equal(spawn_fd(&s, given[1]), 3);
	assert_int_equal(spawn_fd(&s, given[0]), 4);
	assert_int_equal(run_sh(&s, "exec ls /proc/self/fd", 60000, &out, &e), 0);
	assert_string_equal(out, "0\n1\n2\n3\n4\n5\n");
	assert_int_equal(run_sh(&s, "echo three >&3", 60000, NULL, &e), 0);
	assert_int_equal(read(given[0], got, sizeof(got) - 1), 6);
	assert_string_equal(got, "three\n");
	for (int i = 0; i < 2; i++) {
		close(leak[i]);
		close(given[i]);
	}
}

static void spawn_as_another_user(void **state)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_(freep) char *out = NULL;
	struct err e = { 0 };

	if (geteuid() != 0)
		skip();
	s.uid = 1900000007;
	s.group = 12345;
	assert_int_equal(run_sh(&s,
				"grep -E '^(Uid|Gid|Groups|CapEff|NoNewPrivs):' /proc/self/status"
				"| tr -s '\\t ' ' '",
				60000, &out, &e),
			 0);
	assert_string_equal(out, "Uid: 1900000007 1900000007 1900000007 1900000007\n"
				 "Gid: 1900000007 1900000007 1900000007 1900000007\n"
				 "Groups: 12345 \n"
				 "CapEff: 0000000000000000\n"
				 "NoNewPrivs: 1\n");
}

static void spawn_puts_descriptors_at_any_number(void **state)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_(freep) char *out = NULL;
	struct err e = { 0 };
	int a[2];
	int b[2];

	assert_int_equal(pipe2(a, O_CLOEXEC), 0);
	assert_int_equal(pipe2(b, O_CLOEXEC), 0);
	assert_int_equal(fd_write_all(a[1], "A\n", 2), 0);
	assert_int_equal(fd_write_all(b[1], "B\n", 2), 0);
	/* Swapped: each one's number is the other one's source. */
	s.fds[0].fd = a[0];
	s.fds[0].target = b[0];
	s.fds[1].fd = b[0];
	s.fds[1].target = a[0];
	s.fds[2].fd = a[0];
	s.fds[2].target = 40;
	s.n_fds = 3;
	{
		_cleanup_(freep) char *script =
			str_printf("read x <&%d; read y <&%d; echo $x$y; exec ls /proc/self/fd/40",
				   a[0], b[0]);

		assert_int_equal(run_sh(&s, script, 60000, &out, &e), 0);
	}
	assert_string_equal(out, "BA\n/proc/self/fd/40\n");
	for (int i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
}

static void spawn_refuses_too_many_descriptors(void **state)
{
	struct spawn s = SPAWN_INIT;

	for (int i = 0; i < SPAWN_MAX_FDS; i++)
		assert_int_equal(spawn_fd(&s, 0), 3 + i);
	assert_int_equal(spawn_fd(&s, 0), -ENOBUFS);
}

static void spawn_sets_directory_environment_and_session(void **state)
{
	struct spawn s = SPAWN_INIT;
	char *envp[] = { (char *)"A=b", (char *)"PATH=/usr/bin:/bin", NULL };
	_cleanup_(freep) char *out = NULL;
	struct err e = { 0 };

	s.cwd = "/usr";
	s.envp = envp;
	s.new_session = true;
	assert_int_equal(
		run_sh(&s,
		       "pwd; echo $A${HOME-none}; ps -o sid= -p $$ | tr -d ' ' >/dev/null;"
		       "read -r pid x y z a sid b </proc/self/stat; [ $sid = $$ ] && echo own",
		       60000, &out, &e),
		0);
	assert_string_equal(out, "/usr\nbnone\nown\n");
}

/*
 * Starts a sleeping grandchild through a process that ends when told to. Returns the
 * grandchild's pidfd after that process has gone.
 */
static int orphan(bool survive)
{
	int say[2];
	int hold[2];
	pid_t middle;
	pid_t pid = 0;
	int pidfd;

	assert_int_equal(pipe2(say, O_CLOEXEC), 0);
	assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
	middle = fork();
	assert_true(middle >= 0);
	if (middle == 0) {
		struct spawn s = SPAWN_INIT;
		char *argv[] = { (char *)"sleep", (char *)"100", NULL };
		char byte;

		close(hold[1]);
		s.path = "sleep";
		s.argv = argv;
		s.survive = survive;
		if (spawn_start(&s, &pid, NULL) < 0)
			_exit(1);
		(void)!write(say[1], &pid, sizeof(pid));
		(void)!read(hold[0], &byte, 1);
		_exit(0);
	}
	close(say[1]);
	assert_int_equal(fd_read_full(say[0], &pid, sizeof(pid)), sizeof(pid));
	pidfd = pidfd_open(pid, 0);
	assert_true(pidfd >= 0);
	close(say[0]);
	close(hold[0]);
	close(hold[1]);
	assert_int_equal(waitpid(middle, NULL, 0), middle);
	return pidfd;
}

static void spawn_dies_with_its_parent(void **state)
{
	_cleanup_(close_fdp) int pidfd = orphan(/* survive= */ false);
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	assert_int_equal(poll(&p, 1, 60000), 1);
}

static void spawn_survives_when_told_to(void **state)
{
	_cleanup_(close_fdp) int pidfd = orphan(/* survive= */ true);
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	assert_int_equal(poll(&p, 1, 100), 0);
	assert_int_equal(pidfd_send_signal(pidfd, SIGKILL, NULL, 0), 0);
	assert_int_equal(poll(&p, 1, 60000), 1);
}

/* Descriptor of a new network namespace; we stay where we are. */
static int new_netns(void)
{
	int before = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int fd;

	assert_int_equal(unshare(CLONE_NEWNET), 0);
	fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(setns(before, CLONE_NEWNET), 0);
	close(before);
	return fd;
}

static void spawn_lives_in_a_network_namespace(void **state)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_(freep) char *ours = NULL;
	_cleanup_(freep) char *theirs = NULL;

	if (geteuid() != 0)
		skip();
	assert_int_equal(run_sh(&s, "readlink /proc/self/ns/net", 60000, &ours, NULL), 0);
	s.netns_fd = new_netns();
	assert_int_equal(run_sh(&s, "readlink /proc/self/ns/net", 60000, &theirs, NULL), 0);
	assert_string_not_equal(ours, theirs);
	close(s.netns_fd);
	/* What isn't one. */
	s.netns_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(run_sh(&s, "true", 60000, NULL, NULL), -EINVAL);
	close(s.netns_fd);
}

static void spawn_resets_signals(void **state)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_(freep) char *out = NULL;
	struct err e = { 0 };
	sigset_t set;
	sigset_t old;

	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, &old);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(
		run_sh(&s, "exec grep -E 'Sig(Blk|Ign)' /proc/self/status", 10000, &out, &e), 0);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &old, NULL);
	assert_string_equal(out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

static void find_program_searches_the_path(void **state)
{
	_cleanup_(freep) char *path = NULL;

	assert_int_equal(find_program("sh", &path), 0);
	assert_int_equal(path[0], '/');
	free(TAKE_PTR(path));
	assert_int_equal(find_program("/bin/sh", &path), 0);
	assert_string_equal(path, "/bin/sh");
	free(TAKE_PTR(path));
	assert_int_equal(find_program("podvm-no-such-program", &path), -ENOENT);
	assert_int_equal(find_program("/no/such/program", &path), -ENOENT);
}

#define dir_test(fn) cmocka_unit_test_setup_teardown(fn, dir_setup, dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(err_message_is_built_from_the_inside_out),
		cmocka_unit_test(err_deepest_hint_and_stage_win),
		cmocka_unit_test(err_long_messages_are_cut),
		cmocka_unit_test(err_null_is_allowed),
		cmocka_unit_test(buf_is_a_queue_of_bytes),
		cmocka_unit_test(buf_keeps_its_limit),
		cmocka_unit_test(buf_holds_what_went_through),
		cmocka_unit_test(parse_u64_takes_whole_numbers_only),
		cmocka_unit_test(parse_size_takes_what_podman_takes),
		cmocka_unit_test(strings_are_owned_copies),
		cmocka_unit_test(strv_is_always_terminated),
		cmocka_unit_test(list_keeps_order_and_survives_removal),
		cmocka_unit_test(log_quote_shows_no_foreign_control_characters),
		dir_test(log_writes_one_line_per_record),
		dir_test(file_read_stops_at_its_limit),
		dir_test(file_read_takes_big_files),
		dir_test(file_replace_replaces_as_a_whole),
		dir_test(file_write_needs_an_existing_file),
		dir_test(mkdir_p_makes_parents),
		dir_test(rm_rf_removes_trees_and_follows_no_links),
		dir_test(rm_rf_leaves_what_is_mounted),
		dir_test(open_in_root_never_leaves_the_root),
		cmocka_unit_test(random_hex_is_hex),
		cmocka_unit_test(spawn_run_collects_output),
		cmocka_unit_test(spawn_run_tells_the_last_line_of_a_failure),
		cmocka_unit_test(spawn_run_keeps_64_kib_of_output),
		cmocka_unit_test(spawn_run_kills_at_the_deadline),
		dir_test(spawn_start_reports_a_failed_exec),
		cmocka_unit_test(spawn_gives_exactly_the_descriptors),
		cmocka_unit_test(spawn_as_another_user),
		cmocka_unit_test(spawn_puts_descriptors_at_any_number),
		cmocka_unit_test(spawn_refuses_too_many_descriptors),
		cmocka_unit_test(spawn_sets_directory_environment_and_session),
		cmocka_unit_test(spawn_dies_with_its_parent),
		cmocka_unit_test(spawn_survives_when_told_to),
		cmocka_unit_test(spawn_lives_in_a_network_namespace),
		cmocka_unit_test(spawn_resets_signals),
		cmocka_unit_test(find_program_searches_the_path),
	};

	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
