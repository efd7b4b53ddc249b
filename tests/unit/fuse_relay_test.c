/* SPDX-License-Identifier: Apache-2.0 */
/* The relay between a guest and virtiofsd: the test plays both, or a real daemon is there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "fake_virtiofsd.h"
#include "storage/fuse_relay.h"
#include "storage/vhost_fs.h"
#include "storage/virtiofs.h"

#define DEADLINE_MS 60000

struct fixture {
	struct loop *loop;
	struct fuse_relay *relay;
	int ours; /* the relay's end of the channel */
	int guest;
	struct fake_fs fs;
	bool ready;
	bool broken;
	struct err e;
};

static void on_ready(void *data)
{
	struct fixture *f = data;

	assert_false(f->ready);
	f->ready = true;
}

static void on_broken(void *data, const struct err *e)
{
	struct fixture *f = data;

	assert_false(f->broken);
	f->broken = true;
	f->e = *e;
}

static const struct fuse_relay_handlers handlers = { on_ready, on_broken };

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fds[2];

	*state = f;
	f->fs = FAKE_FS(-1);
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	f->ours = fds[0];
	f->guest = fds[1];
	assert_int_equal(fd_nonblock(f->ours), 0);
	assert_int_equal(fd_nonblock(f->guest), 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fuse_relay_free(f->relay);
	fake_fs_done(&f->fs);
	close_fdp(&f->ours);
	close_fdp(&f->guest);
	loop_free(f->loop);
	free(f);
	return 0;
}

/* Turns of the loop until something has happened; the daemon plays its part. */
static void await(struct fixture *f, const bool *what)
{
	uint64_t end = clock_ms() + DEADLINE_MS;
	bool never = false;

	while (!*what && clock_ms() < end) {
		while (fake_fs_hear(&f->fs))
			;
		(void)loop_run_until(f->loop, &never, 1);
	}
	assert_true(*what);
}

static void begin(struct fixture *f, uint64_t timeout_ms)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	f->fs.sock = fds[1];
	assert_int_equal(
		fuse_relay_new(f->loop, f->ours, fds[0], timeout_ms, &handlers, f, &f->relay), 0);
}

static void serve(struct fixture *f)
{
	begin(f, DEADLINE_MS);
	await(f, &f->ready);
}

static void ask(struct fixture *f, uint32_t opcode, uint64_t unique, const void *body, size_t len)
{
	struct fuse_in_header in = {
		.len = (uint32_t)(sizeof(in) + len),
		.opcode = opcode,
		.unique = unique,
		.nodeid = FUSE_ROOT_ID,
	};

	assert_int_equal(write(f->guest, &in, sizeof(in)), sizeof(in));
	if (len > 0)
		assert_int_equal(write(f->guest, body, len), len);
}

/* What the guest gets: a whole reply. */
static size_t hear(struct fixture *f, uint8_t *reply, size_t size)
{
	uint64_t end = clock_ms() + DEADLINE_MS;
	struct fuse_out_header out = { .len = sizeof(out) };
	bool never = false;
	size_t got = 0;

	while (got < out.len && clock_ms() < end) {
		ssize_t n = read(f->guest, reply + got, MIN(out.len, size) - got);

		if (n > 0)
			got += (size_t)n;
		if (got >= sizeof(out))
			memcpy(&out, reply, sizeof(out));
		assert_true(out.len <= size);
		if (n <= 0)
			(void)loop_run_until(f->loop, &never, 1);
	}
	assert_int_equal(got, out.len);
	return got;
}

static void hear_error(struct fixture *f, uint64_t unique, int error)
{
	struct fuse_out_header out;

	assert_int_equal(hear(f, (uint8_t *)&out, sizeof(out)), sizeof(out));
	assert_int_equal(out.unique, unique);
	assert_int_equal(out.error, error);
}

static struct fake_request taken(struct fixture *f)
{
	uint64_t end = clock_ms() + DEADLINE_MS;
	struct fake_request r = { 0 };
	bool never = false;

	while (!fake_fs_take(&f->fs, &r) && clock_ms() < end)
		(void)loop_run_until(f->loop, &never, 1);
	assert_non_null(r.data);
	return r;
}

static void reply(struct fixture *f, const struct fake_request *r, int error, const char *text)
{
	struct fuse_out_header out = { .len = (uint32_t)(sizeof(out) + strlen(text)),
				       .error = error };

	memcpy(&out.unique, r->data + offsetof(struct fuse_in_header, unique), sizeof(out.unique));
	assert_true(out.len <= r->room);
	memcpy(r->reply, &out, sizeof(out));
	memcpy(r->reply + sizeof(out), text, strlen(text));
	fake_fs_finish(&f->fs, r->id, out.len);
}

static void test_requests_and_replies(void **state)
{
	struct fixture *f = *state;
	struct fake_request one;
	struct fake_request two;
	uint8_t got[64];

	serve(f);
	ask(f, FUSE_LOOKUP, 2, "one", 4);
	ask(f, FUSE_LOOKUP, 4, "two", 4);
	one = taken(f);
	two = taken(f);
	assert_int_equal(one.len, sizeof(struct fuse_in_header) + 4);
	assert_string_equal((char *)one.data + sizeof(struct fuse_in_header), "one");
	assert_string_equal((char *)two.data + sizeof(struct fuse_in_header), "two");
	/* In the order of the daemon. */
	reply(f, &two, 0, "second");
	assert_int_equal(hear(f, got, sizeof(got)), 22);
	assert_memory_equal(got + 16, "second", 6);
	reply(f, &one, -ENOENT, "");
	hear_error(f, 2, -ENOENT);
}

static void test_nothing_is_read_before_the_daemon_is_ready(void **state)
{
	struct fixture *f = *state;
	struct fake_request r;

	ask(f, FUSE_STATFS, 2, NULL, 0);
	serve(f);
	r = taken(f);
	reply(f, &r, -EIO, "");
	hear_error(f, 2, -EIO);
}

/* What has no reply makes room again. */
static void test_forget(void **state)
{
	struct fixture *f = *state;
	const struct fuse_forget_in body = { .nlookup = 1 };
	struct fake_request r;

	serve(f);
	for (uint64_t i = 0; i < 3 * VHOST_FS_SLOTS; i++) {
		ask(f, FUSE_FORGET, i, &body, sizeof(body));
		r = taken(f);
		fake_fs_finish(&f->fs, r.id, 0);
	}
	ask(f, FUSE_STATFS, 2, NULL, 0);
	r = taken(f);
	reply(f, &r, 0, "");
	hear_error(f, 2, 0);
}

static void test_no_more_than_the_slots_are_under_way(void **state)
{
	struct fake_request r[VHOST_FS_SLOTS + 1];
	struct fixture *f = *state;
	bool never = false;

	serve(f);
	for (uint64_t i = 0; i <= VHOST_FS_SLOTS; i++)
		ask(f, FUSE_STATFS, 2 * i, NULL, 0);
	for (size_t i = 0; i < VHOST_FS_SLOTS; i++)
		r[i] = taken(f);
	(void)loop_run_until(f->loop, &never, 20);
	assert_false(fake_fs_take(&f->fs, &r[VHOST_FS_SLOTS]));
	reply(f, &r[3], 0, "");
	hear_error(f, 6, 0);
	r[VHOST_FS_SLOTS] = taken(f);
	assert_int_equal(r[VHOST_FS_SLOTS].id, r[3].id);
}

/* A daemon fills what it's given when it reads, so that's what was asked for. */
static void test_room_for_reading(void **state)
{
	struct fixture *f = *state;
	const struct fuse_read_in read_in = { .size = 4096 };
	const struct fuse_read_in too_much = { .size = UINT32_MAX };
	struct fake_request r;

	serve(f);
	ask(f, FUSE_READ, 2, &read_in, sizeof(read_in));
	r = taken(f);
	assert_int_equal(r.room, sizeof(struct fuse_out_header) + 4096);
	ask(f, FUSE_READ, 4, &too_much, sizeof(too_much));
	r = taken(f);
	assert_true(r.room > VHOST_FS_MESSAGE_MAX);
	assert_true(r.reply + r.room <= f->fs.memory + f->fs.size);
}

static void test_longest_request(void **state)
{
	struct fixture *f = *state;
	size_t len = VHOST_FS_MESSAGE_MAX - sizeof(struct fuse_in_header);
	_cleanup_(freep) uint8_t *body = malloc(len);
	bool never = false;
	struct fake_request r;
	size_t sent = 0;
	struct fuse_in_header in = { .len = VHOST_FS_MESSAGE_MAX,
				     .opcode = FUSE_WRITE,
				     .unique = 8 };

	assert_non_null(body);
	for (size_t i = 0; i < len; i++)
		body[i] = (uint8_t)(i * 7);
	serve(f);
	assert_int_equal(write(f->guest, &in, sizeof(in)), sizeof(in));
	while (sent < len) {
		ssize_t n = write(f->guest, body + sent, len - sent);

		sent += n > 0 ? (size_t)n : 0;
		(void)loop_run_until(f->loop, &never, 1);
	}
	r = taken(f);
	assert_int_equal(r.len, VHOST_FS_MESSAGE_MAX);
	assert_memory_equal(r.data + sizeof(in), body, len);
	reply(f, &r, 0, "ok");
	assert_int_equal(hear(f, body, len), 18);
}

static void test_refused_here(void **state)
{
	static const uint32_t opcodes[] = { FUSE_INTERRUPT,    FUSE_NOTIFY_REPLY,
					    FUSE_SETUPMAPPING, FUSE_REMOVEMAPPING,
					    CUSE_INIT,	       0,
					    0x80000000 };
	struct fixture *f = *state;
	struct fake_request r;

	serve(f);
	for (size_t i = 0; i < ARRAY_SIZE(opcodes); i++) {
		ask(f, opcodes[i], 100 + i, "abcdefgh", 8);
		hear_error(f, 100 + i, -ENOSYS);
	}
	assert_false(fake_fs_take(&f->fs, &r));
}

static void test_guest_that_sends_nonsense(void **state)
{
	static const uint32_t lengths[] = { 0, sizeof(struct fuse_in_header) - 1,
					    VHOST_FS_MESSAGE_MAX + 1, UINT32_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		struct fuse_in_header in = { .len = lengths[i], .opcode = FUSE_LOOKUP };
		struct fixture *f = *state;

		serve(f);
		assert_int_equal(write(f->guest, &in, sizeof(in)), sizeof(in));
		await(f, &f->broken);
		assert_int_equal(f->e.code, -EPROTO);
		teardown(state);
		setup(state);
	}
}

static void test_daemon_that_answers_nonsense(void **state)
{
	static const struct {
		uint32_t id;
		uint32_t len;
	} used[] = { { 0, 15 }, { 0, 17 }, { 1, 16 }, { 2, 16 }, { 99999, 16 }, { 0, UINT32_MAX } };

	for (size_t i = 0; i < ARRAY_SIZE(used); i++) {
		struct fixture *f = *state;
		struct fuse_out_header out = { .len = sizeof(out) };
		struct fake_request r;

		serve(f);
		ask(f, FUSE_STATFS, 2, NULL, 0);
		r = taken(f);
		memcpy(r.reply, &out, sizeof(out));
		fake_fs_finish(&f->fs, used[i].id, used[i].len);
		await(f, &f->broken);
		assert_int_equal(f->e.code, -EPROTO);
		teardown(state);
		setup(state);
	}
}

static void test_daemon_that_goes(void **state)
{
	struct fixture *f = *state;

	serve(f);
	close(TAKE_FD(f->fs.sock));
	await(f, &f->broken);
	assert_non_null(strstr(f->e.msg, "virtiofsd"));
}

static void test_daemon_that_goes_at_once(void **state)
{
	struct fixture *f = *state;

	begin(f, DEADLINE_MS);
	close(TAKE_FD(f->fs.sock));
	await(f, &f->broken);
	assert_false(f->ready);
}

static void test_daemon_that_lacks_something(void **state)
{
	struct fixture *f = *state;

	begin(f, DEADLINE_MS);
	f->fs.features = UINT32_MAX;
	await(f, &f->broken);
	assert_int_equal(f->e.code, -EOPNOTSUPP);
}

static void test_daemon_that_does_not_answer(void **state)
{
	struct fixture *f = *state;

	begin(f, 20);
	assert_int_equal(loop_run_until(f->loop, &f->broken, DEADLINE_MS), 0);
	assert_int_equal(f->e.code, -ETIMEDOUT);
}

static void test_guest_that_goes(void **state)
{
	struct fixture *f = *state;

	serve(f);
	close(TAKE_FD(f->guest));
	await(f, &f->broken);
}

/* ---- the installed daemon ---- */

static uint64_t lookup(struct fixture *f, uint64_t parent, const char *name, int *error)
{
	struct fuse_in_header in = { .len = (uint32_t)(sizeof(in) + strlen(name) + 1),
				     .opcode = FUSE_LOOKUP,
				     .unique = 10,
				     .nodeid = parent };
	struct {
		struct fuse_out_header head;
		struct fuse_entry_out entry;
	} out = { 0 };

	assert_int_equal(write(f->guest, &in, sizeof(in)), sizeof(in));
	assert_int_equal(write(f->guest, name, strlen(name) + 1), strlen(name) + 1);
	(void)hear(f, (uint8_t *)&out, sizeof(out));
	*error = out.head.error;
	return out.entry.nodeid;
}

static void shake_hands(struct fixture *f)
{
	const struct fuse_init_in body = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		/* The daemon insists on what access control lists need. */
		.flags = FUSE_POSIX_ACL | FUSE_DONT_MASK | FUSE_SETXATTR_EXT
	};
	uint8_t out[128];

	ask(f, FUSE_INIT, 1, &body, sizeof(body));
	assert_int_equal(hear(f, out, sizeof(out)),
			 sizeof(struct fuse_out_header) + sizeof(struct fuse_init_out));
}

static void make_text(const char *dir, const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
}

/*
 * A guest that has been taken over says what it likes: no name leads out of the shared directory,
 * and what a link points to is the guest's to look up.
 */
static void test_real_daemon_and_names_that_lead_out(void **state)
{
	static const char *const names[] = { "../secret",   "..",	   ".", "a/../../secret",
					     "/etc/passwd", "link/secret", "" };
	char dir[] = "/tmp/podvm-relay-XXXXXX";
	struct fixture *f = *state;
	_cleanup_(close_fdp) int pidfd = -EBADF;
	char shared[64];
	char link[80];
	uint64_t node;
	int fd = -EBADF;
	int error;
	pid_t pid;

	assert_non_null(mkdtemp(dir));
	snprintf(shared, sizeof(shared), "%s/shared", dir);
	snprintf(link, sizeof(link), "%s/link", shared);
	assert_int_equal(mkdir(shared, 0700), 0);
	make_text(dir, "secret");
	make_text(shared, "file");
	assert_int_equal(symlink("..", link), 0);
	pidfd = virtiofs_spawn(shared, &pid, &fd, &f->e);
	if (pidfd < 0) {
		(void)rm_rf(AT_FDCWD, dir);
		skip();
	}
	assert_int_equal(fuse_relay_new(f->loop, f->ours, fd, DEADLINE_MS, &handlers, f, &f->relay),
			 0);
	await(f, &f->ready);
	shake_hands(f);
	assert_true(lookup(f, FUSE_ROOT_ID, "file", &error) > FUSE_ROOT_ID);
	assert_int_equal(error, 0);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		node = lookup(f, FUSE_ROOT_ID, names[i], &error);
		/* What is above the top is the top. */
		for (int up = 0; error == 0 && up < 3; up++) {
			(void)lookup(f, node, "secret", &error);
			assert_int_equal(error, -ENOENT);
			(void)lookup(f, node, "file", &error);
			assert_int_equal(error, 0);
			node = lookup(f, node, "..", &error);
		}
	}
	/* The link is an entry that nothing can be looked up in. */
	node = lookup(f, FUSE_ROOT_ID, "link", &error);
	assert_int_equal(error, 0);
	(void)lookup(f, node, "secret", &error);
	assert_int_not_equal(error, 0);
	/* A node that it never told. */
	(void)lookup(f, UINT64_MAX / 3, "file", &error);
	assert_int_not_equal(error, 0);
	assert_false(f->broken);
	fuse_relay_free(TAKE_PTR(f->relay));
	assert_in_range(spawn_wait(pidfd, DEADLINE_MS), 0, 1);
	assert_int_equal(rm_rf(AT_FDCWD, dir), 0);
}

/* A request about a node. Return: The error that the daemon answers */
static int try(struct fixture *f, uint32_t opcode, uint64_t node, const void *body, size_t len)
{
	struct fuse_in_header in = {
		.len = (uint32_t)(sizeof(in) + len), .opcode = opcode, .unique = 11, .nodeid = node
	};
	uint8_t reply[512];
	struct fuse_out_header out;

	assert_int_equal(write(f->guest, &in, sizeof(in)), sizeof(in));
	assert_int_equal(write(f->guest, body, len), len);
	(void)hear(f, reply, sizeof(reply));
	memcpy(&out, reply, sizeof(out));
	return out.error;
}

/* A fixed part, and names. */
#define NAMED(type, names)                \
	struct {                          \
		type in;                  \
		char text[sizeof(names)]; \
	}

static void write_to_readonly(struct fixture *f, uint64_t dir, uint64_t file)
{
	const struct fuse_open_in open_in = { .flags = O_RDWR };
	const struct fuse_setattr_in truncate_in = { .valid = FATTR_SIZE, .size = 0 };
	const struct fuse_setattr_in mode_in = { .valid = FATTR_MODE, .mode = S_IFREG | 0777 };
	const NAMED(struct fuse_mkdir_in, "new") mkdir_in = { { .mode = 0755 }, "new" };
	const NAMED(struct fuse_mknod_in, "new") mknod_in = { { .mode = S_IFREG | 0644 }, "new" };
	const NAMED(struct fuse_create_in, "new")
		create_in = { { .flags = O_CREAT | O_RDWR, .mode = 0644 }, "new" };
	const NAMED(struct fuse_rename_in, "file\0new")
		rename_in = { { .newdir = dir }, "file\0new" };
	const NAMED(struct fuse_link_in, "new") link_in = { { .oldnodeid = file }, "new" };

	assert_int_equal(try(f, FUSE_OPEN, file, &open_in, sizeof(open_in)), -EROFS);
	assert_int_equal(try(f, FUSE_SETATTR, file, &truncate_in, sizeof(truncate_in)), -EROFS);
	assert_int_equal(try(f, FUSE_SETATTR, file, &mode_in, sizeof(mode_in)), -EROFS);
	assert_int_equal(try(f, FUSE_UNLINK, dir, "file", sizeof("file")), -EROFS);
	assert_int_equal(try(f, FUSE_SYMLINK, dir, "new\0to", sizeof("new\0to")), -EROFS);
	assert_int_equal(try(f, FUSE_MKDIR, dir, &mkdir_in, sizeof(mkdir_in)), -EROFS);
	assert_int_equal(try(f, FUSE_MKNOD, dir, &mknod_in, sizeof(mknod_in)), -EROFS);
	assert_int_equal(try(f, FUSE_CREATE, dir, &create_in, sizeof(create_in)), -EROFS);
	assert_int_equal(try(f, FUSE_RENAME, dir, &rename_in, sizeof(rename_in)), -EROFS);
	assert_int_equal(try(f, FUSE_LINK, dir, &link_in, sizeof(link_in)), -EROFS);
}

/* It's the host that refuses: what the guest's own kernel would do doesn't matter. */
static void test_real_daemon_and_what_is_read_only(void **state)
{
	char dir[] = "/tmp/podvm-relay-XXXXXX";
	struct fixture *f = *state;
	_cleanup_(close_fdp) int pidfd = -EBADF;
	char shared[64];
	char source[64];
	uint64_t node;
	int fd = -EBADF;
	int error;
	pid_t pid;

	/* For this process alone, which ends with the tests. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		skip();
	assert_non_null(mkdtemp(dir));
	snprintf(shared, sizeof(shared), "%s/shared", dir);
	snprintf(source, sizeof(source), "%s/source", dir);
	assert_int_equal(mkdir(shared, 0700), 0);
	assert_int_equal(mkdir(source, 0700), 0);
	make_text(source, "file");
	if (virtiofs_share_add(shared, source, VIRTIOFS_READONLY_ALL, "ro", &f->e) < 0)
		fail_msg("%s", f->e.msg);
	pidfd = virtiofs_spawn(shared, &pid, &fd, &f->e);
	if (pidfd >= 0) {
		assert_int_equal(
			fuse_relay_new(f->loop, f->ours, fd, DEADLINE_MS, &handlers, f, &f->relay),
			0);
		await(f, &f->ready);
		shake_hands(f);
		node = lookup(f, FUSE_ROOT_ID, "ro", &error);
		assert_int_equal(error, 0);
		write_to_readonly(f, node, lookup(f, node, "file", &error));
		assert_false(f->broken);
		fuse_relay_free(TAKE_PTR(f->relay));
		assert_in_range(spawn_wait(pidfd, DEADLINE_MS), 0, 1);
	}
	snprintf(shared, sizeof(shared), "%s/shared/ro", dir);
	assert_int_equal(umount2(shared, MNT_DETACH), 0);
	assert_int_equal(rm_rf(AT_FDCWD, dir), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_requests_and_replies),
		T(test_nothing_is_read_before_the_daemon_is_ready),
		T(test_forget),
		T(test_no_more_than_the_slots_are_under_way),
		T(test_room_for_reading),
		T(test_longest_request),
		T(test_refused_here),
		T(test_guest_that_sends_nonsense),
		T(test_daemon_that_answers_nonsense),
		T(test_daemon_that_goes),
		T(test_daemon_that_goes_at_once),
		T(test_daemon_that_lacks_something),
		T(test_daemon_that_does_not_answer),
		T(test_guest_that_goes),
		T(test_real_daemon_and_names_that_lead_out),
		T(test_real_daemon_and_what_is_read_only),
	};

	return cmocka_run_group_tests_name("fuse_relay", tests, NULL, NULL);
}
